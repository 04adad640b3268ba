"""Dynamic ranks: how large they may be under a memory budget, and who decided what while training.

AdaLoRA (Zhang et al., 2023) begins with ranks half as large again as they end on average, and masks what matters
least. Masked ranks keep their memory, so a budget bounds the ranks that training *begins* with.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback

from deploycost.encoder_shape import EncoderShape, matrix_word
from deploycost.errors import UserError
from deploycost.experiment import TrainingSpec
from deploycost.methods import Method
from deploycost.models.classifier import TunedClassifier
from deploycost.models.recipe import RankSchedule
from deploycost.records import RankDecision, RankHistory
from deploycost.training_memory import Setting, TrainingLoad, initial_rank_for, load_of, predict
from deploycost.units import MIB

# Shares of the steps that the paper leaves to warming up and, at least, to settling (its appendix, for GLUE).
_WARM_UP_RATIO, _SETTLING_RATIO = 0.1, 0.3
# How often ranks are set anew between the two; each time must leave the smoothed importance some steps to follow.
_ALLOCATIONS = 20
_FEWEST_STEPS = 4
_SHORTEST_HOLD_STEPS = 10
_ADAPTER = "default"
# What PEFT's allocator keeps for each weight of an adapter: the last sensitivity, its mean and its variation.
_IMPORTANCE = ("ipt", "exp_avg_ipt", "exp_avg_unc")


def plan_ranks(method: Method, spec: TrainingSpec, shape: EncoderShape, setting: Setting, steps: int) -> RankSchedule:
    """The schedule of ranks for a training of `steps` steps.

    The mean final rank is `lora.rank`; with a memory budget, the largest up to `dynamic.max_rank` whose initial
    rank, half as large again, the memory model lets into the budget.

    Raises:
        UserError: the budget is too small for any rank, the rank too large for the matrices, or the steps too few.
    """
    if steps < _FEWEST_STEPS:
        raise UserError(
            f"dynamic ranks need at least {_FEWEST_STEPS} training steps to be set by importance, here are {steps}; "
            "give more --train-rows or --epochs, or a smaller --batch-size"
        )
    narrowest = min(min(m.inputs, m.outputs) for m in shape.targeted(spec.lora.targets))
    budget = spec.dynamic.memory_budget
    if budget is not None:
        load, most = load_of(method, spec, shape, setting), min(spec.dynamic.max_rank, narrowest - 1)
        final = _affordable_rank(load, shape, budget, most)
    elif spec.lora.rank < narrowest:
        final = spec.lora.rank
    else:
        raise UserError(
            f"rank {spec.lora.rank} is not below the layer width {narrowest}, and dynamic ranks begin above their "
            f"mean; give --rank {narrowest // 2}"
        )
    warm_up, settling = round(_WARM_UP_RATIO * steps), round(_SETTLING_RATIO * steps)
    return RankSchedule(
        initial_rank=min(initial_rank_for(final), narrowest),
        target_rank=final,
        total_steps=steps,
        warm_up_steps=warm_up,
        settling_steps=settling,
        interval_steps=max(1, (steps - warm_up - settling) // _ALLOCATIONS),
        eva=spec.dynamic.eva,
    )


def _affordable_rank(load: TrainingLoad, shape: EncoderShape, budget: int, most: int) -> int:
    """The largest mean final rank, at most `most`, whose training fits the budget; 1 is the least there is."""

    def needed(final_rank: int) -> int:
        return predict(shape, replace(load, rank=initial_rank_for(final_rank))).total

    affordable = bisect_right(range(1, most + 1), budget, key=needed)
    if affordable == 0:
        raise UserError(
            f"memory budget {_mib(budget)} is too small for any rank: training needs at least {_mib(needed(1))} over "
            f"what the process holds before; give --memory-budget {_mib(needed(1))}{_ways_out(load, shape, needed(1))}"
        )
    return affordable


def _ways_out(load: TrainingLoad, shape: EncoderShape, needed: int) -> str:
    """What would need less than `needed` bytes, with how much, as the end of a sentence; empty where nothing would."""
    least = replace(load, rank=initial_rank_for(1))
    ways = {
        "--gradient-checkpointing": replace(least, gradient_checkpointing=True),
        "--bits 4": replace(least, bits=4),
        f"--batch-size {max(1, load.batch_size // 2)}": replace(least, batch_size=max(1, load.batch_size // 2)),
    }
    totals = {flag: predict(shape, way).total for flag, way in ways.items()}
    told = [f"{flag} (then {_mib(total)} will do)" for flag, total in totals.items() if total < needed]
    return f", or {', or '.join(told)}" if told else ""


def _mib(count: int) -> str:
    """Bytes as `--memory-budget` takes them, rounded up so that what is told suffices."""
    return f"{-(-count // MIB)}MiB"


@dataclass(frozen=True)
class _Change:
    """What it takes to take an allocation back: singular values, masks and ranks from before it."""

    step: int
    values: dict[str, Tensor]
    pattern: dict[str, list[bool]] | None
    ranks: dict[str, int]


class RankKeeper(TrainerCallback):
    """Lets PEFT's AdaLoRA allocate ranks after each update, and keeps every change of a rank with its reason.

    Called between the optimiser's step and the clearing of gradients, of which importance is made. A step whose
    gradients were dropped is passed over.
    """

    def __init__(self, classifier: TunedClassifier, schedule: RankSchedule, memory_budget_bytes: int | None) -> None:
        adapted: Any = classifier.model
        self._adalora: Any = adapted.base_model
        self._config: Any = adapted.peft_config[_ADAPTER]
        self._schedule = schedule
        self._memory_budget_bytes = memory_budget_bytes
        self._values: dict[str, Tensor] = {
            name: value for name, value in self._adalora.model.named_parameters() if f"lora_E.{_ADAPTER}" in name
        }
        self._ranks = dict.fromkeys(self._values, schedule.initial_rank)
        self._decisions: list[RankDecision] = []
        self._held_until = 0
        self._finalised = False
        self._last_change: _Change | None = None

    @property
    def changed_at_step(self) -> int | None:
        """The step after which ranks were last changed, while that can still be taken back."""
        return self._last_change.step if self._last_change else None

    def history(self) -> RankHistory:
        """The decisions so far, and the ranks now."""
        ranks = {layer_word(name): rank for name, rank in self._ranks.items()}
        return RankHistory(
            memory_budget_bytes=self._memory_budget_bytes,
            initial_total_rank=self._schedule.initial_rank * len(ranks),
            final_total_rank=sum(ranks.values()),
            decisions=tuple(self._decisions),
            final_ranks=ranks,
        )

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401 - transformers' signature
        """Takes the step's importance, and sets ranks anew where the schedule says so."""
        if any(value.grad is None for value in self._values.values()):
            return
        step = state.global_step + 1
        allocator = self._adalora.rankallocator
        last_allocation = self._schedule.total_steps - self._schedule.settling_steps
        if step < min(self._held_until, last_allocation):
            allocator.update_ipt(self._adalora.model)
        elif step < last_allocation:
            self._allocate(step)
        elif not self._finalised:
            self._finalise(step, last_allocation)
        else:
            self._adalora.update_and_allocate(step)

    def _allocate(self, step: int) -> None:
        pattern = self._config.rank_pattern
        before = _Change(step, {n: v.detach().clone() for n, v in self._values.items()}, pattern, dict(self._ranks))
        self._adalora.update_and_allocate(step)
        if self._config.rank_pattern is not pattern:
            self._note(step, self._scores())
            self._last_change = before

    def _finalise(self, step: int, last_allocation: int) -> None:
        """Sets the ranks that are kept. Due at `last_allocation`, or where that step was dropped, at the next."""
        allocator = self._adalora.rankallocator
        if not allocator.exp_avg_ipt:
            allocator.update_ipt(self._adalora.model)  # all steps before were dropped: this one must do
        # PEFT forgets the importance that it was made of, and does not bring it up to date first.
        scores = self._scores()
        self._adalora.update_and_allocate(last_allocation)
        self._note(step, scores)
        self._finalised, self._last_change = True, None

    @torch.no_grad()
    def take_back(self, step: int, reason: str) -> None:
        """Undoes the last allocation, and holds ranks for as long as lies between two, or a few steps at least.

        Raises:
            ValueError: there is none that `changed_at_step` tells of.
        """
        change = self._last_change
        if change is None:
            raise ValueError("no change of ranks can be taken back")
        pattern = self._config.rank_pattern
        for name, value in self._values.items():
            masked = ~torch.tensor(pattern[name], device=value.device).view(-1, 1)
            value[masked] = change.values[name][masked]
        self._decide(step, change.ranks, self._scores(), lambda _: reason)
        self._config.rank_pattern = change.pattern
        self._held_until = step + max(self._schedule.interval_steps, _SHORTEST_HOLD_STEPS)
        self._last_change = None

    def state_dict(self) -> dict[str, Any]:
        """All that exact resumption needs: numbers, texts, tensors, and lists and mappings of these."""
        allocator = self._adalora.rankallocator
        return {
            "importance": {kind: dict(getattr(allocator, kind)) for kind in _IMPORTANCE},
            "rank_pattern": self._config.rank_pattern,
            "ranks": dict(self._ranks),
            "decisions": [decision.model_dump() for decision in self._decisions],
            "held_until": self._held_until,
            "finalised": self._finalised,
            "last_change": asdict(self._last_change) if self._last_change else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from such a state, of the same network."""
        allocator = self._adalora.rankallocator
        device = next(iter(self._values.values())).device
        for kind in _IMPORTANCE:
            setattr(allocator, kind, {name: kept.to(device) for name, kept in state["importance"][kind].items()})
        self._config.rank_pattern = state["rank_pattern"]
        self._ranks = dict(state["ranks"])
        self._decisions = [RankDecision(**decision) for decision in state["decisions"]]
        self._held_until, self._finalised = state["held_until"], state["finalised"]
        change = state["last_change"]
        if change is not None:
            change = _Change(**change | {"values": {name: kept.to(device) for name, kept in change["values"].items()}})
        self._last_change = change

    def _scores(self) -> dict[str, Tensor]:
        """The importance of each rank of each matrix [rank]: of its singular value, and the mean of its vectors'.

        Equations 8 to 11 of the paper; smoothed sensitivity times its smoothed variation.
        """
        allocator = self._adalora.rankallocator

        def score(name: str) -> Tensor:
            return allocator.exp_avg_ipt[name] * allocator.exp_avg_unc[name]

        return {
            name: score(name).view(-1)
            + score(name.replace("lora_E", "lora_A")).mean(dim=1)
            + score(name.replace("lora_E", "lora_B")).mean(dim=0)
            for name in self._values
        }

    def _note(self, step: int, scores: dict[str, Tensor]) -> None:
        pattern = self._config.rank_pattern
        ranks = {name: sum(pattern[name]) for name in self._values}
        dropped = [scores[name][~torch.tensor(kept, device=scores[name].device)] for name, kept in pattern.items()]
        cut, total = float(torch.cat(dropped).max()), sum(ranks.values())

        def reason(change: int) -> str:
            side = (
                f"{-change} of its ranks matter no more" if change < 0 else f"{change} of its ranks matter more again"
            )
            return f"{side} than {cut:.2g}, the cut that leaves {total} ranks in all"

        self._decide(step, ranks, scores, reason)

    def _decide(
        self, step: int, ranks: dict[str, int], scores: dict[str, Tensor], reason: Callable[[int], str]
    ) -> None:
        """Sets the ranks and keeps a decision for each that changes; `reason` is told by how much."""
        self._decisions += [
            RankDecision(
                step=step,
                layer=layer_word(name),
                importance=float(scores[name].sum()),
                rank_before=self._ranks[name],
                rank_after=rank,
                reason=reason(rank - self._ranks[name]),
            )
            for name, rank in ranks.items()
            if rank != self._ranks[name]
        ]
        self._ranks = dict(ranks)


def layer_word(parameter: str) -> str:
    """A matrix in the field's words, as in `layer 3 query`, from the name of a parameter of its adapter."""
    parts = parameter.partition(".lora_")[0].split(".")
    place = next(index for index, part in enumerate(parts) if part.isdecimal())
    return f"layer {int(parts[place]) + 1} {matrix_word('.'.join(parts[place + 1 :]))}"
