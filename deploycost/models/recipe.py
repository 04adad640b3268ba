"""Recipes: what a method does to a base model. Tuning follows one, exporting undoes it; they meet in a folder."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from deploycost.experiment import AdapterSpec, Frozen, LoraSpec, PrefixSpec, PromptSpec
from deploycost.models.base import BaseModel


class RankSchedule(Frozen):
    """How AdaLoRA (Zhang et al., 2023) brings ranks from `initial_rank` per matrix down to a mean of `target_rank`.

    The first `warm_up_steps` change nothing, the last `settling_steps` keep the ranks reached, and between them ranks
    are set anew every `interval_steps`.
    """

    initial_rank: int = Field(ge=1)
    target_rank: int = Field(ge=1)
    total_steps: int = Field(ge=1)
    warm_up_steps: int = Field(ge=0)
    settling_steps: int = Field(ge=0)
    interval_steps: int = Field(ge=1)
    eva: bool = False


class Recipe(Frozen):
    """What a method does to a base model, with every hyper-parameter that its network depends on.

    `prompt` are virtual tokens in the input, or at layers where its `layers` say so; `prefix` makes those at layers
    out of a small network while training, and is set only together with `prompt`.
    """

    base_model: str
    label_names: tuple[str, ...]
    whole_body: bool = False
    bits: Literal[4, 8] | None = None
    lora: LoraSpec | None = None
    ranks: RankSchedule | None = None
    prompt: PromptSpec | None = None
    prefix: PrefixSpec | None = None
    adapter: AdapterSpec | None = None

    @model_validator(mode="after")
    def _one_kind_of_adapter(self) -> Recipe:
        if self.adapter is not None and (self.lora is not None or self.prompt is not None):
            raise ValueError("bottlenecks are trained alone: a recipe has them, or low-rank adapters and prompts")
        return self

    @property
    def in_peft(self) -> bool:
        """Whether PEFT keeps what is trained in the encoder; else it is virtual tokens in the input, or the weights."""
        at_layers = self.prompt is not None and self.prompt.layers is not None
        return self.lora is not None or self.adapter is not None or at_layers

    @property
    def input_tokens(self) -> int:
        """Virtual tokens in the input, which take positions from the text; those at layers take none."""
        return self.prompt.virtual_tokens if self.prompt is not None and self.prompt.layers is None else 0

    def text_tokens(self, base: BaseModel, max_tokens: int) -> int:
        """How many tokens of a text are fed: those asked for, as far as positions are left beside virtual tokens."""
        return min(max_tokens, base.max_positions - self.input_tokens)
