"""The fine-tuning methods, side by side: what each trains, what it starts from, and what it costs to serve.

Methods that train few weights want higher rates, and virtual tokens the highest: Hu et al. (2021) and Lester et al.
(2021) both train at rates far above those of full fine-tuning. The singular values of AdaLoRA want higher ones still:
between orthonormal factors a value moves the network by the rate alone at each step, where LoRA's step grows with the
norms of its factors. At the rate of all others they stay near the nothing they began at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from deploycost.experiment import MethodName, TrainingSpec

Prompting = Literal["none", "chosen", "every-layer"]


class LearningRates(NamedTuple):
    """Of most of what a method trains, and of what has a rate of its own; 0 where it has nothing of the kind."""

    weights: float
    virtual_tokens: float
    singular_values: float


@dataclass(frozen=True)
class Method:
    """One way to fine-tune.

    `prompting` is where virtual tokens go: nowhere, where `prompt.layers` says, or on every layer as a prefix.
    `default_bits` is the precision of the frozen base where none is asked for; only a `quantisable` method takes one.
    """

    summary: str
    serving_cost: str
    flags: tuple[str, ...]
    batch_size: int
    learning_rate: float
    prompt_learning_rate: float = 0.0
    singular_value_learning_rate: float = 0.0
    whole_body: bool = False
    low_rank: bool = False
    allocated_ranks: bool = False
    prompting: Prompting = "none"
    bottlenecks: bool = False
    quantisable: bool = False
    default_bits: Literal[4, 8] | None = None

    def bits(self, asked: Literal[4, 8] | None) -> Literal[4, 8] | None:
        """The precision of the frozen base, given the one asked for; None is not quantised."""
        return (asked or self.default_bits) if self.quantisable else None

    def learning_rates(self, asked: float | None) -> LearningRates:
        """The method's own rates, or all in proportion where another is `asked` for most weights."""
        ratio = asked / self.learning_rate if asked else 1.0
        return LearningRates(
            asked or self.learning_rate,
            self.prompt_learning_rate * ratio,
            self.singular_value_learning_rate * ratio,
        )


_LOW_RANK_FLAGS = ("--rank", "--alpha", "--dropout", "--targets")
_PROMPT_FLAGS = ("--virtual-tokens", "--prompt-layers", "--prompt-start", "--prompt-text")
_MERGED = "none: folded into the weights"
_PROMPTED = "virtual tokens in the input pass every layer; at layers, only their attention sees them"

METHODS: dict[MethodName, Method] = {
    "full": Method(
        "every weight is trained",
        "none",
        flags=(),
        batch_size=16,
        learning_rate=5e-5,
        whole_body=True,
    ),
    "lora": Method(
        "low-rank adapters on query and value",
        _MERGED,
        flags=_LOW_RANK_FLAGS,
        batch_size=8,
        learning_rate=1e-3,
        low_rank=True,
    ),
    "qlora": Method(
        "low-rank adapters on a base in 4-bit nf4 or 8-bit",
        _MERGED,
        flags=(*_LOW_RANK_FLAGS, "--bits"),
        batch_size=8,
        learning_rate=1e-3,
        low_rank=True,
        quantisable=True,
        default_bits=4,
    ),
    "prompt": Method(
        "virtual tokens after [CLS], or keys and values at chosen layers; the encoder is frozen",
        _PROMPTED,
        flags=_PROMPT_FLAGS,
        batch_size=8,
        learning_rate=1e-3,
        prompt_learning_rate=5e-3,
        prompting="chosen",
    ),
    "prefix": Method(
        "trained keys and values on every layer, made by a small network while training",
        "a few more keys in every layer's attention",
        flags=("--virtual-tokens", "--prompt-start", "--prompt-text", "--reparametrised", "--prefix-width"),
        batch_size=8,
        learning_rate=1e-3,
        prompt_learning_rate=5e-3,
        prompting="every-layer",
    ),
    "adapter": Method(
        "small bottleneck networks inside every layer",
        "two thin matrix products per bottleneck: they cannot be folded away",
        flags=("--placement", "--reduction-factor"),
        batch_size=8,
        learning_rate=1e-3,
        bottlenecks=True,
    ),
    "dynamic": Method(
        "low-rank adapters whose ranks follow importance, under a memory budget",
        _MERGED,
        flags=(*_LOW_RANK_FLAGS, "--memory-budget", "--max-rank", "--eva", "--bits"),
        batch_size=8,
        learning_rate=1e-3,
        singular_value_learning_rate=0.064,
        low_rank=True,
        allocated_ranks=True,
        quantisable=True,
    ),
    "stacked": Method(
        "QLoRA and virtual tokens, trained together",
        _PROMPTED,
        flags=(*_LOW_RANK_FLAGS, "--bits", *_PROMPT_FLAGS),
        batch_size=8,
        learning_rate=1e-3,
        prompt_learning_rate=5e-3,
        low_rank=True,
        prompting="chosen",
        quantisable=True,
        default_bits=4,
    ),
}


def readers_of(flag: str) -> list[MethodName]:
    """The methods that have a flag, such as `--rank`, among their own; none have one that is for all methods."""
    return [name for name, method in METHODS.items() if flag in method.flags]


def decisive_fields(method: Method, spec: TrainingSpec) -> dict[str, Any]:
    """What of a spec decides what training by a method comes to, as JSON, each choice in one spelling only."""
    fields = spec.model_dump(mode="json")
    for part in unused_parts(method):
        del fields[part]
    if "bits" in fields and fields["bits"] == method.default_bits:
        fields["bits"] = None
    if method.prompting == "every-layer":
        fields["prompt"]["layers"] = None
    return fields


def unused_parts(method: Method) -> list[str]:
    """The fields of `TrainingSpec` that change nothing of what a method trains."""
    used = {
        "lora": method.low_rank,
        "prompt": method.prompting != "none",
        "prefix": method.prompting == "every-layer",
        "adapter": method.bottlenecks,
        "dynamic": method.allocated_ranks,
        "bits": method.quantisable,
    }
    return [part for part, matters in used.items() if not matters]
