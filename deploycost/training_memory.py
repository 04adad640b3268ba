"""How much memory training takes, worked out before anything is trained.

The parts are those of Korthikanti et al. (2022, arXiv:2205.05198): weights, gradients, two moments of Adam, and the
activations that are kept for the backward pass. Theirs are of fp16 decoders on GPUs; of the encoders here, as
transformers runs them, each layer keeps, for N fed tokens, width h, feed-forward width f, batch b, a heads, s keys:

- attention. On a CPU there is no fused kernel with dropout: queries, keys and values in fp32 (12 Nh bytes), the
  softmax, its dropout mask and their product in fp32 (12 a b s^2). Fused on a GPU: queries, keys, values and
  answer in the compute type, and a normaliser in fp32 per head and token;
- the inputs of both normalisations, which lie on the fp32 residual stream (8 Nh);
- the dropout masks after both blocks: on a CPU as wide as what they mask, on a GPU one byte;
- the input of the activation function (Nf), in fp32 where quantised layers answer in the type they were asked in;
- of a matrix that is trained its input: under autocast a copy each in half precision, in fp32 shared ones;
- of a low-rank adapter the dropout mask and the input it leaves, and the vectors of its rank.

Under autocast a half-precision copy of every matrix is kept too; it counts among the weights. A checkpointed layer
keeps its fp32 input alone and is run again in the backward pass, one at a time. Sums of these are what torch's
allocator reports, to within a few per cent. How this compares with measured peaks: docs/results/training-memory.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from deploycost.encoder_shape import EncoderShape
from deploycost.experiment import TrainingSpec
from deploycost.layer_choice import resolve_layers
from deploycost.methods import Method
from deploycost.records import TrainingMemory
from deploycost.units import MIB

Device = Literal["cpu", "cuda"]

# Tokens; batches are padded to multiples of it, as each width that is met costs memory for good.
WIDTH_STEP = 8

_FULL_BYTES, _HALF_BYTES = 4, 2
# nf4: half a byte a weight, and a scale for each 64, itself in 8 bits with an fp32 scale for each 256 (double
# quantisation, Dettmers et al., 2023). int8: a byte, and an fp32 scale per row, which is left out as too small.
_NF4_BYTES = 0.5 + (1 + 4 / 256) / 64
_INT8_BYTES = 1.0
# What remains when the tensors are accounted for, fitted by hand to the runs in docs/results/training-memory.md: code
# first used while training, batches; in half precision the kernels that oneDNN makes for each width of batches and
# keeps; and the holes of the C library's heap, in proportion to what passes through it at each step, with more of them
# where 4-bit layers turn inputs, answers and weights into other types at each use, and where checkpointed layers are
# run in one order and again in the other.
_CPU_FRAMEWORK_BYTES = 40 * MIB
_CPU_KERNEL_BYTES_PER_WIDTH = 4 * MIB
_CPU_HEAP_SLACK_RATIO = 0.4
_CPU_MORE_HEAP_SLACK_RATIO = 0.3
# Not measured on a GPU: a guess at cuBLAS's workspaces and the allocator's rounding.
_CUDA_FRAMEWORK_BYTES = 32 * MIB
_CUDA_SLACK_RATIO = 0.05


@dataclass(frozen=True)
class TrainingLoad:
    """What decides the memory of a training: what is trained, from what, and the largest batch.

    `tokens` is the padded length of the longest batch of texts, virtual tokens not counted. `rank` is of each
    low-rank adapter (the initial one where ranks are allocated) on each of `targets` (None: query and value).
    `untrained_layers` are those from the first on in and below which nothing is trained: the backward pass ends above.
    """

    labels: int
    batch_size: int
    tokens: int
    half_precision: bool
    device: Device = "cpu"
    gradient_checkpointing: bool = False
    whole_body: bool = False
    bits: Literal[4, 8] | None = None
    rank: int = 0
    allocated_ranks: bool = False
    targets: tuple[str, ...] | None = None
    input_tokens: int = 0
    layer_tokens: int = 0
    prompted_layers: int = 0
    untrained_layers: int = 0
    prefix_width: int = 0
    bottleneck_width: int = 0
    bottlenecks_per_layer: int = 0

    @property
    def fed_tokens(self) -> int:
        """Tokens that pass through the layers in one batch: padded texts and the virtual tokens in the input."""
        return self.batch_size * (self.tokens + self.input_tokens)

    @property
    def compute_bytes(self) -> int:
        """Of one number that matrices multiply in."""
        return _HALF_BYTES if self.half_precision else _FULL_BYTES


@dataclass(frozen=True)
class Setting:
    """What a training's memory depends on beside its method: the labels, the longest text, and the machine."""

    labels: int
    tokens: int
    half_precision: bool
    device: Device = "cpu"


def load_of(
    method: Method, spec: TrainingSpec, shape: EncoderShape, setting: Setting, initial_rank: int | None = None
) -> TrainingLoad:
    """The load of training by a method.

    Args:
        method: Of `deploycost.methods`.
        spec: Its hyper-parameters.
        shape: Of the base encoder.
        setting: Labels, longest text in tokens, precision and device.
        initial_rank: Of allocated ranks, where they are planned; None: such as make the final ranks `lora.rank`.

    Raises:
        UserError: the prompt's layers do not exist.
    """
    prompt = (
        spec.prompt.layers if method.prompting == "chosen" else "all" if method.prompting == "every-layer" else None
    )
    prompted = resolve_layers(prompt, shape.layers) if prompt is not None else ()
    alone = not (method.low_rank or method.bottlenecks)
    virtual = spec.prompt.virtual_tokens if method.prompting != "none" else 0
    reparametrised = method.prompting == "every-layer" and spec.prefix.reparametrised
    rank = (initial_rank or initial_rank_for(spec.lora.rank)) if method.allocated_ranks else spec.lora.rank
    return TrainingLoad(
        labels=setting.labels,
        batch_size=spec.batch_size or method.batch_size,
        tokens=setting.tokens,
        half_precision=setting.half_precision,
        device=setting.device,
        gradient_checkpointing=spec.gradient_checkpointing,
        whole_body=method.whole_body,
        bits=method.bits(spec.bits),
        rank=rank if method.low_rank else 0,
        allocated_ranks=method.allocated_ranks,
        targets=spec.lora.targets,
        input_tokens=virtual if prompt is None else 0,
        layer_tokens=virtual if prompt is not None else 0,
        prompted_layers=len(prompted),
        untrained_layers=prompted[0] if prompted and alone else 0,
        prefix_width=spec.prefix.bottleneck_width if reparametrised else 0,
        bottleneck_width=shape.hidden // spec.adapter.reduction_factor if method.bottlenecks else 0,
        bottlenecks_per_layer=(2 if spec.adapter.placement == "houlsby" else 1) if method.bottlenecks else 0,
    )


def initial_rank_for(final_rank: int) -> int:
    """The rank that allocation begins with for a mean final rank: half as much again (Zhang et al., 2023)."""
    return -(-3 * final_rank // 2)


def predict(shape: EncoderShape, load: TrainingLoad) -> TrainingMemory:
    """Peak memory of training over what the process held before the model was loaded, in bytes, by parts.

    Of a process on a CPU, resident memory, where batches come in all widths up to the longest and the heap keeps what
    it has got (`deploycost.pipeline.worker_environment`); on a GPU, what torch's allocator holds. Gradients arrive as
    activations go: on a CPU most of them find room in the holes of the heap, which `workspace` then counts without
    them; on a GPU the sum is an upper bound. The GPU's side has not been held against measurements.

    Raises:
        UserError: a target is no matrix of this encoder.
    """
    trained = trainable_parameters(shape, load)
    gradients = _FULL_BYTES * trained
    activations = _kept_bytes(shape, load) + _passing_bytes(shape, load)
    # Adam's two moments; AdaLoRA keeps three more numbers for each weight of an adapter.
    optimiser = 2 * gradients + 3 * _FULL_BYTES * (_low_rank_parameters(shape, load) if load.allocated_ranks else 0)
    if load.device == "cuda":
        workspace = _CUDA_FRAMEWORK_BYTES + round(_CUDA_SLACK_RATIO * activations)
    else:
        # The gradient of the tables is too large for a hole: the C library maps it apart.
        fitting = gradients - (_FULL_BYTES * shape.embedding_parameters if load.whole_body else 0)
        slack = _CPU_HEAP_SLACK_RATIO + _CPU_MORE_HEAP_SLACK_RATIO * ((load.bits == 4) + load.gradient_checkpointing)
        kernels = _CPU_KERNEL_BYTES_PER_WIDTH * -(-load.tokens // WIDTH_STEP) if load.half_precision else 0
        workspace = _CPU_FRAMEWORK_BYTES + kernels + max(0, round(slack * activations) - fitting)
    return TrainingMemory(
        weights=_weight_bytes(shape, load),
        gradients=gradients,
        optimiser=optimiser,
        activations=activations,
        workspace=workspace,
    )


def trainable_parameters(shape: EncoderShape, load: TrainingLoad) -> int:
    """How many parameters ask for gradients, the head's included."""
    head = shape.head_parameters(load.labels)
    return head + (shape.body_parameters if load.whole_body else _added_parameters(shape, load))


def _added_parameters(shape: EncoderShape, load: TrainingLoad) -> int:
    input_prompt = load.input_tokens * shape.hidden
    bottleneck = 2 * shape.hidden * load.bottleneck_width + load.bottleneck_width + shape.hidden
    bottlenecks = shape.layers * load.bottlenecks_per_layer * bottleneck
    return _low_rank_parameters(shape, load) + input_prompt + _layer_prompt_parameters(shape, load) + bottlenecks


def _low_rank_parameters(shape: EncoderShape, load: TrainingLoad) -> int:
    if not load.rank:
        return 0
    singular_values = 1 if load.allocated_ranks else 0
    per_rank = sum(matrix.inputs + matrix.outputs + singular_values for matrix in shape.targeted(load.targets))
    return shape.layers * load.rank * per_rank


def _layer_prompt_parameters(shape: EncoderShape, load: TrainingLoad) -> int:
    if not load.prefix_width:
        return load.prompted_layers * load.layer_tokens * 2 * shape.hidden
    width = load.prefix_width
    return load.layer_tokens * width + (width + 1) * width + load.prompted_layers * (width + 1) * 2 * shape.hidden


def _weight_bytes(shape: EncoderShape, load: TrainingLoad) -> int:
    head = shape.head_parameters(load.labels)
    whole = _FULL_BYTES * (shape.body_parameters + head)
    if not load.whole_body:
        # The head is trained as a copy beside the one that was loaded.
        whole += _FULL_BYTES * (_added_parameters(shape, load) + head)
    matrices = shape.matrix_parameters
    if load.bits is not None:
        quantised = round(matrices * (_NF4_BYTES if load.bits == 4 else _INT8_BYTES))
        # On a CPU the file of the weights stays mapped as long as any tensor is of it, quantised or not.
        return whole + quantised - (_FULL_BYTES * matrices if load.device == "cuda" else 0)
    if not load.half_precision:
        return whole
    # What the backward pass multiplies by is kept in the precision it was multiplied in.
    copied_layers = 1 if load.gradient_checkpointing else shape.layers - load.untrained_layers
    return whole + _HALF_BYTES * (matrices // shape.layers) * copied_layers


def _kept_bytes(shape: EncoderShape, load: TrainingLoad) -> int:
    """Activations that wait for the backward pass when the forward pass is over."""
    stream = _FULL_BYTES * load.fed_tokens * shape.hidden
    # The embeddings' normalisation and dropout are run backward only for what lies below them.
    below = 2 * stream if load.whole_body else 0
    prompted, layers = load.prompted_layers, shape.layers - load.untrained_layers
    plain_layer, prompted_layer = _layer_bytes(shape, load, 0), _layer_bytes(shape, load, load.layer_tokens)
    if not load.gradient_checkpointing:
        return below + (layers - prompted) * plain_layer + prompted * prompted_layer
    largest = prompted_layer if prompted else plain_layer
    # Run twice, forward and backward, in heap places of their own; a GPU's allocator uses the same again.
    return below + layers * stream + (2 if load.device == "cpu" else 1) * largest


def _layer_bytes(shape: EncoderShape, load: TrainingLoad, layer_tokens: int) -> int:
    """What one layer keeps, by the module's list; `layer_tokens` more keys and values on this layer."""
    fed, number, on_cpu = load.fed_tokens, load.compute_bytes, load.device == "cpu"
    answer = _FULL_BYTES if load.bits is not None else number
    masks = fed * shape.hidden * (number + answer if on_cpu else 2)
    norms = 2 * _FULL_BYTES * fed * shape.hidden
    return (
        _attention_bytes(shape, load, layer_tokens)
        + masks
        + norms
        + answer * fed * shape.ffn_width
        + _input_bytes(shape, load)
        + _adapter_bytes(shape, load)
    )


def _attention_bytes(shape: EncoderShape, load: TrainingLoad, layer_tokens: int) -> int:
    queries = load.fed_tokens * shape.hidden
    keys = queries + load.batch_size * layer_tokens * shape.hidden
    if load.device == "cuda":
        return load.compute_bytes * (2 * queries + 2 * keys) + _FULL_BYTES * shape.heads * load.fed_tokens
    scores = shape.heads * load.fed_tokens * (load.tokens + load.input_tokens + layer_tokens)
    return _FULL_BYTES * (queries + 2 * keys) + 3 * _FULL_BYTES * scores


def _input_bytes(shape: EncoderShape, load: TrainingLoad) -> int:
    """Inputs of matrices: of those that are trained, and of int8 ones a copy in a byte, which bitsandbytes keeps."""
    if load.whole_body:
        # Autocast makes query, key and value a copy each; in fp32 they share one.
        narrow = 5 if load.half_precision else 3
        return load.compute_bytes * load.fed_tokens * (narrow * shape.hidden + shape.ffn_width)
    if load.bits == 8:
        return load.fed_tokens * (5 * shape.hidden + shape.ffn_width)
    return 0


def _adapter_bytes(shape: EncoderShape, load: TrainingLoad) -> int:
    number = load.compute_bytes
    mask = _FULL_BYTES if load.device == "cpu" else 1
    total = 0
    if load.rank:
        for matrix in shape.targeted(load.targets):
            total += load.fed_tokens * ((mask + number) * matrix.inputs + number * load.rank)
    return total + load.bottlenecks_per_layer * load.fed_tokens * number * (shape.hidden + 2 * load.bottleneck_width)


def _passing_bytes(shape: EncoderShape, load: TrainingLoad) -> int:
    """What lives only for moments, on top of what is kept: the largest tensor of a layer and its gradient."""
    wide = 2 * load.compute_bytes * load.fed_tokens * shape.ffn_width
    if load.device == "cuda":
        return wide
    return max(wide, _FULL_BYTES * shape.heads * load.fed_tokens * (load.tokens + load.input_tokens))
