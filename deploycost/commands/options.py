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
_OF_TEXTS = ("dataset", "text_column", "label_column", "train_rows", "test_rows", "artifacts", "seed")


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
        str | None, Parameter(help="onnx-fp32, onnx-int8, a comma list, all, or none to train only.")
    ] = _flag("artifacts")
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
    precision: Annotated[
        str | None, Parameter(help="quick, normal or tight: time spent per variant. Default: normal.")
    ] = _flag("load.precision")
    server_threads: Annotated[int | None, Parameter(help="Cores that the endpoint may use. Default: 1.")] = _flag(
        "load.server_threads"
    )


@Parameter(name="*")
@dataclass(frozen=True)
class PriceFlags:
    """Which machines, which traffic, which policy."""

    cloud: Annotated[
        str | None,
        Parameter(help="Cloud (aws), family (aws-g4dn), instance type (aws-g4dn.xlarge), a comma list, or all."),
    ] = _flag("quote.clouds")
    region: Annotated[str | None, Parameter(help="Region. Default: us-east-1, us-central1, eastus by cloud.")] = _flag(
        "quote.region"
    )
    purchase_option: Annotated[str | None, Parameter(help="on-demand or spot. Default: on-demand.")] = _flag(
        "quote.purchase_option"
    )
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
    max_accuracy_drop: Annotated[
        float | None, Parameter(help="Accuracy that may be given up for cost, 0..1. Default: 0.01.")
    ] = _flag("quote.max_accuracy_drop")
    llm_api: Annotated[str | None, Parameter(help="LLM API to compare with, by model name. Default: gpt-5-nano.")] = (
        _flag("quote.llm_api")
    )


def asked(
    run: Run,
    file: Path | None,
    *flags: BuildFlags | LoadFlags | PriceFlags | None,
    bring: BringFlags | None = None,
) -> Experiment:
    """The experiment that a command asks for: the file's, else the run's, else the default, with the flags over it.

    One that brings a model asks for no method, one that names methods for no model that was brought before.

    Raises:
        UserError: all mistakes in one line.
    """
    kept = run.experiment() if run.has_results else Experiment()
    base = kept if file is None else read_experiment(file)
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
