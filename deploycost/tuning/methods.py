"""The methods, side by side: what each does to the base model and the rates it trains at.

Methods that train few weights want higher rates, and virtual tokens the highest: Hu et al. (2021) and Lester et al.
(2021) both train at rates far above those of full fine-tuning.
"""

from __future__ import annotations

from dataclasses import dataclass

from deploycost.experiment import MethodName, TrainingSpec
from deploycost.models.adapters import Recipe


@dataclass(frozen=True)
class Method:
    """One way to fine-tune."""

    summary: str
    batch_size: int
    learning_rate: float
    prompt_learning_rate: float = 0.0
    whole_body: bool = False
    quantised: bool = False
    low_rank: bool = False
    prompted: bool = False


METHODS: dict[MethodName, Method] = {
    "full": Method("every weight is trained", batch_size=16, learning_rate=5e-5, whole_body=True),
    "lora": Method("low-rank adapters on query and value", batch_size=8, learning_rate=1e-3, low_rank=True),
    "qlora": Method(
        "low-rank adapters on a base in 4-bit nf4", batch_size=8, learning_rate=1e-3, low_rank=True, quantised=True
    ),
    "prompt": Method(
        "virtual tokens after [CLS]; the encoder is frozen",
        batch_size=8,
        learning_rate=1e-3,
        prompt_learning_rate=5e-3,
        prompted=True,
    ),
    "stacked": Method(
        "QLoRA and virtual tokens, trained together",
        batch_size=8,
        learning_rate=1e-3,
        prompt_learning_rate=5e-3,
        low_rank=True,
        quantised=True,
        prompted=True,
    ),
}


def recipe_for(method: Method, base_model: str, label_names: tuple[str, ...], spec: TrainingSpec) -> Recipe:
    """What the method does to the base model, with the hyper-parameters of `spec`."""
    return Recipe(
        base_model=base_model,
        label_names=label_names,
        whole_body=method.whole_body,
        quantised=method.quantised,
        lora=spec.lora if method.low_rank else None,
        virtual_tokens=spec.virtual_tokens if method.prompted else 0,
    )
