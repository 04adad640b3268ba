"""Ranks that follow importance: planned within a budget, allocated by a real training, explained, and resumed."""
# ruff: noqa: TID253 - these test what is made of the framework

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import Trainer, TrainerCallback, TrainingArguments

from deploycost.encoder_shape import EncoderShape
from deploycost.errors import UserError
from deploycost.experiment import TrainingSpec
from deploycost.methods import METHODS
from deploycost.models.base import find_base
from deploycost.models.classifier import TunedClassifier, build
from deploycost.models.recipe import RankSchedule
from deploycost.training_memory import Setting, load_of, predict
from deploycost.tuning.ranks import RankKeeper, layer_word, plan_ranks
from deploycost.tuning.recipes import recipe_for
from deploycost.units import MIB

DYNAMIC = METHODS["dynamic"]
MINILM_LIKE = EncoderShape(
    "bert", layers=6, hidden=384, heads=12, ffn_width=1536, vocabulary=30522, positions=512, token_types=2
)
SETTING = Setting(labels=4, tokens=128, half_precision=True)
SCHEDULE = RankSchedule(
    initial_rank=6, target_rank=4, total_steps=20, warm_up_steps=2, settling_steps=6, interval_steps=1
)


def plan(budget: int | None = None, steps: int = 200, **training: Any) -> RankSchedule:
    spec = TrainingSpec.model_validate({"dynamic": {"memory_budget": budget}} | training)
    return plan_ranks(DYNAMIC, spec, MINILM_LIKE, SETTING, steps)


def needed(initial_rank: int) -> int:
    return predict(MINILM_LIKE, load_of(DYNAMIC, TrainingSpec(), MINILM_LIKE, SETTING, initial_rank)).total


def test_without_a_budget_the_mean_final_rank_is_the_one_asked_for() -> None:
    # 20 steps warm up, 60 settle, and the 120 between hold 20 allocations.
    assert plan() == RankSchedule(
        initial_rank=12, target_rank=8, total_steps=200, warm_up_steps=20, settling_steps=60, interval_steps=6
    )


def test_a_budget_buys_the_largest_rank_whose_beginning_fits() -> None:
    schedule = plan(needed(15))
    assert (schedule.initial_rank, schedule.target_rank) == (15, 10)
    assert plan(needed(15) - 1).target_rank == 9


def test_an_ample_budget_ends_at_the_largest_rank_allowed() -> None:
    assert plan(2**32).target_rank == 32
    assert plan(2**32, dynamic={"memory_budget": 2**32, "max_rank": 5}).target_rank == 5


@given(st.integers(needed(2), 4 * needed(2)), st.integers(0, 2**30))
def test_a_larger_budget_never_buys_a_smaller_rank_and_none_is_overdrawn(budget: int, more: int) -> None:
    schedule = plan(budget)
    assert needed(schedule.initial_rank) <= budget
    assert plan(budget + more).target_rank >= schedule.target_rank


def test_a_budget_too_small_for_any_rank_says_what_would_do() -> None:
    with pytest.raises(UserError) as told:
        plan(64 * MIB)
    message = str(told.value)
    least = -(-needed(2) // MIB)
    assert message.startswith("memory budget 64MiB is too small for any rank")
    assert f"--memory-budget {least}MiB" in message
    assert "--gradient-checkpointing" in message
    assert "--batch-size 4" in message
    assert "\n" not in message
    assert plan(least * MIB).target_rank >= 1


def test_a_rank_as_wide_as_the_layer_is_refused() -> None:
    with pytest.raises(UserError, match=r"rank 384 is not below the layer width 384.*--rank 192"):
        plan(lora={"rank": 384})
    assert plan(lora={"rank": 300}).initial_rank == 384


def test_too_few_steps_are_refused() -> None:
    with pytest.raises(UserError, match=r"at least 4 training steps.*here are 3"):
        plan(steps=3)


@given(st.integers(4, 10_000))
def test_a_schedule_leaves_room_to_allocate(steps: int) -> None:
    schedule = plan(steps=steps)
    between = steps - schedule.warm_up_steps - schedule.settling_steps
    assert between >= 2
    assert 1 <= schedule.interval_steps <= between


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("bert.encoder.layer.2.attention.self.query.lora_E.default", "layer 3 query"),
        ("distilbert.transformer.layer.0.ffn.lin2.lora_E.default", "layer 1 feed-forward out"),
        ("some.block.4.mixer.lora_E.default", "layer 5 mixer"),
    ],
)
def test_layers_are_told_in_the_words_of_the_field(name: str, word: str) -> None:
    assert layer_word(name) == word


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
def test_ranks_end_on_the_target_and_each_change_is_explained(
    family: str, tiny_bases: dict[str, Path], rows: Any, train: Any
) -> None:
    classifier, keeper = make(tiny_bases[family])
    train(classifier, rows, [keeper])
    history = keeper.history()
    assert history.initial_total_rank == 4 * 6
    assert history.final_total_rank == sum(history.final_ranks.values()) == 4 * 4
    assert set(history.final_ranks) == {f"layer {layer} {matrix}" for layer in (1, 2) for matrix in ("query", "value")}
    followed: dict[str, int] = defaultdict(lambda: 6)
    for decision in history.decisions:
        assert decision.rank_before == followed[decision.layer] != decision.rank_after
        assert 2 < decision.step <= 14
        assert decision.importance >= 0
        assert f"{abs(decision.rank_after - decision.rank_before)} of its ranks matter" in decision.reason
        followed[decision.layer] = decision.rank_after
    assert {layer: followed[layer] for layer in history.final_ranks} == history.final_ranks


def test_ranks_told_are_the_singular_values_left(tiny_bases: dict[str, Path], rows: Any, train: Any) -> None:
    classifier, keeper = make(tiny_bases["bert"])
    train(classifier, rows, [keeper])
    left = {
        layer_word(name.partition("base_model.model.")[2]): int(value.count_nonzero())
        for name, value in classifier.model.named_parameters()
        if "lora_E" in name
    }
    assert left == keeper.history().final_ranks


def test_a_training_taken_up_decides_as_an_uninterrupted_one(
    tiny_bases: dict[str, Path], rows: Any, train: Any
) -> None:
    class Interrupted(TrainerCallback):
        """At a step, puts a new keeper in the place of the old one, by way of its state."""

        def __init__(self, classifier: TunedClassifier, keeper: RankKeeper) -> None:
            self.classifier, self.keeper = classifier, keeper

        def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 9:
                kept = self.keeper.state_dict()
                self.classifier.model.base_model.rankallocator.reset_ipt()  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
                self.keeper = RankKeeper(self.classifier, SCHEDULE, None)
                self.keeper.load_state_dict(kept)
            self.keeper.on_optimizer_step(args, state, control, **kwargs)

    whole_classifier, whole = make(tiny_bases["bert"])
    train(whole_classifier, rows, [whole])
    classifier, keeper = make(tiny_bases["bert"])
    interrupted = Interrupted(classifier, keeper)
    train(classifier, rows, [interrupted])
    assert interrupted.keeper is not keeper
    assert interrupted.keeper.history() == whole.history()


def test_a_change_taken_back_restores_ranks_and_values_and_holds(
    tiny_bases: dict[str, Path], rows: Any, train: Any
) -> None:
    class TakesBack(TrainerCallback):
        """Takes the first change of ranks back, right before the next step."""

        changed_at: int | None = None

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if self.changed_at is not None or keeper.changed_at_step is None:
                return
            self.changed_at = keeper.changed_at_step
            assert self.changed_at == state.global_step
            assert keeper.history().final_total_rank < 24
            keeper.take_back(state.global_step + 1, "taken back: a test")
            assert keeper.history().final_total_rank == 24
            assert sum(int(v.count_nonzero()) for n, v in classifier.named_parameters() if "lora_E" in n) == 24

    classifier, keeper = make(tiny_bases["bert"])
    watcher = TakesBack()
    train(classifier, rows, [watcher, keeper])
    decisions = keeper.history().decisions
    taken_back = [decision for decision in decisions if decision.reason == "taken back: a test"]
    assert watcher.changed_at is not None
    assert {decision.step for decision in taken_back} == {watcher.changed_at + 1}
    # Ten steps are held, but never the last allocation, which the target depends on.
    later = {decision.step for decision in decisions if decision.step > watcher.changed_at + 1}
    assert min(later) >= min(watcher.changed_at + 11, 14)
    assert keeper.history().final_total_rank == 16


def make(base_folder: Path, schedule: RankSchedule = SCHEDULE) -> tuple[TunedClassifier, RankKeeper]:
    base = find_base(str(base_folder))
    torch.manual_seed(1)
    classifier = build(base, recipe_for(DYNAMIC, base.name, ("a", "b", "c"), TrainingSpec(), schedule))
    return classifier, RankKeeper(classifier, schedule, None)


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    draw = torch.Generator().manual_seed(3)
    ids = torch.randint(5, 300, (160, 12), generator=draw)
    return [{"input_ids": row, "attention_mask": torch.ones_like(row), "labels": int(row[0]) % 3} for row in ids]


@pytest.fixture
def train(tmp_path: Path) -> Callable[[TunedClassifier, Any, list[Any]], None]:
    def run(classifier: TunedClassifier, rows: Any, callbacks: list[Any]) -> None:
        arguments = TrainingArguments(
            output_dir=str(tmp_path),
            per_device_train_batch_size=8,
            num_train_epochs=1,
            learning_rate=1e-2,
            max_grad_norm=0.0,
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


class DropsSteps(TrainerCallback):
    """Takes the gradients of chosen steps (from 1) away, as the guard does with those that are not finite."""

    def __init__(self, classifier: TunedClassifier, steps: set[int]) -> None:
        self.classifier, self.steps = classifier, steps

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step + 1 in self.steps:
            for parameter in self.classifier.parameters():
                parameter.grad = None


@pytest.mark.parametrize("dropped", [{14}, {14, 15, 16}, set(range(1, 15))])
def test_the_last_allocation_is_made_up_for_where_its_step_was_dropped(
    tiny_bases: dict[str, Path], rows: Any, train: Any, dropped: set[int]
) -> None:
    # Set anew at step 7 and, for good, at step 14.
    schedule = SCHEDULE.model_copy(update={"interval_steps": 7})
    classifier, keeper = make(tiny_bases["bert"], schedule)
    train(classifier, rows, [DropsSteps(classifier, dropped), keeper])
    history = keeper.history()
    assert history.final_total_rank == 16
    assert max(decision.step for decision in history.decisions) == max(dropped) + 1
    left = sum(int(v.count_nonzero()) for n, v in classifier.named_parameters() if "lora_E" in n)
    assert left == 16


def test_the_last_allocation_is_not_made_twice_after_an_interruption(
    tiny_bases: dict[str, Path], rows: Any, train: Any
) -> None:
    classifier, keeper = make(tiny_bases["bert"])
    train(classifier, rows, [keeper])
    other = RankKeeper(classifier, SCHEDULE, None)
    other.load_state_dict(keeper.state_dict())
    assert other.state_dict()["finalised"]
    assert other.history() == keeper.history()


def test_a_change_taken_up_lies_where_the_weights_do(tiny_bases: dict[str, Path], rows: Any, train: Any) -> None:
    class Stops(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = state.global_step == 9

    classifier, keeper = make(tiny_bases["bert"])
    train(classifier, rows, [keeper, Stops()])
    kept = keeper.state_dict()
    assert kept["last_change"] is not None
    # Meta tensors stand for those of a GPU: neither can be mixed with what is on the CPU.
    other = RankKeeper(classifier.to("meta"), SCHEDULE, None)
    other.load_state_dict(kept)
    moved = other.state_dict()["last_change"]["values"].values()
    assert {value.device.type for value in moved} == {"meta"}
