"""From a method and its hyper-parameters to the recipe that builds its network."""

from __future__ import annotations

from typing import Any

from deploycost.experiment import PrefixSpec, PromptSpec, TrainingSpec
from deploycost.methods import Method
from deploycost.models.recipe import RankSchedule, Recipe
from deploycost.tuning.settings import batch_size_of, precision_name


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
        "batch_size": batch_size_of(method, spec),
        "learning_rate": method.learning_rates(spec.learning_rate).weights,
        "warmup_ratio": spec.warmup_ratio,
        "weight_decay": spec.weight_decay,
        "max_tokens": spec.max_tokens,
        "precision": precision_name(spec),
        "gradient_checkpointing": spec.gradient_checkpointing,
        "compile": spec.compile,
        "seed": spec.seed,
    }
    if method.low_rank:
        told |= _told_ranks(method, spec)
    if method.prompting != "none":
        told |= _told_prompt(method, spec)
    if method.bottlenecks:
        told |= spec.adapter.model_dump(mode="json")
    if bits := method.bits(spec.bits):
        told |= {"bits": bits, "quantisation": "nf4, double" if bits == 4 else "int8"}
    return told


def _told_ranks(method: Method, spec: TrainingSpec) -> dict[str, Any]:
    lora, dynamic = spec.lora, spec.dynamic
    if method.allocated_ranks and dynamic.memory_budget is not None:
        # The budget decides the rank; of the other two only their proportion is left.
        told = {"memory_budget": dynamic.memory_budget, "max_rank": dynamic.max_rank}
        told |= {"alpha_per_rank": lora.scaling_alpha / lora.rank}
    else:
        told = {"rank": lora.rank, "alpha": lora.scaling_alpha}
    told |= {"dropout": lora.dropout}
    told |= {"targets": list(lora.targets)} if lora.targets else {}
    if method.allocated_ranks:
        told |= {
            "eva": dynamic.eva,
            "singular_value_learning_rate": method.learning_rates(spec.learning_rate).singular_values,
        }
    return told


def _told_prompt(method: Method, spec: TrainingSpec) -> dict[str, Any]:
    prompt = spec.prompt
    told = {"virtual_tokens": prompt.virtual_tokens, "start": prompt.start}
    told |= {"prompt_learning_rate": method.learning_rates(spec.learning_rate).virtual_tokens}
    if prompt.text is not None:
        told |= {"text": prompt.text}
    if method.prompting == "chosen":
        return told | ({"layers": prompt.layers} if prompt.layers else {})
    told |= {"reparametrised": spec.prefix.reparametrised}
    return told | ({"bottleneck_width": spec.prefix.bottleneck_width} if spec.prefix.reparametrised else {})


def _prompt(method: Method, spec: TrainingSpec) -> PromptSpec | None:
    if method.prompting == "none":
        return None
    return spec.prompt if method.prompting == "chosen" else spec.prompt.model_copy(update={"layers": "all"})


def _prefix(method: Method, spec: TrainingSpec) -> PrefixSpec | None:
    return spec.prefix if method.prompting == "every-layer" and spec.prefix.reparametrised else None
