"""Adapter folders: how what was trained is kept, opened again, and folded into one plain network.

The folder holds `recipe.json`; PEFT's own files where adapters are in its keeping, else `weights.safetensors`; and
`prompt.safetensors` for virtual tokens in the input, or for keys and values trained along with low-rank adapters.
Weights are safetensors only.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from deploycost.errors import UserError
from deploycost.models.base import find_base, load_classifier
from deploycost.models.classifier import TunedClassifier, attach_prompts
from deploycost.models.deep_prompts import DeepPrompts
from deploycost.models.peft_methods import PartTuner, register
from deploycost.models.prompts import VirtualTokens
from deploycost.models.recipe import Recipe

_RECIPE, _PROMPT, _WEIGHTS = "recipe.json", "prompt.safetensors", "weights.safetensors"


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
    elif isinstance(classifier.attached, DeepPrompts):
        save_file(classifier.attached.baked(), folder / _PROMPT)
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
    model = load_classifier(find_base(recipe.base_model), recipe.label_names, bits=recipe.bits)
    return _attach(model, recipe, folder)


def load_merged(folder: Path) -> TunedClassifier:
    """The classifier as one plain fp32 network: base dequantised, low-rank parts folded in, the others constant.

    Dequantising first matters: an adapter trained on nf4 weights fits those, not the weights they were rounded from.

    Raises:
        UserError: the folder is damaged, or the base model cannot be had.
    """
    recipe = read_recipe(folder)
    model: Any = load_classifier(find_base(recipe.base_model), recipe.label_names, bits=recipe.bits)
    if recipe.bits is not None:
        model = model.dequantize().float()
    classifier = _attach(model, recipe, folder)
    if isinstance(classifier.model, PeftModel):
        tuner: Any = classifier.model.base_model
        if isinstance(tuner, PartTuner):
            classifier = TunedClassifier(tuner.detach_head(), attached=tuner.part)
        else:
            merged: Any = classifier.model.merge_and_unload(safe_merge=True)
            classifier = TunedClassifier(merged, classifier.prompt, classifier.attached)
    # Where there is a GPU, 4-bit layers were loaded onto it; graphs are traced on the CPU.
    return classifier.requires_grad_(False).eval().cpu()


def _attach(model: Any, recipe: Recipe, folder: Path) -> TunedClassifier:  # noqa: ANN401 - a transformers model
    prompt = None
    # A network that made keys and values while training has done its work.
    attached = attach_prompts(model, recipe.model_copy(update={"prefix": None}))
    try:
        if attached is not None:
            _load_exactly(attached, load_file(folder / _PROMPT), folder)
        elif recipe.prompt is not None and recipe.input_tokens:
            vectors = torch.empty(recipe.input_tokens, model.config.hidden_size, device=model.device)
            prompt = VirtualTokens(vectors)
            _load_exactly(prompt, load_file(folder / _PROMPT), folder)
        if recipe.in_peft:
            model = _open_adapters(model, folder)
        else:
            _load_exactly(model, load_file(folder / _WEIGHTS), folder, _trained_names(model, recipe))
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise _damaged(folder, error) from None
    return TunedClassifier(model, prompt, attached).eval()


def _open_adapters(model: Any, folder: Path) -> PeftModel:  # noqa: ANN401 - a transformers model
    register()
    with warnings.catch_warnings():
        # Said of AdaLoRA's ranks, which PEFT reads once before it has cut the adapters to them, and heeds after.
        warnings.filterwarnings("ignore", message="The following rank_pattern keys", category=RuntimeWarning)
        try:
            opened = PeftModel.from_pretrained(model, str(folder))
        except KeyError as error:  # of the trained head; what else is missing PEFT leaves as it was drawn
            raise ValueError(f"weights are missing: {error.args[0]}") from None
    kept = set(load_file(folder / SAFETENSORS_WEIGHTS_NAME))
    _require_all(set(get_peft_model_state_dict(opened, save_embedding_layers=False)), kept, folder)
    return opened


def _trained_names(model: Any, recipe: Recipe) -> set[str]:  # noqa: ANN401 - a transformers model
    """The parameters that a method without adapters in PEFT's keeping trains: all, or those of the head."""
    head = set(find_base(recipe.base_model).family.head)
    return {name for name, _ in model.named_parameters() if recipe.whole_body or set(name.split(".")) & head}


def _damaged(folder: Path, error: Exception) -> UserError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return UserError(f"{folder} is not a whole adapter folder: {reason}; delete it and build again")


def _load_exactly(
    module: nn.Module, weights: dict[str, Tensor], folder: Path, expected: set[str] | None = None
) -> None:
    """Loads weights that must be those `expected`, or without that all that the module has."""
    unexpected = module.load_state_dict(weights, strict=False).unexpected_keys
    if unexpected:
        raise UserError(f"{folder} does not fit its base model: unexpected weights {', '.join(unexpected[:3])}")
    _require_all(expected if expected is not None else set(module.state_dict()), set(weights), folder)


def _require_all(expected: set[str], kept: set[str], folder: Path) -> None:
    if missing := sorted(expected - kept):
        raise _damaged(folder, ValueError(f"weights are missing: {', '.join(missing[:3])}"))
