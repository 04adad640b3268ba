"""The methods side by side: each is told, and only what it uses decides what it comes to."""

import re
from pathlib import Path

import pytest

from deploycost.experiment import METHOD_NAMES, MethodName, TrainingSpec
from deploycost.methods import METHODS, decisive_fields, readers_of, unused_parts


def test_there_is_one_of_every_name() -> None:
    assert tuple(METHODS) == METHOD_NAMES


def test_batches_are_those_of_the_literature() -> None:
    assert METHODS["full"].batch_size == 16
    assert {method.batch_size for name, method in METHODS.items() if name != "full"} == {8}


def test_only_what_a_method_has_is_given_a_rate() -> None:
    for method in METHODS.values():
        assert (method.prompt_learning_rate > 0) == (method.prompting != "none")
        assert (method.singular_value_learning_rate > 0) == method.allocated_ranks


def test_rates_keep_their_proportion() -> None:
    # Virtual tokens at 5e-3 where the others learn at 1e-3; singular values at 64 times theirs.
    assert METHODS["prompt"].learning_rates(3e-3) == pytest.approx((3e-3, 15e-3, 0))
    assert METHODS["dynamic"].learning_rates(None) == pytest.approx((1e-3, 0, 64e-3))


@pytest.mark.parametrize(
    ("method", "asked", "bits"),
    [
        ("full", 4, None),
        ("lora", 8, None),
        ("qlora", None, 4),
        ("qlora", 8, 8),
        ("dynamic", None, None),
        ("dynamic", 4, 4),
        ("stacked", None, 4),
    ],
)
def test_bits_of_the_frozen_base(method: MethodName, asked: int | None, bits: int | None) -> None:
    assert METHODS[method].bits(asked) == bits  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("method", "used"),
    [
        ("full", set()),
        ("lora", {"lora"}),
        ("qlora", {"lora", "bits"}),
        ("prompt", {"prompt"}),
        ("prefix", {"prompt", "prefix"}),
        ("adapter", {"adapter"}),
        ("dynamic", {"lora", "dynamic", "bits"}),
        ("stacked", {"lora", "prompt", "bits"}),
    ],
)
def test_what_a_method_does_not_use_is_told(method: MethodName, used: set[str]) -> None:
    unused = set(unused_parts(METHODS[method]))
    assert unused == {"lora", "prompt", "prefix", "adapter", "dynamic", "bits"} - used
    assert unused <= set(TrainingSpec.model_fields)


def test_flags_of_all_methods_are_none_of_their_own() -> None:
    assert readers_of("--bits") == ["qlora", "dynamic", "stacked"]
    assert readers_of("--epochs") == []


@pytest.mark.parametrize(
    ("method", "one", "other"),
    [
        ("qlora", {}, {"bits": 4}),
        ("stacked", {}, {"bits": 4}),
        ("prefix", {}, {"prompt": {"layers": "late"}}),
        ("full", {}, {"bits": 8, "lora": {"rank": 2}}),
    ],
)
def test_what_comes_to_the_same_is_the_same(
    method: MethodName, one: dict[str, object], other: dict[str, object]
) -> None:
    told = [decisive_fields(METHODS[method], TrainingSpec.model_validate(spec)) for spec in (one, other)]
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("method", "changes"),
    [("qlora", {"bits": 8}), ("dynamic", {"bits": 4}), ("prompt", {"prompt": {"layers": "late"}})],
)
def test_what_does_not_is_not(method: MethodName, changes: dict[str, object]) -> None:
    changed = TrainingSpec.model_validate(changes)
    assert decisive_fields(METHODS[method], changed) != decisive_fields(METHODS[method], TrainingSpec())


def test_the_readme_tells_the_flags_of_every_method() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    told: dict[str, set[str]] = {}
    for name, last in re.findall(r"^\| `(\w+)` \|.*\|([^|]*)\|$", readme, flags=re.MULTILINE):
        # "those of `qlora`" stands for the flags of a row above.
        of_others = [told[other] for other in re.findall(r"`(\w+)`", last)]
        told[name] = set(re.findall(r"--[\w-]+", last)).union(*of_others)
    assert told == {name: set(method.flags) for name, method in METHODS.items()}
