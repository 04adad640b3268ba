"""Tuned classifiers: a base model with what a recipe adds to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from bitsandbytes.nn.modules import Linear4bit
from peft import PeftConfig, PeftModel, TaskType, get_peft_model
from torch import Tensor, nn

from deploycost.errors import UserError
from deploycost.layer_choice import resolve_layers
from deploycost.method_fit import LEAST_TEXT_TOKENS
from deploycost.models.base import BaseModel, load_classifier
from deploycost.models.bottlenecks import Bottlenecks
from deploycost.models.deep_prompts import DeepPrompts
from deploycost.models.low_rank import (
    low_rank_config,
    orthogonality_penalty,
    rank_layers,
    singular_values,
    start_orthonormal,
)
from deploycost.models.peft_methods import BottleneckConfig, DeepPromptConfig, register
from deploycost.models.prompts import VirtualTokens, start_vectors
from deploycost.models.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass
class Output:
    """What a classifier answers, in the shape that a transformers `Trainer` reads."""

    loss: Tensor | None
    logits: Tensor

    def __getitem__(self, key: str | int | slice) -> Any:  # noqa: ANN401 - Trainer reads by name and by slice
        present = {"loss": self.loss, "logits": self.logits} if self.loss is not None else {"logits": self.logits}
        return present[key] if isinstance(key, str) else tuple(present.values())[key]


class TunedClassifier(nn.Module):
    """A sequence classifier with what a method adds: adapters inside `model`, or parts beside it.

    `prompt` are virtual tokens in the input; `attached` is a part that hooks tie to the model, where PEFT does not
    hold it: keys and values trained along with low-rank adapters, or whatever is left to serve once merged.
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        prompt: VirtualTokens | None = None,
        attached: DeepPrompts | Bottlenecks | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.prompt = prompt
        self.attached = attached
        self._rank_layers = rank_layers(model)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None) -> Output:
        """Logits [batch, labels] for token ids [batch, tokens]; with `labels`, the loss too.

        The loss is the mean cross-entropy; in training, adapters of allocated rank add their penalty to it.
        """
        if self.prompt is None:
            logits = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        else:
            embedded, mask = self.prompt(self.model.get_input_embeddings()(input_ids), attention_mask)
            logits = self.model(inputs_embeds=embedded, attention_mask=mask).logits
        if labels is None:
            return Output(None, logits)
        loss = nn.functional.cross_entropy(logits.float(), labels)
        if self.training and self._rank_layers:
            loss = loss + orthogonality_penalty(self._rank_layers)
        return Output(loss, logits)

    def checkpoint_activations(self) -> None:
        """Lets training keep only what goes into each layer, and run the layer anew on the way back."""
        model: Any = self.model
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})

    def prompt_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters that train at the prompt's rate: input vectors, keys and values, the network behind them."""
        for module in self.modules():
            if isinstance(module, VirtualTokens | DeepPrompts):
                yield from (parameter for parameter in module.parameters() if parameter.requires_grad)

    def singular_values(self) -> list[nn.Parameter]:
        """Those of adapters of allocated rank, which train at a rate of their own; none in other methods."""
        return singular_values(self._rank_layers)


def build(base: BaseModel, recipe: Recipe) -> TunedClassifier:
    """A fresh classifier that a recipe can train: exactly the parameters it names ask for gradients.

    Raises:
        UserError: the recipe does not fit the base model.
    """
    _check_bits(base, recipe)
    model: Any = load_classifier(base, recipe.label_names, bits=recipe.bits)
    _check_fit(base, model, recipe)
    model.requires_grad_(recipe.whole_body)
    vectors = start_vectors(base, recipe, model.get_input_embeddings()) if recipe.prompt else None
    prompt = VirtualTokens(vectors) if vectors is not None and recipe.input_tokens else None
    attached = attach_prompts(model, recipe)
    wrapped = wrap(base, model, recipe)
    if wrapped is None and not recipe.whole_body:
        for name, module in model.named_modules():
            if name.rpartition(".")[2] in base.family.head:
                module.requires_grad_(True)
    start_orthonormal(wrapped or model)
    classifier = TunedClassifier(wrapped or model, prompt, attached)
    if vectors is not None:
        for module in classifier.modules():
            if isinstance(module, DeepPrompts):
                module.start_from(model, vectors, base.max_positions)
    return classifier


def set_compute_dtype(classifier: nn.Module, dtype: torch.dtype) -> None:
    """The precision in which 4-bit layers multiply: fast while training, exact while judging.

    8-bit layers take that of autocast, or of what they are given.
    """
    for module in classifier.modules():
        if isinstance(module, Linear4bit):
            module.compute_dtype = dtype
            # Otherwise the layer would settle on the dtype of the first input it sees.
            module.compute_type_is_set = True


def attach_prompts(model: Any, recipe: Recipe) -> DeepPrompts | None:  # noqa: ANN401 - a transformers model
    """Keys and values trained along with low-rank adapters, which PEFT cannot hold beside them; else None."""
    if recipe.lora is None or recipe.prompt is None or recipe.prompt.layers is None:
        return None
    register()
    return _deep_prompt_config(model, recipe, recipe.prompt.layers).make_part(model).to(model.device)


def wrap(base: BaseModel, model: Any, recipe: Recipe) -> PeftModel | None:  # noqa: ANN401 - a transformers model
    """The model with the recipe's adapters and trained head in PEFT's keeping; None where there are none."""
    register()
    config: PeftConfig
    if recipe.lora is not None:
        config = low_rank_config(base, model, recipe, recipe.lora)
    elif recipe.adapter is not None:
        config = BottleneckConfig(
            task_type=TaskType.SEQ_CLS,
            placement=recipe.adapter.placement,
            reduction_factor=recipe.adapter.reduction_factor,
            modules_to_save=list(base.family.head),
        )
    elif recipe.prompt is not None and recipe.prompt.layers is not None:
        config = _deep_prompt_config(model, recipe, recipe.prompt.layers)
        config.modules_to_save = list(base.family.head)
    else:
        return None
    return get_peft_model(model, config)  # pyright: ignore[reportReturnType] - never PEFT's mixed kind


def _deep_prompt_config(model: PreTrainedModel, recipe: Recipe, layers: str) -> DeepPromptConfig:
    assert recipe.prompt is not None, "asked for only where there is a prompt"  # noqa: S101 - for the types
    return DeepPromptConfig(
        task_type=TaskType.SEQ_CLS,
        layers=list(resolve_layers(layers, model.config.num_hidden_layers)),
        virtual_tokens=recipe.prompt.virtual_tokens,
        hidden=recipe.prefix.bottleneck_width if recipe.prefix is not None else None,
    )


def _check_bits(base: BaseModel, recipe: Recipe) -> None:
    if recipe.whole_body and recipe.bits is not None:
        raise UserError(
            f"weights of {base.name!r} in {recipe.bits} bits cannot be trained themselves, only adapters on them; "
            f"leave out --bits, or give --method qlora"
        )


def _check_fit(base: BaseModel, model: PreTrainedModel, recipe: Recipe) -> None:
    width = model.config.hidden_size
    if recipe.adapter and recipe.adapter.reduction_factor > width:
        raise UserError(
            f"reduction factor {recipe.adapter.reduction_factor} is above the layer width {width} of {base.name!r} "
            f"and leaves no bottleneck; give at most --reduction-factor {width}"
        )
    if recipe.input_tokens > base.max_positions - LEAST_TEXT_TOKENS:
        raise UserError(
            f"{recipe.input_tokens} virtual tokens leave no room for a text in the {base.max_positions} positions "
            f"of {base.name!r}; give at most {base.max_positions - LEAST_TEXT_TOKENS}"
        )
