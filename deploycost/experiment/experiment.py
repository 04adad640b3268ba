"""The whole of what was asked, and how it is read from a mapping or a YAML file and written to one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from deploycost.errors import UserError
from deploycost.experiment.base import Frozen, comma_list
from deploycost.experiment.load import LoadSpec
from deploycost.experiment.mistakes import told_mistakes
from deploycost.experiment.names import (
    ARTIFACT_NAMES,
    FAST_ARTIFACTS,
    LITERATURE_DATASET,
    LITERATURE_MODEL,
    METHOD_NAMES,
    USUAL_ARTIFACTS,
    USUAL_METHODS,
    ArtifactName,
    MethodName,
)
from deploycost.experiment.quote import QuoteSpec
from deploycost.experiment.training import TelemetrySpec, TrainingSpec
from serving.bundle import Task


class DatasetSpec(Frozen):
    """Which labelled texts: a hub id, a folder or file, or `demo`; what their labels are; how many rows of them.

    Of tasks other than single-label, methods train none: their texts are for models that are brought.
    """

    source: str = LITERATURE_DATASET
    task: Task = "single-label"
    text_column: str = "text"
    label_column: str = "label"
    train_rows: int | None = Field(default=None, ge=2)
    test_rows: int | None = Field(default=None, ge=2)


class ExportSpec(Frozen):
    """How artifacts are made of a trained model, where there is a choice."""

    trim_vocabulary: bool = Field(default=False, description="embeddings of the words of the training texts only")
    accuracy_aware: bool = Field(default=False, description="openvino-int8 gives operators back until accuracy holds")


class BroughtSpec(Frozen):
    """A trained model that is brought: where from, under which name, and what its own files may leave open.

    `source` is a folder, an ONNX file or a hub id; `base` what an adapter was trained on, where its config does not
    say; `bits` the precision of that base while it was. `max_tokens` None: as many as the model takes.
    """

    source: str
    name: str = Field(default="own", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")
    task: Task | None = None
    base: str | None = None
    bits: Literal[4, 8] | None = None
    tokenizer: str | None = None
    max_tokens: int | None = Field(default=None, ge=8)

    @field_validator("name")
    @classmethod
    def _not_taken(cls, value: str) -> str:
        if value.partition("-")[0] in (*METHOD_NAMES, "quotes"):
            raise ValueError(f"{value!r} is kept for what is made here; choose another with --name")
        return value


class Experiment(Frozen):
    """One run: the same base model, tuned by each method, as each artifact, under one load and price question.

    Models that are `brought` stand beside the tuned ones, judged on the same texts; then there may be no method.
    """

    model: str = LITERATURE_MODEL
    dataset: DatasetSpec = DatasetSpec()
    methods: tuple[MethodName, ...] = USUAL_METHODS
    brought: tuple[BroughtSpec, ...] = ()
    artifacts: tuple[ArtifactName, ...] = Field(default=USUAL_ARTIFACTS, description="none: train only")
    training: TrainingSpec = TrainingSpec()
    telemetry: TelemetrySpec = TelemetrySpec()
    export: ExportSpec = ExportSpec()
    load: LoadSpec = LoadSpec()
    quote: QuoteSpec = QuoteSpec()

    @field_validator("methods", "artifacts", mode="before")
    @classmethod
    def _expand_all(cls, value: Any, info: Any) -> Any:  # noqa: ANN401 - raw user input
        names = METHOD_NAMES if info.field_name == "methods" else ARTIFACT_NAMES
        value = comma_list(value)
        if info.field_name == "artifacts" and value == ["none"]:
            return ()
        if info.field_name == "artifacts" and value == ["fast"]:
            return FAST_ARTIFACTS
        if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
            return names if "all" in value else tuple(dict.fromkeys(value))
        return value

    @model_validator(mode="after")
    def _has_models_it_can_make(self) -> Experiment:
        if not self.methods and not self.brought:
            raise ValueError("methods: expected at least one, or a trained model that is brought (--from)")
        if self.methods and self.dataset.task != "single-label":
            raise ValueError(
                f"methods train single-label classifiers only; bring a trained {self.dataset.task} model with --from"
            )
        names = [each.name for each in self.brought]
        if len(set(names)) < len(names):
            raise ValueError(f"brought: one name for two models ({', '.join(names)})")
        return self

    def method_slug(self, method: MethodName) -> str:
        """The folder and variant name of a method with its hyper-parameters, as in `qlora-r8` or `stacked-r8-p20`."""
        return "-".join([method, *_slug_parts(self.training)[method]])


def _slug_parts(training: TrainingSpec) -> dict[MethodName, list[str]]:
    rank = f"r{training.lora.rank}"
    bits = [f"b{training.bits}"] if training.bits not in (None, 4) else []
    tokens = f"p{training.prompt.virtual_tokens}"
    prompt = [tokens, *([training.prompt.layers.replace(",", "+")] if training.prompt.layers else [])]
    budget = training.dynamic.memory_budget
    ranks = rank if budget is None else f"m{budget // 2**20}"
    return {
        "full": [],
        "lora": [rank],
        "qlora": [rank, *bits],
        "prompt": prompt,
        "prefix": [tokens],
        "adapter": [training.adapter.placement, str(training.adapter.reduction_factor)],
        "dynamic": [ranks, *([f"b{training.bits}"] if training.bits else [])],
        "stacked": [rank, *bits, *prompt],
    }


def read_experiment(path: Path) -> Experiment:
    """The `Experiment` in a YAML file.

    Raises:
        UserError: the file cannot be read or is not YAML, or all mistakes of its fields, in one line.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read experiment {path}: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping such as 'model: minilm', got {type(content).__name__}")
    return make_experiment(content, origin=str(path))


def make_experiment(content: dict[str, Any], origin: str = "request") -> Experiment:
    """The `Experiment` in a mapping; `origin` names it in the error.

    Raises:
        UserError: all mistakes in one line, each with its path and, for names, the nearest match.
    """
    try:
        return Experiment.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{origin}: {told_mistakes(error, Experiment)}") from None


def write_experiment(experiment: Experiment) -> str:
    """The experiment as the YAML that `read_experiment` takes, in the order of its fields."""
    return yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False)
