"""Low-rank adapters: PEFT's LoRA and AdaLoRA as a recipe asks for them, and a start from the data's own directions."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from peft import AdaLoraConfig, LoraConfig, TaskType
from peft.tuners.adalora import AdaLoraLayer
from torch import Tensor, nn

from deploycost.errors import UserError, nearest
from deploycost.experiment import LoraSpec
from deploycost.models.base import BaseModel, body_matrices
from deploycost.models.recipe import RankSchedule, Recipe

# Of the penalty in the loss, as in PEFT (gamma in Zhang et al., 2023).
_ORTHOGONALITY_WEIGHT = 0.5
_ADAPTER = "default"


def low_rank_config(base: BaseModel, model: nn.Module, recipe: Recipe, spec: LoraSpec) -> LoraConfig:
    """PEFT's configuration of the adapters, LoRA's or with `recipe.ranks` AdaLoRA's.

    Both scale an adapter's answer by alpha over rank. PEFT's AdaLoRA divides by the rank it began with, whatever is
    left of it, so alpha is raised in proportion to that rank.

    Raises:
        UserError: a target does not exist, or a rank is above the width of a target.
    """
    targets = list(spec.targets or base.family.attention)
    shared: dict[str, Any] = {
        "task_type": TaskType.SEQ_CLS,
        "target_modules": targets,
        "lora_dropout": spec.dropout,
        "modules_to_save": list(base.family.head),
        # A name such as `dense` must not reach into the head, which is trained whole.
        "exclude_modules": rf"(?:.*\.)?(?:{'|'.join(base.family.head)})(?:\..*)?",
    }
    if recipe.ranks is None:
        _check_targets(base, model, targets, spec.rank)
        return LoraConfig(r=spec.rank, lora_alpha=spec.scaling_alpha, **shared)
    _check_targets(base, model, targets, recipe.ranks.initial_rank)
    return _allocated(recipe.ranks, spec.scaling_alpha / spec.rank, shared)


def _allocated(ranks: RankSchedule, scaling: float, shared: dict[str, Any]) -> AdaLoraConfig:
    alpha: Any = scaling * ranks.initial_rank  # annotated as a whole number, but only ever multiplied by
    return AdaLoraConfig(
        init_r=ranks.initial_rank,
        target_r=ranks.target_rank,
        lora_alpha=alpha,
        total_step=ranks.total_steps,
        tinit=ranks.warm_up_steps,
        tfinal=ranks.settling_steps,
        deltaT=ranks.interval_steps,
        orth_reg_weight=_ORTHOGONALITY_WEIGHT,
        **shared,
    )


def _check_targets(base: BaseModel, model: nn.Module, targets: list[str], rank: int) -> None:
    matrices = body_matrices(model, base)
    names = list(dict.fromkeys(path.rpartition(".")[2] for path in matrices))
    for target in targets:
        widths = [
            min(matrix.in_features, matrix.out_features)
            for path, matrix in matrices.items()
            if path == target or path.endswith(f".{target}")
        ]
        if not widths:
            raise UserError(
                f"{base.name!r} has no matrix {target!r} to adapt{nearest(target, names)}; "
                f"give --targets out of {', '.join(names)}"
            )
        if rank > min(widths):
            raise UserError(
                f"rank {rank} is above the layer width {min(widths)} of {target!r} in {base.name!r}; "
                f"give --rank {min(widths) // 2}"
            )


def rank_layers(model: nn.Module) -> list[AdaLoraLayer]:
    """The adapters whose ranks are allocated; none for plain LoRA."""
    return [module for module in model.modules() if isinstance(module, AdaLoraLayer)]


def singular_values(layers: list[AdaLoraLayer]) -> list[nn.Parameter]:
    """The trained singular values of AdaLoRA, one parameter [rank, 1] per layer."""
    return [layer.lora_E[_ADAPTER] for layer in layers]


def start_orthonormal(model: nn.Module) -> None:
    """Starts the factors of allocated ranks where their penalty is nothing: as orthonormal vectors.

    PEFT's AdaLoRA draws them of a length of 0.02 times the root of the width. What they say of the loss, and what the
    singular values between them can do about it, is then too little to train on within a few hundred steps. The
    values begin at 0 as ever, so the model answers as before.
    """
    for layer in rank_layers(model):
        nn.init.orthogonal_(layer.lora_A[_ADAPTER])
        nn.init.orthogonal_(layer.lora_B[_ADAPTER])


def orthogonality_penalty(layers: list[AdaLoraLayer]) -> Tensor:
    """What keeps the singular vectors of AdaLoRA apart (Zhang et al., 2023, equation 4), as a part of the loss.

    The mean over all factors of |P^T P - I| (Frobenius norm, as PEFT takes it), weighted. PEFT adds it where the
    model itself is given labels, which ours is not.
    """
    pairs = [(layer.lora_A[_ADAPTER], layer.lora_B[_ADAPTER].T) for layer in layers]
    # Autocast would round the products before 1 is taken from them.
    with torch.autocast(pairs[0][0].device.type, enabled=False):
        norms = [_distance_from_orthonormal(rows) for pair in pairs for rows in pair]
        return _ORTHOGONALITY_WEIGHT * torch.stack(norms).mean()


def _distance_from_orthonormal(rows: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(rows @ rows.T - torch.eye(len(rows), device=rows.device))


@torch.no_grad()
def start_from_data(classifier: nn.Module, batches: Iterable[dict[str, Tensor]]) -> None:
    """Starts adapters of allocated rank from the directions in which their inputs vary most.

    After EVA (Paischer et al., 2024), which PEFT has for LoRA's down-projection only. The same directions,
    orthonormal, are here AdaLoRA's right singular vectors, whose penalty so begins at nothing. The singular values
    begin at 0 as ever, so the model answers as before. EVA's division of ranks by explained variance is left to
    AdaLoRA, which divides them by importance.

    Args:
        classifier: A fresh `TunedClassifier` with adapters of allocated rank.
        batches: `input_ids` and `attention_mask` [batch, tokens] of some hundred texts; more is only slower.
    """
    layers = rank_layers(classifier)
    moments = [_Moments(layer.lora_A[_ADAPTER].shape[1]) for layer in layers]
    mask: dict[str, Tensor] = {}

    def note(kept: _Moments, _: nn.Module, given: tuple[Tensor, ...]) -> None:
        kept.add(given[0][mask["seen"]])

    handles = [
        layer.register_forward_pre_hook(partial(note, kept))  # pyright: ignore[reportAttributeAccessIssue] - a module
        for layer, kept in zip(layers, moments, strict=True)
    ]
    device = next(classifier.parameters()).device
    was_training = classifier.training
    classifier.eval()
    try:
        for batch in batches:
            mask["seen"] = batch["attention_mask"].to(device).bool()
            classifier(batch["input_ids"].to(device), batch["attention_mask"].to(device))
    finally:
        classifier.train(was_training)
        for handle in handles:
            handle.remove()
    for layer, kept in zip(layers, moments, strict=True):
        right = layer.lora_A[_ADAPTER]
        right.copy_(kept.directions(len(right)))


class _Moments:
    """Sums over vectors [n, width] from which their principal directions come exactly, however many there are."""

    def __init__(self, width: int) -> None:
        self.count = 0
        self.total = torch.zeros(width, dtype=torch.float64)
        self.products = torch.zeros(width, width, dtype=torch.float64)

    def add(self, vectors: Tensor) -> None:
        vectors = vectors.cpu().double()
        self.count += len(vectors)
        self.total += vectors.sum(dim=0)
        self.products += vectors.T @ vectors

    def directions(self, count: int) -> Tensor:
        """The `count` orthonormal directions of greatest variance, greatest first: [count, width]."""
        mean = self.total / self.count
        _, vectors = torch.linalg.eigh(self.products / self.count - torch.outer(mean, mean))
        return vectors.flip(1)[:, :count].T.float()
