"""From a method and its hyper-parameters to the recipe that builds its network."""

from __future__ import annotations

from typing import Any

from deploycost.experiment import PrefixSpec, PromptSpec, TrainingSpec
from deploycost.methods import Method
from deploycost.models.recipe import RankSchedule, Recipe


def recipe_for(
    method: Method, base_model: str, label_names: tuple[str, ...], spec: TrainingSpec, ranks: RankSchedule | None = None
) -> Recipe:
    """What the method does to the base model, with the hyper-parameters of `spec`; `ranks` for allocated ranks only."""
    return Recipe(
        base_model=base_model,
        label_names=label_names,
        whole_body=method.whole_body,
        bits=method.bits(spec.bits),
        lora=spec.lora if method.low_rank else None,
        ranks=ranks if method.allocated_ranks else None,
        prompt=_prompt(method, spec),
        prefix=_prefix(method, spec),
        adapter=spec.adapter if method.bottlenecks else None,
    )


def told_hyper_parameters(method: Method, spec: TrainingSpec) -> dict[str, Any]:
    """What a record tells of how a method was trained: all that it used, and nothing that it did not."""
    told: dict[str, Any] = {
        "epochs": spec.epochs,
        "batch_size": spec.batch_size or method.batch_size,
        "learning_rate": spec.learning_rate or method.learning_rate,
        "max_tokens": spec.max_tokens,
        "seed": spec.seed,
    }
    if method.low_rank:
        told |= {"rank": spec.lora.rank, "alpha": spec.lora.scaling_alpha, "dropout": spec.lora.dropout}
        told |= {"targets": list(spec.lora.targets)} if spec.lora.targets else {}
    if method.allocated_ranks:
        told |= spec.dynamic.model_dump(mode="json")
    if method.prompting != "none":
        told |= {"virtual_tokens": spec.prompt.virtual_tokens, "start": spec.prompt.start}
    if method.prompting == "chosen" and spec.prompt.layers:
        told |= {"layers": spec.prompt.layers}
    if method.prompting == "every-layer":
        told |= {"reparametrised": spec.prefix.reparametrised}
    if method.bottlenecks:
        told |= spec.adapter.model_dump(mode="json")
    if bits := method.bits(spec.bits):
        told |= {"bits": bits, "quantisation": "nf4, double" if bits == 4 else "int8"}
    return told


def _prompt(method: Method, spec: TrainingSpec) -> PromptSpec | None:
    if method.prompting == "none":
        return None
    return spec.prompt if method.prompting == "chosen" else spec.prompt.model_copy(update={"layers": "all"})


def _prefix(method: Method, spec: TrainingSpec) -> PrefixSpec | None:
    return spec.prefix if method.prompting == "every-layer" and spec.prefix.reparametrised else None
