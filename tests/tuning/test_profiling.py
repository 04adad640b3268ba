"""Profiles of real training steps of tiny encoders: the groups add up to the step, and the trace can be read."""

import gzip
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploycost.dataset import Dataset
from deploycost.errors import UserError
from deploycost.experiment import Experiment, TrainingSpec
from deploycost.models.base import find_base
from deploycost.records import ProfileRecord
from deploycost.tuning.operators import RANGES
from deploycost.tuning.profiling import STEPS, profile
from deploycost.tuning.training import TuningJob

Profiled = Callable[..., tuple[ProfileRecord, Path]]


@pytest.fixture(scope="module")
def profiled(tiny_bases: dict[str, Path], toy_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Profiled:
    """Profiles a method on a family, once each: `profiled("bert", "qlora", bits=8)`."""
    done: dict[str, tuple[ProfileRecord, Path]] = {}

    def make(family: str, method: Any, **training: Any) -> tuple[ProfileRecord, Path]:
        if (key := f"{family} {method} {training}") in done:
            return done[key]
        base = find_base(str(tiny_bases[family]))
        spec = TrainingSpec.model_validate({"max_tokens": 48, "prompt": {"virtual_tokens": 4}} | training)
        experiment = Experiment(model=base.name, methods=(method,), training=spec)
        folder = tmp_path_factory.mktemp("profile")
        done[key] = profile(TuningJob(experiment, method, base, toy_dataset, "mark"), folder), folder
        return done[key]

    return make


@pytest.mark.parametrize(
    ("family", "method", "training"),
    [
        ("bert", "full", {}),
        ("distilbert", "lora", {"mixed_precision": False}),
        ("roberta", "stacked", {}),
        ("bert", "qlora", {"bits": 4}),
        ("bert", "qlora", {"bits": 8}),
        ("bert", "full", {"gradient_checkpointing": True}),
    ],
)
def test_the_groups_add_up_to_the_step(profiled: Profiled, family: str, method: str, training: dict[str, Any]) -> None:
    record, _ = profiled(family, method, **training)
    assert record.step_ms > 0
    assert sum(part.time_ms for part in record.times) == pytest.approx(record.step_ms, rel=0.1)
    assert all(part.time_ms >= 0 for part in record.times)


def test_where_the_time_goes_is_told_by_phase_and_group(profiled: Profiled) -> None:
    record, _ = profiled("bert", "full")
    assert (record.fingerprint, record.method, record.slug, record.steps) == ("mark", "full", "full", STEPS)
    times = {(part.phase, part.group): part for part in record.times}
    assert len(times) == len(record.times)
    for phase in ("forward", "backward"):
        for group in ("matmul", "attention", "other"):
            assert times[phase, group].time_ms > 0
            assert times[phase, group].calls >= 1
        assert times[phase, "quantisation"].time_ms == times[phase, "quantisation"].calls == 0
    assert times["update", "optimiser"].time_ms > 0
    # Two layers of query, key, value, output and two of the feed-forward block; then pooler and classifier.
    assert times["forward", "matmul"].calls == 2 * 6 + 2
    # Each with a gradient of its weights and, but for the lowest, of its input: all are above trained embeddings here.
    assert times["backward", "matmul"].calls == 2 * (2 * 6 + 2)
    assert times["forward", "attention"].calls == 2


@pytest.mark.parametrize("bits", [4, 8])
def test_quantised_layers_spend_time_on_it_in_both_directions(profiled: Profiled, bits: int) -> None:
    record, _ = profiled("bert", "qlora", bits=bits)
    times = {(part.phase, part.group): part for part in record.times}
    assert times["forward", "quantisation"].time_ms > 0
    assert times["backward", "quantisation"].time_ms > 0
    # 12 quantised layers, 4 adapters of two matrices, pooler and classifier.
    assert times["forward", "matmul"].calls == 12 + 4 * 2 + 2


def test_the_trace_can_be_read(profiled: Profiled) -> None:
    record, folder = profiled("bert", "full")
    with gzip.open(folder / record.trace_file, "rt", encoding="utf-8") as file:
        events = json.load(file)["traceEvents"]
    names = Counter(event["name"] for event in events if event.get("cat") == "user_annotation")
    assert {names[name] for name in RANGES.values()} == {STEPS}
    assert any(event["name"] == "aten::addmm" for event in events)
    assert [path.name for path in folder.iterdir()] == [record.trace_file], "no weights are kept"


def test_few_texts_are_used_again(profiled: Profiled) -> None:
    # 180 texts; nine steps of 32 would need 288.
    record, _ = profiled("bert", "lora", batch_size=32)
    assert record.step_ms > 0


def test_what_does_not_fit_is_one_line(profiled: Profiled) -> None:
    with pytest.raises(UserError, match="rank 64") as refusal:
        profiled("bert", "lora", lora={"rank": 64})
    assert "\n" not in str(refusal.value)


def test_the_update_of_allocated_ranks_counts_what_allocates_them(profiled: Profiled) -> None:
    calls = {}
    for method in ("lora", "dynamic"):
        record, _ = profiled("bert", method)
        calls[method] = sum(part.calls for part in record.times if part.phase == "update")
    # Importance is taken of three tensors of each of four matrices, with some ten operators each.
    assert calls["dynamic"] > calls["lora"] + 100
