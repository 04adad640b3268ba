"""Unstable steps: seen before they do harm, undone or damped, and told.

Off the happy path nothing is copied: a step is judged by its gradients before it is made. One whose gradients are
not finite is not made; one whose gradients are far above their usual size is made at the usual size. A change of
ranks that the loss does not bear is taken back.
"""

from __future__ import annotations

import math
from collections import deque
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from deploycost.errors import NoAnswer
from deploycost.records import UnstableStep
from deploycost.tuning.ranks import RankKeeper

# How many steps "usual" looks back on, and how many it needs.
_WINDOW, _ENOUGH = 50, 10
# Gradients of fine-tuning vary by a factor of a few from batch to batch; ten times the median is none of that.
_SPIKE_RATIO = 10.0
# A loss above anything in the window by this much, this soon after ranks were changed, is laid to the change.
_JUMP_RATIO, _AFTERMATH_STEPS = 1.5, 3
_MOST_UNDONE_IN_A_ROW = 10


class StabilityGuard(TrainerCallback):
    """Judges each step by the norm of its gradients, and clips it as a `Trainer` would.

    It must see gradients as they are: give the `Trainer` `max_grad_norm=0`, and let the guard clip. `ranks` is the
    keeper of allocated ranks, where there are any. `steps` are the unstable ones so far.
    """

    def __init__(self, classifier: nn.Module, ranks: RankKeeper | None = None, max_grad_norm: float = 1.0) -> None:
        self.steps: list[UnstableStep] = []
        self._trained = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
        self._ranks = ranks
        self._max_grad_norm = max_grad_norm
        self._norms: deque[float] = deque(maxlen=_WINDOW)
        self._losses: deque[float] = deque(maxlen=_WINDOW)
        self._undone_in_a_row = 0
        self._loss: Tensor | None = None
        if ranks is not None:
            classifier.register_forward_hook(self._hear)

    def on_pre_optimizer_step(
        self,
        args: Any,  # noqa: ANN401 - transformers' signature
        state: Any,  # noqa: ANN401
        control: Any,  # noqa: ANN401
        *,
        optimizer: Any = None,  # noqa: ANN401
        **_: Any,  # noqa: ANN401
    ) -> None:
        """Lets the step be made as it is, smaller, or not at all.

        Under fp16, gradients that overflow only because the loss was scaled up are the scaler's matter: it begins far
        too high, drops such steps, and comes down until none overflows. They count as unstable at a scale of 1.

        Raises:
            NoAnswer: step after step has no finite gradients.
        """
        step = state.global_step + 1
        gradients = [parameter.grad for parameter in self._trained if parameter.grad is not None]
        norm = float(nn.utils.get_total_norm(gradients))
        if not math.isfinite(norm):
            if _scale(optimizer) > 1:
                self._drop_gradients()
                return
            self._undo(step, f"the gradients were not finite (norm {norm})")
            self._undone_in_a_row += 1
            if self._undone_in_a_row >= _MOST_UNDONE_IN_A_ROW:
                raise NoAnswer(
                    f"training diverged: gradients were not finite for {_MOST_UNDONE_IN_A_ROW} steps on end, up to "
                    f"step {step}; give a lower --learning-rate or --no-mixed-precision"
                )
            return
        self._undone_in_a_row = 0
        if self._changed_for_the_worse(step):
            return
        self._limit(step, norm)

    def state_dict(self) -> dict[str, Any]:
        """All that exact resumption needs: numbers, texts, and lists and mappings of these."""
        return {
            "steps": [step.model_dump() for step in self.steps],
            "norms": list(self._norms),
            "losses": list(self._losses),
            "undone_in_a_row": self._undone_in_a_row,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from such a state."""
        self.steps = [UnstableStep(**step) for step in state["steps"]]
        self._norms = deque(state["norms"], maxlen=_WINDOW)
        self._losses = deque(state["losses"], maxlen=_WINDOW)
        self._undone_in_a_row = state["undone_in_a_row"]

    def _hear(self, module: nn.Module, _: Any, output: Any) -> None:  # noqa: ANN401 - a forward hook
        if module.training and output.loss is not None:
            self._loss = output.loss.detach()

    def _changed_for_the_worse(self, step: int) -> bool:
        """Takes back a change of ranks, and drops the step that was worked out after it, where the loss leapt."""
        if self._ranks is None or self._loss is None:
            return False
        loss, changed_at = float(self._loss), self._ranks.changed_at_step
        highest = max(self._losses, default=loss)
        recent = changed_at is not None and step - changed_at <= _AFTERMATH_STEPS
        if recent and len(self._losses) >= _ENOUGH and loss > _JUMP_RATIO * highest:
            reason = (
                f"the loss leapt to {loss:.3g} after ranks were changed at step {changed_at}, "
                f"from at most {highest:.3g} in the {len(self._losses)} steps before"
            )
            self._ranks.take_back(step, f"taken back: {reason}")
            self._undo(step, f"{reason}; the change of ranks was taken back")
            return True
        self._losses.append(loss)
        return False

    def _drop_gradients(self) -> None:
        # Without gradients the optimiser leaves weights and moments as they are.
        for parameter in self._trained:
            parameter.grad = None

    def _undo(self, step: int, reason: str) -> None:
        self._drop_gradients()
        self.steps.append(UnstableStep(step=step, remedy="undone", reason=reason))

    def _limit(self, step: int, norm: float) -> None:
        """Scales gradients down to the usual norm where theirs is far above it, and to the clipping norm at most."""
        most = self._max_grad_norm
        usual = median(self._norms) if len(self._norms) >= _ENOUGH else norm
        # Below the clipping norm no step is large, however small the usual ones have become.
        if norm > max(_SPIKE_RATIO * usual, self._max_grad_norm):
            most = min(most, usual)
            self.steps.append(
                UnstableStep(
                    step=step,
                    remedy="damped",
                    reason=f"the gradient norm was {norm:.3g} where {usual:.3g} was usual; scaled down to {most:.3g}",
                )
            )
        self._norms.append(norm)
        if norm > most:
            nn.utils.clip_grads_with_norm_(self._trained, most, torch.tensor(norm))


def _scale(optimiser: Any) -> float:  # noqa: ANN401 - accelerate's, of which transformers tells no type
    """What fp16's scaler multiplies the loss by; 1 without one."""
    scaler = getattr(optimiser, "scaler", None)
    return float(scaler.get_scale()) if scaler is not None else 1.0
