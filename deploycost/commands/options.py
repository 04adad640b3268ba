"""Flags that several commands share, and how they become an `Experiment`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from deploycost.errors import UserError
from deploycost.experiment import Experiment, MethodName, make_experiment, read_experiment
from deploycost.methods import readers_of
from deploycost.workspace import DEFAULT_RUNS_DIR, Run

_ASKS_FOR = "asks_for"
# Of the flags of training, those that a brought model reads as its own: flag, and field of its `BroughtSpec`.
_OF_BROUGHT = {"model": "base", "bits": "bits", "max_tokens": "max_tokens"}
# Those of the texts that it is judged on, and of what is made of it.
_OF_TEXTS = (
    "dataset", "text_column", "label_column", "train_rows", "test_rows", "artifacts", "seed",
    "trim_vocabulary", "accuracy_aware",
)  # fmt: skip


def _flag(place: str) -> Any:  # noqa: ANN401 - dataclasses.field is untyped too
    """A flag that, when given, sets the field at `place` of the experiment."""
    return field(default=None, metadata={_ASKS_FOR: place})


@Parameter(name="*")
@dataclass(frozen=True)
class Place:
    """Which run, and where runs lie."""

    run: Annotated[str | None, Parameter(help="Name of the run: the folder of its results.")] = None
    runs_dir: Annotated[Path, Parameter(help="Folder that holds the runs.")] = DEFAULT_RUNS_DIR


@Parameter(name="*")
@dataclass(frozen=True)
class BuildFlags:
    """What to train, on what, how. A flag that is not given keeps what the run holds, else the default."""

    method: Annotated[
        str | None,
        Parameter(
            help="full, lora, qlora, prompt, prefix, adapter, dynamic, stacked, a comma list, or all; "
            "'deploycost methods' explains them. Default: full, lora, qlora, prompt, stacked."
        ),
    ] = _flag("methods")
    model: Annotated[
        str | None,
        Parameter(help="Hub id, local folder, or minilm (packaged). Default: distilbert-base-uncased from the hub."),
    ] = _flag("model")
    dataset: Annotated[
        str | None,
        Parameter(help="Hub id, a folder or file of Parquet/CSV/JSONL, or demo (generated). Default: ag_news."),
    ] = _flag("dataset.source")
    text_column: Annotated[str | None, Parameter(help="Column of the texts. Default: text.")] = _flag(
        "dataset.text_column"
    )
    label_column: Annotated[str | None, Parameter(help="Column of the labels. Default: label.")] = _flag(
        "dataset.label_column"
    )
    train_rows: Annotated[int | None, Parameter(help="Train on so many rows, balanced. Default: all.")] = _flag(
        "dataset.train_rows"
    )
    test_rows: Annotated[int | None, Parameter(help="Judge on so many rows. Default: all.")] = _flag(
        "dataset.test_rows"
    )
    artifacts: Annotated[
        str | None,
        Parameter(
            help="A comma list ('deploycost artifacts' explains them), all or fast of those that this machine can "
            "build, or none to train only. Default: onnx-fp32,onnx-int8."
        ),
    ] = _flag("artifacts")
    trim_vocabulary: Annotated[
        bool | None, Parameter(help="Keep the embeddings of words that the training texts use only. Default: off.")
    ] = _flag("export.trim_vocabulary")
    accuracy_aware: Annotated[
        bool | None, Parameter(help="Of openvino-int8: give operators back to fp32 until accuracy holds. Default: off.")
    ] = _flag("export.accuracy_aware")
    epochs: Annotated[int | None, Parameter(help="Passes over the training rows. Default: 5.")] = _flag(
        "training.epochs"
    )
    batch_size: Annotated[int | None, Parameter(help="Default: 16 for full, 8 for the others.")] = _flag(
        "training.batch_size"
    )
    learning_rate: Annotated[float | None, Parameter(help="Default: the method's own.")] = _flag(
        "training.learning_rate"
    )
    max_tokens: Annotated[int | None, Parameter(help="Longest text fed, in tokens. Default: 128.")] = _flag(
        "training.max_tokens"
    )
    rank: Annotated[int | None, Parameter(help="Rank of low-rank adapters; alpha is twice it. Default: 8.")] = _flag(
        "training.lora.rank"
    )
    alpha: Annotated[int | None, Parameter(help="Weight of low-rank adapters, over their rank.")] = _flag(
        "training.lora.alpha"
    )
    dropout: Annotated[float | None, Parameter(help="On the input of low-rank adapters, 0..1. Default: 0.1.")] = _flag(
        "training.lora.dropout"
    )
    targets: Annotated[
        str | None, Parameter(help="Matrices that low-rank adapters attach to. Default: query and value.")
    ] = _flag("training.lora.targets")
    bits: Annotated[
        int | None, Parameter(help="4 (nf4) or 8: the quantised base of qlora and stacked, of dynamic if given.")
    ] = _flag("training.bits")
    virtual_tokens: Annotated[int | None, Parameter(help="Virtual tokens of a prompt or prefix. Default: 20.")] = _flag(
        "training.prompt.virtual_tokens"
    )
    prompt_layers: Annotated[
        str | None,
        Parameter(
            help="Prompt as keys and values of layers: early, middle, late, all, 1-2, 1,3. Default: in the input."
        ),
    ] = _flag("training.prompt.layers")
    prompt_start: Annotated[
        str | None, Parameter(help="What a prompt starts from: vocabulary, text or random. Default: vocabulary.")
    ] = _flag("training.prompt.start")
    prompt_text: Annotated[
        str | None, Parameter(help="The words for --prompt-start text. Default: the names of the labels.")
    ] = _flag("training.prompt.text")
    reparametrised: Annotated[
        bool | None, Parameter(help="Prefix made by a small network while training. Default: on.")
    ] = _flag("training.prefix.reparametrised")
    prefix_width: Annotated[
        int | None, Parameter(help="Width of the network that makes a prefix while training. Default: 128.")
    ] = _flag("training.prefix.bottleneck_width")
    placement: Annotated[str | None, Parameter(help="Of adapters: pfeiffer or houlsby. Default: pfeiffer.")] = _flag(
        "training.adapter.placement"
    )
    reduction_factor: Annotated[
        int | None, Parameter(help="Of adapters: layer width over bottleneck width. Default: 16.")
    ] = _flag("training.adapter.reduction_factor")
    memory_budget: Annotated[
        str | None, Parameter(help="Of dynamic: memory that training may take, as in 4GiB; decides the total rank.")
    ] = _flag("training.dynamic.memory_budget")
    max_rank: Annotated[
        int | None, Parameter(help="Of dynamic under a memory budget: largest mean rank. Default: 32.")
    ] = _flag("training.dynamic.max_rank")
    eva: Annotated[bool | None, Parameter(help="Of dynamic: start from the data's own directions. Default: off.")] = (
        _flag("training.dynamic.eva")
    )
    mixed_precision: Annotated[bool | None, Parameter(help="bf16 or fp16 where the device has it. Default: on.")] = (
        _flag("training.mixed_precision")
    )
    gradient_checkpointing: Annotated[bool | None, Parameter(help="Less memory for more time. Default: off.")] = _flag(
        "training.gradient_checkpointing"
    )
    compile: Annotated[bool | None, Parameter(help="Use torch.compile: pays in long runs on a GPU. Default: off.")] = (
        _flag("training.compile")
    )
    seed: Annotated[int | None, Parameter(help="Decides every draw. Default: 42.")] = _flag("training.seed")
    profile: Annotated[bool | None, Parameter(help="Profile a few training steps: trace file and table.")] = _flag(
        "telemetry.profile"
    )
    report_to: Annotated[
        str | None, Parameter(help="Follow training in tensorboard, wandb, mlflow or trackio. Default: none.")
    ] = _flag("telemetry.report_to")


@Parameter(name="*")
@dataclass(frozen=True)
class ExportFlags:
    """How far an artifact may stray; one of the price flags where there are any."""

    max_accuracy_drop: Annotated[
        float | None,
        Parameter(
            help="Accuracy that an artifact may give up, 0..1: refused where more is given up for sure, else flagged. "
            "Default: 0.01."
        ),
    ] = _flag("quote.max_accuracy_drop")


@Parameter(name="*")
@dataclass(frozen=True)
class BringFlags:
    """A trained model to bring instead of training one."""

    source: Annotated[
        str | None,
        Parameter(
            name="--from",
            help="Bring a trained classifier instead of training one: the folder it was saved in, a PEFT adapter's, "
            "an ONNX file, or a hub id.",
        ),
    ] = None
    name: Annotated[str | None, Parameter(help="What to call the model that is brought. Default: own.")] = None
    task: Annotated[
        str | None,
        Parameter(help="single-label, multi-label or regression. Default: what the model's config.json says."),
    ] = None
    tokenizer: Annotated[
        str | None, Parameter(help="Its tokenizer.json, or a folder with one. Default: the one beside the model.")
    ] = None


@Parameter(name="*")
@dataclass(frozen=True)
class LoadFlags:
    """How a capacity is found."""

    slo_p95: Annotated[float | None, Parameter(help="95 % of answers must come within so many ms. Default: 100.")] = (
        _flag("load.slo_p95_ms")
    )
    slo: Annotated[
        str | None,
        Parameter(
            help="Several objectives: p50, p90, p95, p99 and errors, as in p95=100ms,p99=300ms,errors=1%. p95 keeps "
            "its limit where neither it nor p99 is named."
        ),
    ] = _flag("load.slo")
    precision: Annotated[
        str | None, Parameter(help="quick, normal or tight: time spent per variant. Default: normal.")
    ] = _flag("load.precision")
    server_threads: Annotated[int | None, Parameter(help="Cores that the endpoint may use. Default: 1.")] = _flag(
        "load.server_threads"
    )
    tune: Annotated[
        bool | None, Parameter(help="Seek server settings (threads, workers, batches) that carry more. Default: off.")
    ] = _flag("load.tune")

    def __post_init__(self) -> None:
        if self.slo is not None and self.slo_p95 is not None:
            raise UserError("--slo and --slo-p95 say the same thing twice; give one of them, as in --slo p95=100ms")


@Parameter(name="*")
@dataclass(frozen=True)
class SloFlags:
    """The objective, where no capacity is found anew."""

    slo_p95: Annotated[
        float | None, Parameter(help="95 % of answers must come within so many ms. Default: the run's, else 100.")
    ] = _flag("load.slo_p95_ms")


@Parameter(name="*")
@dataclass(frozen=True)
class PriceFlags:
    """Which machines, which traffic, which policy."""

    cloud: Annotated[
        str | None,
        Parameter(
            help="Cloud (aws), family (aws-g4dn), instance type (aws-g4dn.xlarge), aws-lambda, cloud-run, api:MODEL, "
            "owned, owned:NAME, owned:FILE.csv, a comma list, or all machines for hire."
        ),
    ] = _flag("quote.clouds")
    region: Annotated[
        str | None, Parameter(help="Region, or all. Default: us-east-1, us-central1, eastus by cloud.")
    ] = _flag("quote.region")
    purchase_option: Annotated[
        str | None,
        Parameter(
            help="on-demand, spot, reserved-1y, reserved-3y, or all; no reserved price is shipped: 'prices refresh' or "
            "'prices add' brings them. Default: on-demand."
        ),
    ] = _flag("quote.purchase_option")
    requests_per_month: Annotated[
        int | None, Parameter(help="Predictions to serve each month. Default: 100,000,000.")
    ] = _flag("quote.requests_per_month")
    peak_to_mean: Annotated[float | None, Parameter(help="How much busier the peak is than the mean. Default: 3.")] = (
        _flag("quote.peak_to_mean_ratio")
    )
    utilisation: Annotated[float | None, Parameter(help="Share of capacity to plan with, 0..1. Default: 0.7.")] = _flag(
        "quote.utilisation_ratio"
    )
    spare_replicas: Annotated[int | None, Parameter(help="Replicas beyond the need. Default: 1.")] = _flag(
        "quote.spare_replicas"
    )
    traffic: Annotated[
        str | None,
        Parameter(
            help="Shape of the week: flat, business-hours, spiky, or a .csv or .yaml file of 168 hourly weights."
        ),
    ] = _flag("quote.traffic")
    autoscale: Annotated[
        bool | None, Parameter(help="Machines hour by hour, not for the peak; needs --traffic. Default: off.")
    ] = _flag("quote.autoscale")
    scale_step: Annotated[int | None, Parameter(help="Machines started or stopped at once. Default: 1.")] = _flag(
        "quote.scale_step"
    )
    cold_start: Annotated[
        float | None, Parameter(help="Seconds that a machine is started, and paid, ahead of need. Default: 180.")
    ] = _flag("quote.cold_start_s")
    mix: Annotated[
        str | None, Parameter(help="Purchase options of base and peak, as in reserved-1y=base,spot=peak.")
    ] = _flag("quote.mix")
    spot_interruption: Annotated[
        float | None, Parameter(help="Share of spot machines away at any time, 0..1. Default: 0.05, assumed.")
    ] = _flag("quote.spot_interruption_ratio")
    cold_start_ratio: Annotated[
        float | None, Parameter(help="Serverless: share of requests that wait for a start. Default: 0.01, assumed.")
    ] = _flag("quote.cold_start_ratio")
    storage_gib: Annotated[float | None, Parameter(help="Disk of each machine. Default: 0, not counted.")] = _flag(
        "quote.storage_gib"
    )
    storage_price: Annotated[float | None, Parameter(help="USD per GiB and month of disk. Default: 0.")] = _flag(
        "quote.storage_usd_per_gib_month"
    )
    response_bytes: Annotated[
        int | None, Parameter(help="Bytes of an answer that leave the cloud. Default: 0, not counted.")
    ] = _flag("quote.response_bytes")
    egress_price: Annotated[float | None, Parameter(help="USD per GiB that leaves the cloud. Default: 0.")] = _flag(
        "quote.egress_usd_per_gib"
    )
    horizon_months: Annotated[
        int | None, Parameter(help="Spread what making a variant cost over so many months. Default: not in the bill.")
    ] = _flag("quote.horizon_months")
    prompt_template: Annotated[
        str | None, Parameter(help="File of the prompt around {text} (and {labels}). Default: 60 tokens, assumed.")
    ] = _flag("quote.prompt_template")
    output_tokens: Annotated[int | None, Parameter(help="Tokens that an LLM answers. Default: 5.")] = _flag(
        "quote.output_tokens"
    )
    max_accuracy_drop: Annotated[
        float | None, Parameter(help="Accuracy that may be given up for cost, 0..1. Default: 0.01.")
    ] = _flag("quote.max_accuracy_drop")
    llm_api: Annotated[str | None, Parameter(help="LLM API to compare with, by model name. Default: gpt-5-nano.")] = (
        _flag("quote.llm_api")
    )


def asked(
    run: Run,
    file: Path | None,
    *flags: BuildFlags | ExportFlags | LoadFlags | SloFlags | PriceFlags | None,
    bring: BringFlags | None = None,
) -> Experiment:
    """The experiment that a command asks for: the file's, else the run's, else the default, with the flags over it.

    One that brings a model asks for no method, one that names methods for no model that was brought before.

    Raises:
        UserError: all mistakes in one line.
    """
    kept = run.experiment() if run.has_results else Experiment()
    return with_flags(kept if file is None else read_experiment(file), *flags, bring=bring)


def with_flags(
    base: Experiment,
    *flags: BuildFlags | ExportFlags | LoadFlags | SloFlags | PriceFlags | None,
    bring: BringFlags | None = None,
) -> Experiment:
    """An experiment with flags over it.

    Raises:
        UserError: all mistakes in one line.
    """
    content = base.model_dump(mode="json")
    build = next((group for group in flags if isinstance(group, BuildFlags)), None)
    if bring is not None and bring != BringFlags():
        brought = _brought(bring, build)
        content |= {"methods": [], "brought": [brought]}
        others = tuple(group for group in flags if group is not build)
        flags = others if build is None else (replace(build, **dict.fromkeys(_OF_BROUGHT)), *others)
    elif build is not None and build.method is not None:
        content["brought"] = []
    for group in flags:
        for flag in fields(group) if group is not None else ():
            value = getattr(group, flag.name)
            if value is not None:
                _set(content, asked_field(flag).split("."), value)
    return make_experiment(content)


def refuse_two_peaks(price: PriceFlags | None) -> None:
    """Refuses two answers to how high the peak is.

    Raises:
        UserError: both flags were given.
    """
    if price is not None and price.traffic is not None and price.peak_to_mean is not None:
        raise UserError("--traffic and --peak-to-mean both say how high the peak is: give one of the two")


def _brought(bring: BringFlags, build: BuildFlags | None) -> dict[str, Any]:
    """What is asked of a model that is brought, as a `BroughtSpec` takes it.

    Raises:
        UserError: flags of training are among those given, or nothing is brought.
    """
    if bring.source is None:
        given = [f"--{flag.name}" for flag in fields(bring) if getattr(bring, flag.name) is not None]
        raise UserError(
            f"{', '.join(given)} {'is' if len(given) == 1 else 'are'} of a model that is brought: name it with --from, "
            "or leave the flag out"
        )
    given = [flag for flag in fields(BuildFlags) if build is not None and getattr(build, flag.name) is not None]
    unread = [flag_name(flag) for flag in given if flag.name not in (*_OF_BROUGHT, *_OF_TEXTS)]
    if unread:
        raise UserError(f"--from brings a model that is trained already: leave out {', '.join(unread)}")
    spec = {"source": bring.source, "name": bring.name, "task": bring.task, "tokenizer": bring.tokenizer}
    spec |= {place: getattr(build, name) for name, place in _OF_BROUGHT.items()} if build is not None else {}
    return {place: value for place, value in spec.items() if value is not None}


def require_readers(flags: BuildFlags | None, methods: Sequence[MethodName]) -> None:
    """Refuses flags that were given and that none of the methods chosen reads.

    Raises:
        UserError: all of them in one line, each with the methods that read it.
    """
    given = [flag_name(flag) for flag in fields(BuildFlags) if getattr(flags, flag.name, None) is not None]
    readers = {flag: readers_of(flag) for flag in given}
    unread = [f"{flag} (of {', '.join(own)})" for flag, own in readers.items() if own and not set(own) & set(methods)]
    if unread:
        raise UserError(
            f"the methods chosen ({', '.join(methods)}) make no use of {' or of '.join(unread)}; "
            "leave it out, or choose another --method"
        )


def flag_name(flag: Field[Any]) -> str:
    """A flag as it is given, as in `--memory-budget`."""
    return f"--{flag.name.replace('_', '-')}"


def asked_field(flag: Field[Any]) -> str:
    """The field of an experiment that a flag sets, as in `training.lora.rank`."""
    return flag.metadata[_ASKS_FOR]


def _set(content: dict[str, Any], path: list[str], value: Any) -> None:  # noqa: ANN401 - JSON
    for part in path[:-1]:
        content = content[part]
    content[path[-1]] = value
