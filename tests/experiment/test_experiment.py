"""What is asked: read back as it was written, and every mistake told at once."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploycost.errors import UserError
from deploycost.experiment import (
    ARTIFACT_NAMES,
    METHOD_NAMES,
    USUAL_METHODS,
    DatasetSpec,
    Experiment,
    LoraSpec,
    TrainingSpec,
    make_experiment,
    read_experiment,
    write_experiment,
)


@given(
    methods=st.lists(st.sampled_from(METHOD_NAMES), min_size=1, unique=True),
    artifacts=st.lists(st.sampled_from(ARTIFACT_NAMES), min_size=1, unique=True),
    rank=st.integers(1, 1024),
    rate=st.none() | st.floats(1e-7, 1),
    source=st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1),
)
def test_an_experiment_comes_back_from_yaml(
    tmp_path_factory: pytest.TempPathFactory,
    methods: list[Any],
    artifacts: list[Any],
    rank: int,
    rate: float | None,
    source: str,
) -> None:
    asked = Experiment(
        model="minilm",
        dataset=DatasetSpec(source=source, train_rows=100),
        methods=tuple(methods),
        artifacts=tuple(artifacts),
        training=TrainingSpec(learning_rate=rate, lora=LoraSpec(rank=rank)),
    )
    path = tmp_path_factory.mktemp("experiment") / "experiment.yaml"
    path.write_text(write_experiment(asked), encoding="utf-8")
    assert read_experiment(path) == asked


def test_what_is_not_said_is_as_in_the_literature() -> None:
    asked = make_experiment({})
    assert (asked.model, asked.dataset.source) == ("distilbert-base-uncased", "ag_news")
    assert asked.methods == USUAL_METHODS
    assert asked.artifacts == ("onnx-fp32", "onnx-int8")
    assert (asked.training.epochs, asked.training.prompt.virtual_tokens, asked.training.lora.rank) == (5, 20, 8)
    assert asked.load.slo_p95_ms == 100


@pytest.mark.parametrize(
    ("given_methods", "methods"),
    [
        ("all", METHOD_NAMES),
        ("qlora,full", ("qlora", "full")),
        (" qlora , full ", ("qlora", "full")),
        (["lora", "lora", "full"], ("lora", "full")),
        (["lora", "all"], METHOD_NAMES),
        ("stacked", ("stacked",)),
    ],
)
def test_methods_are_a_list_or_all(given_methods: Any, methods: tuple[str, ...]) -> None:
    assert make_experiment({"methods": given_methods}).methods == methods


def test_artifacts_are_a_list_or_all() -> None:
    assert make_experiment({"artifacts": "onnx-int8"}).artifacts == ("onnx-int8",)
    assert make_experiment({"artifacts": "all"}).artifacts == ARTIFACT_NAMES
    assert make_experiment({"artifacts": "fast"}).artifacts == ("onnx-int8", "openvino-bf16", "openvino-int8")
    assert make_experiment({"artifacts": "none"}).artifacts == ()
    assert make_experiment({"artifacts": []}).artifacts == ()


def test_alpha_is_twice_the_rank_unless_given() -> None:
    assert LoraSpec(rank=6).scaling_alpha == 12
    assert LoraSpec(rank=6, alpha=5).scaling_alpha == 5


@pytest.mark.parametrize(
    ("training", "slugs"),
    [
        (
            {},
            ["full", "lora-r8", "qlora-r8", "prompt-p20", "prefix-p20", "adapter-pfeiffer-16", "dynamic-r8",
             "stacked-r8-p20"],
        ),
        (
            {"lora": {"rank": 16}, "prompt": {"virtual_tokens": 5}, "bits": 4,
             "adapter": {"placement": "houlsby", "reduction_factor": 2}},
            ["full", "lora-r16", "qlora-r16", "prompt-p5", "prefix-p5", "adapter-houlsby-2", "dynamic-r16-b4",
             "stacked-r16-p5"],
        ),
        (
            {"bits": 8, "prompt": {"layers": "1,3-4"}, "dynamic": {"memory_budget": "512MiB"}},
            ["full", "lora-r8", "qlora-r8-b8", "prompt-p20-1+3-4", "prefix-p20", "adapter-pfeiffer-16",
             "dynamic-m512-b8", "stacked-r8-b8-p20-1+3-4"],
        ),
        (
            {"prompt": {"layers": "late"}},
            ["full", "lora-r8", "qlora-r8", "prompt-p20-late", "prefix-p20", "adapter-pfeiffer-16", "dynamic-r8",
             "stacked-r8-p20-late"],
        ),
    ],
)  # fmt: skip
def test_slugs_name_what_tells_variants_apart(training: dict[str, Any], slugs: list[str]) -> None:
    asked = make_experiment({"training": training})
    assert [asked.method_slug(method) for method in METHOD_NAMES] == slugs


def test_targets_are_a_list() -> None:
    assert make_experiment({"training": {"lora": {"targets": "query, key"}}}).training.lora.targets == ("query", "key")


def _refusal(content: dict[str, Any]) -> str:
    with pytest.raises(UserError) as refusal:
        make_experiment(content)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_all_mistakes_are_told_at_once_with_their_places() -> None:
    said = _refusal(
        {
            "modle": "minilm",
            "methods": ["lora", "qlroa"],
            "artifacts": "onnx-int9",
            "dataset": {"train_row": 10},
            "training": {"epochs": 0, "lora": {"rnak": 4}, "learning_rate": "fast"},
            "quote": {"utilisation_ratio": 1.5},
        }
    )
    assert said.startswith("request: ")
    for part in (
        "modle: unknown field (did you mean 'model'?)",
        f"methods.1: unknown 'qlroa' (did you mean 'qlora'?); known: {', '.join(METHOD_NAMES)}",
        f"artifacts.0: unknown 'onnx-int9' (did you mean 'onnx-int8'?); known: {', '.join(ARTIFACT_NAMES)}",
        "dataset.train_row: unknown field (did you mean 'train_rows'?)",
        "training.epochs: input should be greater than or equal to 1, got 0",
        "training.lora.rnak: unknown field (did you mean 'rank'?)",
        "training.learning_rate: input should be a valid number, unable to parse string as a number, got 'fast'",
        "quote.utilisation_ratio: input should be less than or equal to 1, got 1.5",
    ):
        assert part in said
    assert said.count("; ") == 7 + 2, "eight mistakes, two of which name what is known"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"methods": []}, "methods: expected at least one, or a trained model that is brought (--from)"),
        ({"methods": 5}, "methods: input should be a valid tuple"),
        ({"methods": [{"name": "lora"}]}, "methods.0: unknown {'name': 'lora'}"),
        ({"methods": [["lora"]]}, "methods.0: unknown ['lora']"),
        ({"methods": ""}, "methods.0: unknown ''; known: full"),
        ({"training": 5}, "training: input should be a valid dictionary"),
        (
            {"training": {"prompt": {"virtual_tokens": 512}}},
            "training.prompt.virtual_tokens: input should be less than or equal to 511",
        ),
        ({"training": {"prompt": {"layers": "upper"}}}, "training.prompt.layers: string should match pattern"),
        ({"training": {"prompt": {"text": "news"}}}, "training.prompt: a text to start from is read only"),
        ({"training": {"bits": 3}}, "training.bits: unknown 3"),
        ({"training": {"dynamic": {"memory_budget": "much"}}}, "training.dynamic.memory_budget: could not parse value"),
        ({"telemetry": {"report_to": "wandbb"}}, "unknown 'wandbb' (did you mean 'wandb'?)"),
        ({"training": {"max_tokens": 7}}, "training.max_tokens: input should be greater than or equal to 8"),
        ({"training": {"lora": {"dropout": 1}}}, "training.lora.dropout: input should be less than 1"),
        ({"load": {"slo_p95_ms": float("nan")}}, "load.slo_p95_ms: input should be"),
        ({"quote": {"requests_per_month": 0}}, "quote.requests_per_month: input should be greater"),
        # In JSON, as the training process gets it, infinity is a field that was not given.
        ({"training": {"learning_rate": float("inf")}}, "training.learning_rate: input should be a finite number"),
        ({"quote": {"cold_start_s": float("inf")}}, "quote.cold_start_s: input should be a finite number"),
        (
            {"training": {"lora": {"alpha": 10**400}}},
            "training.lora.alpha: input should be less than or equal to 65536",
        ),
        ({"training": {"seed": -1}}, "training.seed: input should be greater than or equal to 0, got -1"),
        ({"training": {"seed": 2**32}}, "training.seed: input should be less than 4294967296"),
    ],
)
def test_each_mistake_is_one_clear_line(content: dict[str, Any], said: str) -> None:
    assert said in _refusal(content)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a mapping such as 'model: minilm', got NoneType"),
        ("- lora\n", "expected a mapping such as 'model: minilm', got list"),
        ("a: [1\nb: 2\n", "is not YAML: "),
        ("model: !!python/object/apply:os.getcwd []\n", "is not YAML: could not determine a constructor"),
        ("methods: [lora, qlroa]\n", "methods.1: unknown 'qlroa' (did you mean 'qlora'?)"),
    ],
)
def test_a_file_that_is_wrong_is_one_line_that_names_it(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as refusal:
        read_experiment(path)
    assert str(path) in str(refusal.value)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read experiment .*No such file"):
        read_experiment(tmp_path / "gone.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is not YAML"):
        read_experiment(tmp_path / "bytes.yaml")


def test_nothing_can_be_changed_once_it_is_made() -> None:
    asked = make_experiment({})
    with pytest.raises(ValueError, match="frozen"):
        asked.model = "other"  # pyright: ignore[reportAttributeAccessIssue]
