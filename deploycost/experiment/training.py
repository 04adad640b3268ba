"""How to train: what all methods read, and what is each one's own."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ByteSize, Field, field_validator, model_validator

from deploycost.experiment.base import Frozen, comma_list
from deploycost.experiment.names import TrackerName


class LoraSpec(Frozen):
    """Low-rank adapters (Hu et al., 2021): rank r, alpha = 2r unless given, dropout on the adapter's input."""

    rank: int = Field(default=8, ge=1, le=1024)
    alpha: int | None = Field(default=None, ge=1, le=65536)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    targets: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="names of the matrices adapted; None: query and value"
    )

    @field_validator("targets", mode="before")
    @classmethod
    def _split_commas(cls, value: Any) -> Any:  # noqa: ANN401 - raw user input
        return comma_list(value)

    @property
    def scaling_alpha(self) -> int:
        """Alpha as used: the one given, or twice the rank."""
        return self.alpha if self.alpha is not None else 2 * self.rank


class PromptSpec(Frozen):
    """Virtual tokens: where they stand and what they start from.

    Without `layers` they stand among the embedded words (Lester et al., 2021); with layers they are trained keys and
    values of those layers' attention (Li and Liang, 2021; Liu et al., 2022).
    """

    virtual_tokens: int = Field(default=20, ge=1, le=511, description="of the 512 positions that encoders have")
    layers: str | None = Field(
        default=None,
        pattern=r"^(early|middle|late|all|\d+(-\d+)?(,\d+(-\d+)?)*)$",
        description="early, middle or late third, all, or numbers from 1 as in 1-2 or 1,3; None: in the input",
    )
    start: Literal["vocabulary", "text", "random"] = "vocabulary"
    text: str | None = Field(default=None, description="the words to start from; None: the names of the labels")

    @model_validator(mode="after")
    def _text_is_used(self) -> PromptSpec:
        if self.text is not None and self.start != "text":
            raise ValueError("a text to start from is read only with start: text (--prompt-start text)")
        return self


class PrefixSpec(Frozen):
    """Prefix tuning (Li and Liang, 2021): keys and values on all layers, made by a small network while training."""

    reparametrised: bool = True
    bottleneck_width: int = Field(default=128, ge=1, description="width of the network that makes keys and values")


class AdapterSpec(Frozen):
    """Bottlenecks after the feed-forward block (Pfeiffer et al., 2021), or after attention too (Houlsby, 2019)."""

    placement: Literal["houlsby", "pfeiffer"] = "pfeiffer"
    reduction_factor: int = Field(default=16, ge=1, description="layer width over bottleneck width")


class DynamicSpec(Frozen):
    """LoRA whose rank is set per matrix by importance (AdaLoRA, Zhang et al., 2023), under a memory budget if given.

    Without a budget the mean final rank is `lora.rank`; with one it is what the budget affords, up to `max_rank`.
    """

    memory_budget: ByteSize | None = Field(default=None, gt=0, description="of the training process, as in 4GiB")
    max_rank: int = Field(default=32, ge=1, le=1024)
    eva: bool = Field(default=False, description="start from the data's own directions (EVA, Paischer et al., 2024)")


class TrainingSpec(Frozen):
    """How to train. `None` means the method's own default (`deploycost.methods`), after the literature."""

    epochs: int = Field(default=5, ge=1)
    batch_size: int | None = Field(default=None, ge=1, description="16 for full, 8 for the others")
    learning_rate: float | None = Field(default=None, gt=0)
    warmup_ratio: float = Field(default=0.1, ge=0, lt=1)
    weight_decay: float = Field(default=0.01, ge=0)
    max_tokens: int = Field(default=128, ge=8, description="longest sequence fed to the model, special tokens included")
    mixed_precision: bool = True
    gradient_checkpointing: bool = False
    seed: int = Field(default=42, ge=0, lt=2**32, description="what every generator that it seeds takes")
    compile: bool = Field(default=False, description="torch.compile: pays on GPUs and in long runs")
    bits: Literal[4, 8] | None = Field(default=None, description="of a quantised base; None: the method's own")
    lora: LoraSpec = LoraSpec()
    prompt: PromptSpec = PromptSpec()
    prefix: PrefixSpec = PrefixSpec()
    adapter: AdapterSpec = AdapterSpec()
    dynamic: DynamicSpec = DynamicSpec()


class TelemetrySpec(Frozen):
    """What is watched while training; it changes nothing of what is trained."""

    profile: bool = False
    report_to: TrackerName = "none"
