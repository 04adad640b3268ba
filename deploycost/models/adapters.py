"""Tuned classifiers and the adapter folder: what each method adds to a base model, and how it is kept.

The folder holds `recipe.json`, PEFT's own files where there is a low-rank part, `prompt.safetensors` where there are
virtual tokens, and `weights.safetensors` for what else was trained. Weights are safetensors only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from bitsandbytes.nn.modules import Linear4bit
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from deploycost.errors import UserError
from deploycost.experiment import Frozen, LoraSpec
from deploycost.models.base import BaseModel, find_base, load_classifier
from deploycost.models.prompts import VirtualTokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_RECIPE, _PROMPT, _WEIGHTS = "recipe.json", "prompt.safetensors", "weights.safetensors"


class Recipe(Frozen):
    """What a method does to a base model. Tuning follows it, exporting undoes it; they meet in this file."""

    base_model: str
    label_names: tuple[str, ...]
    whole_body: bool = False
    quantised: bool = False
    lora: LoraSpec | None = None
    virtual_tokens: int = 0

    def text_tokens(self, base: BaseModel, max_tokens: int) -> int:
        """How many tokens of a text are fed: those asked for, as far as positions are left beside virtual tokens."""
        return min(max_tokens, base.max_positions - self.virtual_tokens)


@dataclass
class Output:
    """What a classifier answers, in the shape that a transformers `Trainer` reads."""

    loss: Tensor | None
    logits: Tensor

    def __getitem__(self, key: str | int | slice) -> Any:  # noqa: ANN401 - Trainer reads by name and by slice
        present = {"loss": self.loss, "logits": self.logits} if self.loss is not None else {"logits": self.logits}
        return present[key] if isinstance(key, str) else tuple(present.values())[key]


class TunedClassifier(nn.Module):
    """A sequence classifier, with or without adapters, with or without virtual tokens."""

    def __init__(self, model: PreTrainedModel | PeftModel, prompt: VirtualTokens | None) -> None:
        super().__init__()
        self.model = model
        self.prompt = prompt

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None) -> Output:
        """Logits [batch, labels] for token ids [batch, tokens]; with `labels`, the mean cross-entropy too."""
        if self.prompt is None:
            logits = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        else:
            embedded, mask = self.prompt(self.model.get_input_embeddings()(input_ids), attention_mask)
            logits = self.model(inputs_embeds=embedded, attention_mask=mask).logits
        loss = None if labels is None else nn.functional.cross_entropy(logits.float(), labels)
        return Output(loss, logits)


def build(base: BaseModel, recipe: Recipe) -> TunedClassifier:
    """A fresh classifier that a recipe can train: exactly the parameters it names ask for gradients.

    Raises:
        UserError: the recipe does not fit the base model.
    """
    model: Any = load_classifier(base, recipe.label_names, quantised=recipe.quantised)
    _check_fit(base, model, recipe)
    model.requires_grad_(recipe.whole_body)
    prompt = None
    if recipe.virtual_tokens:
        embeddings = model.get_input_embeddings()
        prompt = VirtualTokens(recipe.virtual_tokens, embeddings.embedding_dim)
        prompt.draw_from(embeddings)
    if recipe.lora:
        model = get_peft_model(model, _lora_config(base, recipe.lora))
    elif not recipe.whole_body:
        for name in base.family.head:
            for module in _named(model, name):
                module.requires_grad_(True)
    return TunedClassifier(model, prompt)


def save(classifier: TunedClassifier, recipe: Recipe, folder: Path) -> None:
    """Writes all that was trained, and the recipe, into an existing folder."""
    if isinstance(classifier.model, PeftModel):
        # Else the local path that the base was read from would be kept, which means nothing elsewhere.
        classifier.model.peft_config["default"].base_model_name_or_path = recipe.base_model
        # No method changes the vocabulary; asked to find out, PEFT would look for the base model on the hub.
        classifier.model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
    else:
        trained = {n: p.detach().contiguous() for n, p in classifier.model.named_parameters() if p.requires_grad}
        save_file(trained, folder / _WEIGHTS)
    if classifier.prompt is not None:
        save_file({"vectors": classifier.prompt.vectors.detach().contiguous()}, folder / _PROMPT)
    (folder / _RECIPE).write_text(recipe.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_recipe(folder: Path) -> Recipe:
    """The recipe in an adapter folder.

    Raises:
        UserError: there is none, or it is damaged.
    """
    try:
        return Recipe.model_validate_json((folder / _RECIPE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(folder, error) from None


def load(folder: Path) -> TunedClassifier:
    """The classifier as it was trained: same base, same precision, same adapters, same logits.

    Raises:
        UserError: the folder is damaged, or the base model cannot be had.
    """
    recipe = read_recipe(folder)
    model = load_classifier(find_base(recipe.base_model), recipe.label_names, quantised=recipe.quantised)
    return _attach(model, recipe, folder)


def load_merged(folder: Path) -> TunedClassifier:
    """The classifier as one plain fp32 network: base dequantised, low-rank parts folded in, virtual tokens constant.

    Dequantising first matters: an adapter trained on nf4 weights fits those, not the weights they were rounded from.

    Raises:
        UserError: the folder is damaged, or the base model cannot be had.
    """
    recipe = read_recipe(folder)
    model: Any = load_classifier(find_base(recipe.base_model), recipe.label_names, quantised=recipe.quantised)
    if recipe.quantised:
        model = model.dequantize().float()
    classifier = _attach(model, recipe, folder)
    if isinstance(classifier.model, PeftModel):
        merged: Any = classifier.model.merge_and_unload(safe_merge=True)
        classifier = TunedClassifier(merged, classifier.prompt)
    # Where there is a GPU, 4-bit layers were loaded onto it; graphs are traced on the CPU.
    return classifier.requires_grad_(False).eval().cpu()


def set_compute_dtype(classifier: nn.Module, dtype: torch.dtype) -> None:
    """The precision in which 4-bit layers multiply: fast while training, exact while judging."""
    for module in classifier.modules():
        if isinstance(module, Linear4bit):
            module.compute_dtype = dtype
            # Otherwise the layer would settle on the dtype of the first input it sees.
            module.compute_type_is_set = True


def _attach(model: Any, recipe: Recipe, folder: Path) -> TunedClassifier:  # noqa: ANN401 - a transformers model
    prompt = None
    try:
        if recipe.lora:
            model = PeftModel.from_pretrained(model, str(folder))
        else:
            _load_exactly(model, load_file(folder / _WEIGHTS), folder)
        if recipe.virtual_tokens:
            prompt = VirtualTokens(recipe.virtual_tokens, model.get_input_embeddings().embedding_dim)
            _load_exactly(prompt, load_file(folder / _PROMPT), folder)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise _damaged(folder, error) from None
    return TunedClassifier(model, prompt).eval()


def _damaged(folder: Path, error: Exception) -> UserError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return UserError(f"{folder} is not a whole adapter folder: {reason}; delete it and build again")


def _load_exactly(module: nn.Module, weights: dict[str, Tensor], folder: Path) -> None:
    unexpected = module.load_state_dict(weights, strict=False).unexpected_keys
    if unexpected:
        raise UserError(f"{folder} does not fit its base model: unexpected weights {', '.join(unexpected[:3])}")


def _lora_config(base: BaseModel, spec: LoraSpec) -> LoraConfig:
    return LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=spec.rank,
        lora_alpha=spec.scaling_alpha,
        lora_dropout=spec.dropout,
        target_modules=list(base.family.attention),
        modules_to_save=list(base.family.head),
    )


def _check_fit(base: BaseModel, model: PreTrainedModel, recipe: Recipe) -> None:
    width = model.config.hidden_size
    if recipe.lora and recipe.lora.rank > width:
        raise UserError(
            f"rank {recipe.lora.rank} is above the layer width {width} of {base.name!r}; give --rank {width // 2}"
        )
    if recipe.virtual_tokens > base.max_positions - 8:
        raise UserError(
            f"{recipe.virtual_tokens} virtual tokens leave no room for a text in the {base.max_positions} positions "
            f"of {base.name!r}; give at most {base.max_positions - 8}"
        )


def _named(model: nn.Module, name: str) -> list[nn.Module]:
    return [module for path, module in model.named_modules() if path.split(".")[-1] == name]
