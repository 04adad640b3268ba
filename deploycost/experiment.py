"""What was asked: an `Experiment`, read from flags or a YAML file, frozen, with every mistake reported at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ByteSize, ConfigDict, Field, ValidationError, field_validator, model_validator

from deploycost.errors import UserError, nearest
from serving.bundle import Task

MethodName = Literal["full", "lora", "qlora", "prompt", "prefix", "adapter", "dynamic", "stacked"]
ArtifactName = Literal[
    "torch-fp32", "torch-bf16", "torch-nf4", "torch-int8",
    "onnx-fp32", "onnx-fp16", "onnx-int8", "onnx-int8-static",
    "openvino-fp32", "openvino-bf16", "openvino-int8",
]  # fmt: skip
PrecisionGoal = Literal["quick", "normal", "tight"]
TrackerName = Literal["none", "tensorboard", "wandb", "mlflow", "trackio"]
METHOD_NAMES: tuple[MethodName, ...] = get_args(MethodName)
ARTIFACT_NAMES: tuple[ArtifactName, ...] = get_args(ArtifactName)
# What runs wherever this product does; and what is built in seconds and costs least to serve.
USUAL_ARTIFACTS: tuple[ArtifactName, ...] = ("onnx-fp32", "onnx-int8")
FAST_ARTIFACTS: tuple[ArtifactName, ...] = ("onnx-int8", "openvino-bf16", "openvino-int8")
# The literature's four configurations, and plain LoRA beside its quantised form.
USUAL_METHODS: tuple[MethodName, ...] = ("full", "lora", "qlora", "prompt", "stacked")

LITERATURE_MODEL = "distilbert-base-uncased"
LITERATURE_DATASET = "ag_news"
EMBEDDED_MODEL = "minilm"
EMBEDDED_DATASET = "demo"


class Frozen(BaseModel):
    """A record that refuses unknown fields and cannot be changed once made."""

    # JSON has no infinity: it would reach the process that trains as a field that was not given.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, allow_inf_nan=False)


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


class LoraSpec(Frozen):
    """Low-rank adapters (Hu et al., 2021): rank r, alpha = 2r unless given, dropout on the adapter's input."""

    rank: int = Field(default=8, ge=1, le=1024)
    alpha: int | None = Field(default=None, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    targets: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="names of the matrices adapted; None: query and value"
    )

    @field_validator("targets", mode="before")
    @classmethod
    def _split_commas(cls, value: Any) -> Any:  # noqa: ANN401 - raw user input
        return _comma_list(value)

    @property
    def scaling_alpha(self) -> int:
        """Alpha as used: the one given, or twice the rank."""
        return self.alpha if self.alpha is not None else 2 * self.rank


class PromptSpec(Frozen):
    """Virtual tokens: where they stand and what they start from.

    Without `layers` they stand among the embedded words (Lester et al., 2021); with layers they are trained keys and
    values of those layers' attention (Li and Liang, 2021; Liu et al., 2022).
    """

    virtual_tokens: int = Field(default=20, ge=1, le=511, description="of the 512 positions that encoders have")
    layers: str | None = Field(
        default=None,
        pattern=r"^(early|middle|late|all|\d+(-\d+)?(,\d+(-\d+)?)*)$",
        description="early, middle or late third, all, or numbers from 1 as in 1-2 or 1,3; None: in the input",
    )
    start: Literal["vocabulary", "text", "random"] = "vocabulary"
    text: str | None = Field(default=None, description="the words to start from; None: the names of the labels")

    @model_validator(mode="after")
    def _text_is_used(self) -> PromptSpec:
        if self.text is not None and self.start != "text":
            raise ValueError("a text to start from is read only with start: text (--prompt-start text)")
        return self


class PrefixSpec(Frozen):
    """Prefix tuning (Li and Liang, 2021): keys and values on all layers, made by a small network while training."""

    reparametrised: bool = True
    bottleneck_width: int = Field(default=128, ge=1, description="width of the network that makes keys and values")


class AdapterSpec(Frozen):
    """Bottlenecks after the feed-forward block (Pfeiffer et al., 2021), or after attention too (Houlsby, 2019)."""

    placement: Literal["houlsby", "pfeiffer"] = "pfeiffer"
    reduction_factor: int = Field(default=16, ge=1, description="layer width over bottleneck width")


class DynamicSpec(Frozen):
    """LoRA whose rank is set per matrix by importance (AdaLoRA, Zhang et al., 2023), under a memory budget if given.

    Without a budget the mean final rank is `lora.rank`; with one it is what the budget affords, up to `max_rank`.
    """

    memory_budget: ByteSize | None = Field(default=None, gt=0, description="of the training process, as in 4GiB")
    max_rank: int = Field(default=32, ge=1, le=1024)
    eva: bool = Field(default=False, description="start from the data's own directions (EVA, Paischer et al., 2024)")


class TrainingSpec(Frozen):
    """How to train. `None` means the method's own default (`deploycost.methods`), after the literature."""

    epochs: int = Field(default=5, ge=1)
    batch_size: int | None = Field(default=None, ge=1, description="16 for full, 8 for the others")
    learning_rate: float | None = Field(default=None, gt=0)
    warmup_ratio: float = Field(default=0.1, ge=0, lt=1)
    weight_decay: float = Field(default=0.01, ge=0)
    max_tokens: int = Field(default=128, ge=8, description="longest sequence fed to the model, special tokens included")
    mixed_precision: bool = True
    gradient_checkpointing: bool = False
    seed: int = Field(default=42, ge=0, lt=2**32, description="as large as all generators that are seeded take it")
    compile: bool = Field(default=False, description="torch.compile: pays on GPUs and in long runs")
    bits: Literal[4, 8] | None = Field(default=None, description="of a quantised base; None: the method's own")
    lora: LoraSpec = LoraSpec()
    prompt: PromptSpec = PromptSpec()
    prefix: PrefixSpec = PrefixSpec()
    adapter: AdapterSpec = AdapterSpec()
    dynamic: DynamicSpec = DynamicSpec()


class TelemetrySpec(Frozen):
    """What is watched while training; it changes nothing of what is trained."""

    profile: bool = False
    report_to: TrackerName = "none"


class ExportSpec(Frozen):
    """How artifacts are made of a trained model, where there is a choice."""

    trim_vocabulary: bool = Field(default=False, description="embeddings of the words of the training texts only")
    accuracy_aware: bool = Field(default=False, description="openvino-int8 gives operators back until accuracy holds")


class LoadSpec(Frozen):
    """How to find a capacity: the objectives, and how much time may be spent on it.

    `slo` says several objectives at once, as in `p95=100ms,p99=300ms,errors=1%`, and is kept as the fields that it
    sets. There is always a limit of p95: the one named, else that of p99, which p95 is within, else the one before.
    """

    slo_p95_ms: float = Field(default=100.0, gt=0)
    slo_p50_ms: float | None = Field(default=None, gt=0)
    slo_p90_ms: float | None = Field(default=None, gt=0)
    slo_p99_ms: float | None = Field(default=None, gt=0)
    max_error_ratio: float = Field(default=0.01, ge=0, lt=1)
    precision: PrecisionGoal = "normal"
    server_threads: int = Field(default=1, ge=1)
    tune: bool = Field(default=False, description="seek server settings that carry more, and use them")

    @model_validator(mode="before")
    @classmethod
    def _spread_slo(cls, value: Any) -> Any:  # noqa: ANN401 - raw user input
        if not isinstance(value, dict) or "slo" not in value:
            return value
        return {**{k: v for k, v in value.items() if k != "slo"}, **slo_fields(value["slo"])}


class QuoteSpec(Frozen):
    """What is to be priced: machines, and the traffic they must carry."""

    clouds: tuple[str, ...] = ("aws-c7i", "aws-c7a", "gcp-c3", "azure-fsv2", "aws-g4dn")
    region: str | None = None
    purchase_option: str = "on-demand"
    requests_per_month: int = Field(default=100_000_000, ge=1)
    peak_to_mean_ratio: float = Field(default=3.0, ge=1)
    utilisation_ratio: float = Field(default=0.7, gt=0, le=1)
    spare_replicas: int = Field(default=1, ge=0)
    max_accuracy_drop: float = Field(default=0.01, ge=0, le=1)
    llm_api: str = "gpt-5-nano"
    traffic: str | None = Field(default=None, description="shape of the week: a preset or a file of 168 weights")
    autoscale: bool = Field(default=False, description="machines by the hour, not for the peak")
    scale_step: int = Field(default=1, ge=1)
    cold_start_s: float = Field(default=180.0, ge=0, description="that a machine is started, and paid, before its hour")
    mix: dict[Literal["base", "peak"], str] = Field(
        default_factory=dict, description="as in base: reserved-1y, peak: spot"
    )
    spot_interruption_ratio: float = Field(default=0.05, ge=0, lt=1)
    cold_start_ratio: float = Field(default=0.01, ge=0, le=1)
    storage_gib: float = Field(default=0.0, ge=0)
    storage_usd_per_gib_month: float = Field(default=0.0, ge=0)
    response_bytes: int = Field(default=0, ge=0)
    egress_usd_per_gib: float = Field(default=0.0, ge=0)
    horizon_months: int | None = Field(default=None, ge=1)
    prompt_template: str | None = None
    output_tokens: int = Field(default=5, ge=1)

    @field_validator("clouds", mode="before")
    @classmethod
    def _split_commas(cls, value: Any) -> Any:  # noqa: ANN401 - raw user input
        return _comma_list(value)

    @field_validator("mix", mode="before")
    @classmethod
    def _split_mix(cls, value: Any) -> Any:  # noqa: ANN401 - raw user input
        if not isinstance(value, str):
            return value
        parts = [part.partition("=") for part in value.split(",")]
        mix = {part.strip(): option.strip() for option, _, part in parts}
        if sorted(mix) != ["base", "peak"] or len(parts) != 2 or not all(mix.values()):
            raise ValueError("expected two purchase options, as in reserved-1y=base,spot=peak")
        return mix

    @model_validator(mode="after")
    def _agrees(self) -> QuoteSpec:
        if self.mix and sorted(self.mix) != ["base", "peak"]:
            raise ValueError("a mix has a base and a peak, as in reserved-1y=base,spot=peak")
        if self.traffic is None and (self.autoscale or self.mix):
            asked = "autoscaling" if self.autoscale else "a mix of base and peak"
            raise ValueError(f"{asked} needs the traffic by the hour (--traffic flat, business-hours, spiky or a file)")
        if self.traffic is not None and self.peak_to_mean_ratio != 3.0:
            raise ValueError("traffic and peak_to_mean_ratio both say how high the peak is: give one of the two")
        for rate, amount in (("storage_usd_per_gib_month", "storage_gib"), ("egress_usd_per_gib", "response_bytes")):
            if bool(getattr(self, rate)) != bool(getattr(self, amount)):
                raise ValueError(f"{rate} and {amount} are of use only together: give both")
        return self


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
        value = _comma_list(value)
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


_SLO_PART = re.compile(r"(?P<name>[A-Za-z0-9]+)\s*=\s*(?P<value>[0-9.]+)\s*(?P<unit>ms|s|%|)")
_SLO_NAMES = {"p50": "slo_p50_ms", "p90": "slo_p90_ms", "p95": "slo_p95_ms", "p99": "slo_p99_ms"}
_SLO_UNITS = {"ms": 1.0, "s": 1000.0}


def slo_fields(text: Any) -> dict[str, float | None]:  # noqa: ANN401 - raw user input
    """The fields of a `LoadSpec` that objectives such as `p95=100ms,p99=300ms,errors=1%` set.

    Raises:
        ValueError: all parts that are none, in one line.
    """
    known = [*_SLO_NAMES, "errors"]
    found: dict[str, float] = {}
    mistakes = []
    for part in _comma_list(str(text)):
        match = _SLO_PART.fullmatch(part)
        name, unit = (match["name"], match["unit"]) if match else ("", "")
        if match is None or match["value"].count(".") > 1 or match["value"] == ".":
            mistakes.append(f"{part!r} is not like p95=100ms or errors=1%")
        elif name not in known:
            mistakes.append(f"unknown {name!r}{nearest(name, known)}; known: {', '.join(known)}")
        elif (unit not in ("%", "")) if name == "errors" else (unit not in _SLO_UNITS):
            mistakes.append(f"{part!r}: expected {'a share, as 1% or 0.01' if name == 'errors' else 'ms or s'}")
        elif name in found:
            mistakes.append(f"{name} is given twice")
        else:
            found[name] = float(match["value"]) * (0.01 if unit == "%" else _SLO_UNITS.get(unit, 1.0))
    if mistakes:
        raise ValueError(f"--slo: {'; '.join(mistakes)}")
    return _joined_slo(found)


def _joined_slo(found: dict[str, float]) -> dict[str, float | None]:
    fields: dict[str, float | None] = {field: found.get(name) for name, field in _SLO_NAMES.items()}
    if fields["slo_p95_ms"] is None:
        fields["slo_p95_ms"] = fields["slo_p99_ms"]
    if fields["slo_p95_ms"] is None:
        del fields["slo_p95_ms"]
    if "errors" in found:
        fields["max_error_ratio"] = found["errors"]
    return fields


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


def told_mistakes(error: ValidationError, model: type[BaseModel]) -> str:
    """All mistakes that pydantic found in a `model`, in one line: each with its path and the nearest known name."""
    mistakes = error.errors()
    # A list left empty by a bad member is the same mistake told twice: keep the member's.
    inner = [m for m in mistakes if not any(o["loc"][: len(m["loc"])] == m["loc"] for o in mistakes if o is not m)]
    return "; ".join(_mistake(item, model) for item in inner)


def write_experiment(experiment: Experiment) -> str:
    """The experiment as the YAML that `read_experiment` takes, in the order of its fields."""
    return yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False)


def _comma_list(value: Any) -> Any:  # noqa: ANN401 - raw user input
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _mistake(item: Any, model: type[BaseModel]) -> str:  # noqa: ANN401 - pydantic's ErrorDetails
    if item["type"] == "value_error" and not item["loc"]:
        return str(item["ctx"]["error"])  # of the whole, which says itself what of it
    place = ".".join(str(part) for part in item["loc"]) or model.__name__.lower()
    if item["type"] == "extra_forbidden":
        return f"{place}: unknown field{nearest(str(item['loc'][-1]), _field_names(model, item['loc'][:-1]))}"
    if item["type"] == "literal_error":
        known = item["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        return f"{place}: unknown {item['input']!r}{nearest(str(item['input']), known)}; known: {', '.join(known)}"
    if item["type"] == "value_error" and isinstance(item["input"], dict):
        return f"{place}: {item['ctx']['error']}"  # of fields that do not go together
    return f"{place}: {item['msg'][0].lower()}{item['msg'][1:]}, got {item['input']!r}"


def _field_names(model: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    for part in path:
        if isinstance(part, int):
            continue  # a place in a list of the same kind
        field = model.model_fields.get(str(part))
        inside = (field.annotation, *get_args(field.annotation)) if field else ()
        models = [each for each in inside if isinstance(each, type) and issubclass(each, BaseModel)]
        if not models:
            return []
        model = models[0]
    return list(model.model_fields)
