"""Unstable steps, injected into real trainings: undone or damped, told, and training goes on."""
# ruff: noqa: TID253 - these test what is made of the framework

from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from deploycost.errors import NoAnswer
from deploycost.experiment import MethodName, TrainingSpec
from deploycost.methods import METHODS
from deploycost.models.base import find_base
from deploycost.models.classifier import TunedClassifier, build
from deploycost.models.recipe import RankSchedule
from deploycost.records import UnstableStep
from deploycost.tuning.ranks import RankKeeper
from deploycost.tuning.recipes import recipe_for
from deploycost.tuning.stability import StabilityGuard

SCHEDULE = RankSchedule(
    initial_rank=6, target_rank=4, total_steps=40, warm_up_steps=12, settling_steps=10, interval_steps=5
)


class Meddler(TrainerCallback):
    """Scales the gradients of chosen steps (from 1), and keeps the weights from before and after each step."""

    def __init__(self, classifier: TunedClassifier, factors: dict[int, float]) -> None:
        self.classifier, self.factors = classifier, factors
        self.before: dict[int, torch.Tensor] = {}
        self.after: dict[int, torch.Tensor] = {}
        self.moments: dict[int, tuple[float, float]] = {}
        self.optimiser_steps: dict[int, float] = {}

    def weights(self) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in self.classifier.parameters() if p.requires_grad])

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        step = state.global_step + 1
        self.before[step] = self.weights()
        for parameter in self.classifier.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(self.factors.get(step, 1.0))

    def on_step_end(self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any) -> None:
        self.after[state.global_step] = self.weights()
        kept = [entry["step"] for entry in optimizer.state.values()]
        self.optimiser_steps[state.global_step] = float(max(kept, default=torch.tensor(0.0)))


class GradientSize(TrainerCallback):
    """The norm of the gradients that the optimiser is given, by step."""

    def __init__(self, classifier: TunedClassifier) -> None:
        self.classifier = classifier
        self.norms: dict[int, float] = {}

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        gradients = [p.grad for p in self.classifier.parameters() if p.grad is not None]
        self.norms[state.global_step + 1] = float(torch.nn.utils.get_total_norm(gradients))


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_step_without_finite_gradients_leaves_weights_and_moments_alone(make: Any, train: Any, poison: float) -> None:
    classifier = make("full")
    guard, meddler = StabilityGuard(classifier), Meddler(classifier, {5: poison})
    train(classifier, [meddler, guard])
    assert [(step.step, step.remedy) for step in guard.steps] == [(5, "undone")]
    assert "not finite" in guard.steps[0].reason
    assert torch.equal(meddler.after[5], meddler.before[5])
    assert meddler.optimiser_steps[5] == meddler.optimiser_steps[4] == 4
    assert not torch.equal(meddler.after[6], meddler.before[6])
    assert meddler.after[40].isfinite().all()


def test_a_spike_is_damped_to_the_usual_size(make: Any, train: Any) -> None:
    classifier = make("full")
    as_they_are, guard, as_given = GradientSize(classifier), StabilityGuard(classifier), GradientSize(classifier)
    train(classifier, [Meddler(classifier, {20: 1e6}), as_they_are, guard, as_given])
    (told,) = guard.steps
    assert (told.step, told.remedy) == (20, "damped")
    usual = median(as_they_are.norms[step] for step in range(1, 20))
    assert as_they_are.norms[20] > 1e4 * usual
    assert as_given.norms[20] == pytest.approx(min(1.0, usual), rel=1e-3)
    assert max(as_given.norms.values()) <= 1.001


def test_below_the_clipping_norm_nothing_is_a_spike(make: Any, train: Any) -> None:
    classifier = make("full")
    guard = StabilityGuard(classifier, max_grad_norm=1e9)
    train(classifier, [Meddler(classifier, {20: 1e4}), guard])
    assert guard.steps == []


def test_gradients_are_clipped_as_a_trainer_clips(make: Any, train: Any) -> None:
    clipped, guarded = make("lora"), make("lora")
    train(clipped, [], max_grad_norm=0.05)
    train(guarded, [StabilityGuard(guarded, max_grad_norm=0.05)])
    for one, other in zip(clipped.parameters(), guarded.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_training_that_never_recovers_is_given_up(make: Any, train: Any) -> None:
    classifier = make("lora")
    poisoned = Meddler(classifier, {step: float("nan") for step in range(3, 41)})
    guard = StabilityGuard(classifier)
    with pytest.raises(NoAnswer, match="not finite for 10 steps on end, up to step 12; give a lower --learning-rate"):
        train(classifier, [poisoned, guard])
    assert len(guard.steps) == 10


def test_a_quiet_training_is_left_alone(make: Any, train: Any) -> None:
    classifier = make("dynamic")
    keeper = RankKeeper(classifier, SCHEDULE, None)
    guard = StabilityGuard(classifier, keeper)
    train(classifier, [keeper, guard])
    assert guard.steps == []
    assert keeper.history().final_total_rank == 16


def test_a_change_of_ranks_that_the_loss_does_not_bear_is_taken_back(make: Any, train: Any) -> None:
    classifier = make("dynamic")
    keeper = RankKeeper(classifier, SCHEDULE, None)
    leapt: list[int] = []

    def leap(_: Any, __: Any, output: Any) -> None:
        if keeper.changed_at_step is not None and not leapt:
            leapt.append(keeper.changed_at_step)
            output.loss = output.loss * 20

    classifier.register_forward_hook(leap)
    guard = StabilityGuard(classifier, keeper)
    meddler = Meddler(classifier, {})
    train(classifier, [meddler, keeper, guard])
    (told,) = guard.steps
    assert (told.step, told.remedy) == (leapt[0] + 1, "undone")
    assert f"after ranks were changed at step {leapt[0]}" in told.reason
    history = keeper.history()
    back = [decision for decision in history.decisions if decision.reason.startswith("taken back: the loss leapt")]
    assert {decision.step for decision in back} == {told.step}
    assert all(decision.rank_after == 6 for decision in back)
    assert history.final_total_rank == 16


def test_a_step_without_gradients_gives_no_importance(make: Any, train: Any) -> None:
    classifier = make("dynamic")
    keeper = RankKeeper(classifier, SCHEDULE, None)
    guard = StabilityGuard(classifier, keeper)
    train(classifier, [Meddler(classifier, {15: float("nan")}), keeper, guard])
    assert [step.step for step in guard.steps] == [15]
    assert 15 not in {decision.step for decision in keeper.history().decisions}
    assert keeper.history().final_total_rank == 16


def test_what_is_usual_survives_an_interruption(make: Any, train: Any) -> None:
    classifier = make("lora")
    guard = StabilityGuard(classifier)
    train(classifier, [Meddler(classifier, {20: 1e9}), guard])
    other = StabilityGuard(classifier)
    other.load_state_dict(guard.state_dict())
    assert other.state_dict() == guard.state_dict()
    assert other.steps == guard.steps
    assert isinstance(other.steps[0], UnstableStep)


@pytest.fixture
def make(tiny_bases: dict[str, Path]) -> Callable[[MethodName], TunedClassifier]:
    base = find_base(str(tiny_bases["bert"]))

    def build_by(method: MethodName) -> TunedClassifier:
        torch.manual_seed(1)
        return build(base, recipe_for(METHODS[method], base.name, ("a", "b", "c"), TrainingSpec(), SCHEDULE))

    return build_by


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., None]:
    draw = torch.Generator().manual_seed(3)
    ids = torch.randint(5, 300, (320, 12), generator=draw)
    rows: Any = [{"input_ids": row, "attention_mask": torch.ones_like(row), "labels": int(row[0]) % 3} for row in ids]

    def run(classifier: TunedClassifier, callbacks: list[Any], max_grad_norm: float = 0.0) -> None:
        arguments = TrainingArguments(
            output_dir=str(tmp_path),
            per_device_train_batch_size=8,
            num_train_epochs=1,
            learning_rate=1e-3,
            max_grad_norm=max_grad_norm,
            use_cpu=True,
            dataloader_pin_memory=False,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        Trainer(model=classifier, args=arguments, train_dataset=rows, callbacks=callbacks).train()

    return run


def test_what_overflows_by_the_scale_of_fp16_alone_is_left_to_its_scaler(make: Any) -> None:
    classifier = make("lora")
    guard = StabilityGuard(classifier)
    trained = [parameter for parameter in classifier.parameters() if parameter.requires_grad]

    def overflow(step: int, scale: float) -> None:
        for parameter in trained:
            parameter.grad = torch.full_like(parameter, float("inf"))
        optimiser = SimpleNamespace(scaler=SimpleNamespace(get_scale=lambda: scale))
        guard.on_pre_optimizer_step(None, SimpleNamespace(global_step=step - 1), None, optimizer=optimiser)

    for step in range(1, 17):
        overflow(step, 2.0**16 / 2**step * 2)
    assert guard.steps == []
    assert all(parameter.grad is None for parameter in trained), "no importance is taken of them"
    overflow(17, 1.0)
    assert [(step.step, step.remedy) for step in guard.steps] == [(17, "undone")]
