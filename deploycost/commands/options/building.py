"""Flags of what to train or bring, and of what artifacts may be made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from deploycost.commands.options.flag import flag_for


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
    ] = flag_for("methods")
    model: Annotated[
        str | None,
        Parameter(help="Hub id, local folder, or minilm (packaged). Default: distilbert-base-uncased from the hub."),
    ] = flag_for("model")
    dataset: Annotated[
        str | None,
        Parameter(help="Hub id, a folder or file of Parquet/CSV/JSONL, or demo (generated). Default: ag_news."),
    ] = flag_for("dataset.source")
    text_column: Annotated[str | None, Parameter(help="Column of the texts. Default: text.")] = flag_for(
        "dataset.text_column"
    )
    label_column: Annotated[str | None, Parameter(help="Column of the labels. Default: label.")] = flag_for(
        "dataset.label_column"
    )
    train_rows: Annotated[int | None, Parameter(help="Train on so many rows, balanced. Default: all.")] = flag_for(
        "dataset.train_rows"
    )
    test_rows: Annotated[int | None, Parameter(help="Judge on so many rows. Default: all.")] = flag_for(
        "dataset.test_rows"
    )
    artifacts: Annotated[
        str | None,
        Parameter(
            help="A comma list ('deploycost artifacts' explains them), all or fast of those that this machine can "
            "build, or none to train only. Default: onnx-fp32,onnx-int8."
        ),
    ] = flag_for("artifacts")
    trim_vocabulary: Annotated[
        bool | None, Parameter(help="Keep the embeddings of words that the training texts use only. Default: off.")
    ] = flag_for("export.trim_vocabulary")
    accuracy_aware: Annotated[
        bool | None, Parameter(help="Of openvino-int8: give operators back to fp32 until accuracy holds. Default: off.")
    ] = flag_for("export.accuracy_aware")
    epochs: Annotated[int | None, Parameter(help="Passes over the training rows. Default: 5.")] = flag_for(
        "training.epochs"
    )
    batch_size: Annotated[int | None, Parameter(help="Default: 16 for full, 8 for the others.")] = flag_for(
        "training.batch_size"
    )
    learning_rate: Annotated[float | None, Parameter(help="Default: the method's own.")] = flag_for(
        "training.learning_rate"
    )
    max_tokens: Annotated[int | None, Parameter(help="Longest text fed, in tokens. Default: 128.")] = flag_for(
        "training.max_tokens"
    )
    rank: Annotated[int | None, Parameter(help="Rank of low-rank adapters; alpha is twice it. Default: 8.")] = flag_for(
        "training.lora.rank"
    )
    alpha: Annotated[int | None, Parameter(help="Weight of low-rank adapters, over their rank.")] = flag_for(
        "training.lora.alpha"
    )
    dropout: Annotated[float | None, Parameter(help="On the input of low-rank adapters, 0..1. Default: 0.1.")] = (
        flag_for("training.lora.dropout")
    )
    targets: Annotated[
        str | None, Parameter(help="Matrices that low-rank adapters attach to. Default: query and value.")
    ] = flag_for("training.lora.targets")
    bits: Annotated[
        int | None, Parameter(help="4 (nf4) or 8: the quantised base of qlora and stacked, of dynamic if given.")
    ] = flag_for("training.bits")
    virtual_tokens: Annotated[int | None, Parameter(help="Virtual tokens of a prompt or prefix. Default: 20.")] = (
        flag_for("training.prompt.virtual_tokens")
    )
    prompt_layers: Annotated[
        str | None,
        Parameter(
            help="Prompt as keys and values of layers: early, middle, late, all, 1-2, 1,3. Default: in the input."
        ),
    ] = flag_for("training.prompt.layers")
    prompt_start: Annotated[
        str | None, Parameter(help="What a prompt starts from: vocabulary, text or random. Default: vocabulary.")
    ] = flag_for("training.prompt.start")
    prompt_text: Annotated[
        str | None, Parameter(help="The words for --prompt-start text. Default: the names of the labels.")
    ] = flag_for("training.prompt.text")
    reparametrised: Annotated[
        bool | None, Parameter(help="Prefix made by a small network while training. Default: on.")
    ] = flag_for("training.prefix.reparametrised")
    prefix_width: Annotated[
        int | None, Parameter(help="Width of the network that makes a prefix while training. Default: 128.")
    ] = flag_for("training.prefix.bottleneck_width")
    placement: Annotated[str | None, Parameter(help="Of adapters: pfeiffer or houlsby. Default: pfeiffer.")] = flag_for(
        "training.adapter.placement"
    )
    reduction_factor: Annotated[
        int | None, Parameter(help="Of adapters: layer width over bottleneck width. Default: 16.")
    ] = flag_for("training.adapter.reduction_factor")
    memory_budget: Annotated[
        str | None, Parameter(help="Of dynamic: memory that training may take, as in 4GiB; decides the total rank.")
    ] = flag_for("training.dynamic.memory_budget")
    max_rank: Annotated[
        int | None, Parameter(help="Of dynamic under a memory budget: largest mean rank. Default: 32.")
    ] = flag_for("training.dynamic.max_rank")
    eva: Annotated[bool | None, Parameter(help="Of dynamic: start from the data's own directions. Default: off.")] = (
        flag_for("training.dynamic.eva")
    )
    mixed_precision: Annotated[bool | None, Parameter(help="bf16 or fp16 where the device has it. Default: on.")] = (
        flag_for("training.mixed_precision")
    )
    gradient_checkpointing: Annotated[bool | None, Parameter(help="Less memory for more time. Default: off.")] = (
        flag_for("training.gradient_checkpointing")
    )
    compile: Annotated[bool | None, Parameter(help="Use torch.compile: pays in long runs on a GPU. Default: off.")] = (
        flag_for("training.compile")
    )
    seed: Annotated[int | None, Parameter(help="Decides every draw. Default: 42.")] = flag_for("training.seed")
    profile: Annotated[bool | None, Parameter(help="Profile a few training steps: trace file and table.")] = flag_for(
        "telemetry.profile"
    )
    report_to: Annotated[
        str | None, Parameter(help="Follow training in tensorboard, wandb, mlflow or trackio. Default: none.")
    ] = flag_for("telemetry.report_to")


@Parameter(name="*")
@dataclass(frozen=True)
class ExportFlags:
    """How far an artifact may stray; one of the price flags where there are any."""

    max_accuracy_drop: Annotated[
        float | None,
        Parameter(
            help="Accuracy that an artifact may give up, 0..1: refused where more is given up for sure, else flagged. "
            "Of several labels: whole answers; of a number: explained variance (R2). Default: 0.01."
        ),
    ] = flag_for("quote.max_accuracy_drop")


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
