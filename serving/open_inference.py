"""The Open Inference Protocol, version 2, as Triton's and KServe's clients speak it over HTTP.

One input, `text` (BYTES [n] or [n, 1]); outputs `scores` and `logits` (FP32 [n, labels], in the order of the bundle's
labels) and `truncated` (BOOL [n]); where one label is chosen `labels` (BYTES [n], the best label of each text), where
each is judged for itself `decisions` (BOOL [n, labels], which of them are given). Tensors travel as JSON or, by the
binary tensor data extension, behind it: the header `Inference-Header-Content-Length` tells where the JSON ends.
Clients that write null for what they leave out are understood.
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Annotated, Final, NamedTuple

import msgspec
import numpy as np

from serving.bundle import Task
from serving.jobs import Outcome
from serving.limits import LONGEST_DEADLINE_MS
from serving.messages import Answer, Refusal, whole_number
from serving.predictions import MultiLabelPrediction, told

HEADER_LENGTH: Final = b"inference-header-content-length"
INPUT: Final = "text"
VERSION: Final = "1"
_OCTETS: Final = b"application/octet-stream"

Parameters = dict[str, str | float | bool | None]
Shape = Annotated[
    list[Annotated[int, msgspec.Meta(ge=0)]], msgspec.Meta(min_length=1, extra_json_schema={"maxItems": 2})
]


def _only(value: str) -> msgspec.Meta:
    """What the document says of a field that takes one value; others are refused with a sentence of its own."""
    return msgspec.Meta(extra_json_schema={"const": value})


class _Parametrised(msgspec.Struct, kw_only=True):
    """What may come with parameters, or with null in their place."""

    given_parameters: Parameters | None = msgspec.field(default=None, name="parameters")

    @property
    def parameters(self) -> Parameters:
        """What was given, if anything."""
        return self.given_parameters or {}


class InputTensor(_Parametrised):
    """An input; its texts are in `data`, or behind the JSON, `binary_data_size` bytes of them."""

    name: Annotated[str, _only(INPUT)]
    shape: Shape
    datatype: Annotated[str, _only("BYTES")]
    data: list[str | list[str]] | msgspec.UnsetType = msgspec.UNSET


class RequestedOutput(_Parametrised):
    """An output that is wanted; `binary_data` asks for it behind the JSON."""

    name: str


class InferRequest(_Parametrised):
    """Body of `infer`. `timeout` among the parameters is the deadline, in microseconds, as Triton has it."""

    inputs: Annotated[list[InputTensor], msgspec.Meta(extra_json_schema={"minItems": 1, "maxItems": 1})]
    id: str | msgspec.UnsetType | None = msgspec.UNSET
    given_outputs: list[RequestedOutput] | None = msgspec.field(default=None, name="outputs")

    @property
    def outputs(self) -> list[RequestedOutput]:
        """Those that are wanted; none stands for all."""
        return self.given_outputs or []


class OutputTensor(msgspec.Struct, omit_defaults=True):
    """An output, in row-major order; where it travels behind the JSON, its size in bytes instead."""

    name: str
    datatype: str
    shape: list[int]
    data: list[str | float | bool] | msgspec.UnsetType = msgspec.UNSET
    parameters: dict[str, int] = {}


class InferResponse(msgspec.Struct):
    """Answer of `infer`: the outputs that were wanted, or all of them."""

    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: str | msgspec.UnsetType = msgspec.UNSET


class TensorMetadata(msgspec.Struct, frozen=True):
    """Name, type and shape of a tensor; -1 is any size."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(msgspec.Struct, frozen=True):
    """Answer of `GET /v2/models/{name}`; `labels` name the columns of `scores`, `logits` and `decisions`."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    labels: list[str]


class ServerMetadata(msgspec.Struct, frozen=True):
    """Answer of `GET /v2`."""

    name: str
    version: str
    extensions: list[str]


class Live(msgspec.Struct, frozen=True):
    """Answer of `GET /v2/health/live`."""

    live: bool


class Ready(msgspec.Struct, frozen=True):
    """Answer of `GET /v2/health/ready`."""

    ready: bool


class ModelReady(msgspec.Struct, frozen=True):
    """Answer of `GET /v2/models/{name}/ready`."""

    name: str
    ready: bool


def _scores(outcomes: Sequence[Outcome]) -> np.ndarray:
    return np.array([list(outcome.prediction.scores.values()) for outcome in outcomes], dtype=np.float32)


def _logits(outcomes: Sequence[Outcome]) -> np.ndarray:
    return np.stack([outcome.logits for outcome in outcomes])


def _decisions(outcomes: Sequence[Outcome]) -> np.ndarray:
    return np.array([_given(outcome) for outcome in outcomes], dtype=np.bool_)


def _given(outcome: Outcome) -> list[bool]:
    prediction = outcome.prediction
    given = set(prediction.labels) if isinstance(prediction, MultiLabelPrediction) else {told(prediction)}
    return [label in given for label in prediction.scores]


class Output(NamedTuple):
    """A tensor that a model answers with, and how it is made; a list is a BYTES tensor."""

    datatype: str
    by_label: bool
    make: Callable[[Sequence[Outcome]], "np.ndarray | list[str]"]


_SCORES: Final = Output("FP32", True, _scores)
_LABELS: Final = Output("BYTES", False, lambda outcomes: [told(outcome.prediction) for outcome in outcomes])
_DECISIONS: Final = Output("BOOL", True, _decisions)
_LOGITS: Final = Output("FP32", True, _logits)
_TRUNCATED: Final = Output(
    "BOOL", False, lambda outcomes: np.array([outcome.prediction.truncated for outcome in outcomes])
)
OUTPUTS: Final[Mapping[Task, Mapping[str, Output]]] = {
    "single-label": {"scores": _SCORES, "labels": _LABELS, "logits": _LOGITS, "truncated": _TRUNCATED},
    "multi-label": {"scores": _SCORES, "decisions": _DECISIONS, "logits": _LOGITS, "truncated": _TRUNCATED},
    "regression": {"scores": _SCORES, "logits": _LOGITS, "truncated": _TRUNCATED},
}

_decode = msgspec.json.Decoder(InferRequest).decode
_encode = msgspec.json.Encoder().encode


def model_metadata(name: str, platform: str, labels: Sequence[str], task: Task) -> ModelMetadata:
    """What the protocol tells of a model with these labels."""
    outputs = [
        TensorMetadata(named, output.datatype, [-1, len(labels)] if output.by_label else [-1])
        for named, output in OUTPUTS[task].items()
    ]
    return ModelMetadata(name, [VERSION], platform, [TensorMetadata(INPUT, "BYTES", [-1])], outputs, list(labels))


def parse(body: bytes, headers: Mapping[bytes, bytes], task: Task) -> tuple[InferRequest, list[str]]:
    """The request in a body and its texts; `Refusal` (400) where the protocol or the model asks for something else."""
    length = headers.get(HEADER_LENGTH)
    end = len(body) if length is None else whole_number(length)
    if end is None or end > len(body):
        raise Refusal(400, "Inference-Header-Content-Length is not a number of bytes within the body")
    try:
        asked = _decode(body[:end])
    except UnicodeDecodeError:
        raise Refusal(400, "the request is not UTF-8; send JSON in UTF-8") from None
    except msgspec.DecodeError as error:  # ValidationError is one
        raise Refusal(400, f"the inference request cannot be read: {str(error)[:200]}") from None
    except RecursionError:
        raise Refusal(400, "the inference request is nested too deeply") from None
    if [tensor.name for tensor in asked.inputs] != [INPUT]:
        names = ", ".join(repr(tensor.name[:50]) for tensor in asked.inputs[:5]) or "none"
        raise Refusal(400, f"unexpected inference inputs {names}; expected one, {INPUT!r}")
    names = [wanted.name for wanted in asked.outputs]
    if len(set(names)) < len(names):
        raise Refusal(400, "an output is asked for twice; name each once")
    for wanted in asked.outputs:
        if wanted.name not in OUTPUTS[task]:
            known = ", ".join(OUTPUTS[task])
            raise Refusal(400, f"unexpected inference output {wanted.name[:50]!r}; expected of {known}")
        if "classification" in wanted.parameters:
            raise Refusal(400, "the classification extension is not spoken here; read the output scores")
    return asked, _texts(asked.inputs[0], body[end:])


def _texts(tensor: InputTensor, behind: bytes) -> list[str]:
    """The texts of the input; `behind` is what follows the JSON."""
    if tensor.datatype != "BYTES":
        raise Refusal(400, f"input {INPUT!r} has datatype {tensor.datatype[:20]!r}, expected BYTES")
    if len(tensor.shape) > 2 or tensor.shape[1:] not in ([], [1]):
        raise Refusal(400, f"input {INPUT!r} has shape {tensor.shape[:5]}, expected [n] or [n, 1]")
    if any(name.startswith("shared_memory") for name in tensor.parameters):
        raise Refusal(400, "shared memory is not spoken here; send the tensor in the request")
    size = tensor.parameters.get("binary_data_size")
    if size is None:
        if tensor.data is msgspec.UNSET or behind:
            raise Refusal(400, f"input {INPUT!r} has no data, or bytes follow the JSON without a binary_data_size")
        texts = [text for part in tensor.data for text in ([part] if isinstance(part, str) else part)]
    elif size != len(behind) or isinstance(size, bool) or tensor.data is not msgspec.UNSET:
        raise Refusal(400, f"binary_data_size must be the {len(behind)} bytes that follow the JSON, and exclude data")
    else:
        texts = _unpack(behind)
    if len(texts) != prod(tensor.shape):
        raise Refusal(400, f"input {INPUT!r} of shape {tensor.shape} holds {len(texts)} texts")
    return texts


def _unpack(packed: bytes) -> list[str]:
    """The elements of a BYTES tensor: each its length in 4 bytes, little-endian, and itself in UTF-8."""
    texts: list[str] = []
    start = 0
    while start < len(packed):
        size = int.from_bytes(packed[start : start + 4], "little")
        start += 4
        if start + size > len(packed):
            raise Refusal(400, f"element {len(texts)} of input {INPUT!r} runs over the end of its data")
        try:
            texts.append(packed[start : start + size].decode("utf-8"))
        except UnicodeDecodeError:
            raise Refusal(400, f"element {len(texts)} of input {INPUT!r} is not UTF-8") from None
        start += size
    return texts


def answer(asked: InferRequest, model_name: str, outcomes: Sequence[Outcome], task: Task) -> Answer:
    """The answer with the outputs that were asked for, as JSON or with binary tensors behind it."""
    all_binary = asked.parameters.get("binary_data_output") is True
    wanted = asked.outputs or [RequestedOutput(name) for name in OUTPUTS[task]]
    tensors: list[OutputTensor] = []
    behind: list[bytes] = []
    for output in wanted:
        datatype, _, make = OUTPUTS[task][output.name]
        made = make(outcomes)
        shape = [len(made)] if isinstance(made, list) else list(made.shape)
        tensor = OutputTensor(output.name, datatype, shape)
        if output.parameters.get("binary_data", all_binary) is True:
            packed = b"".join(map(_pack, made)) if isinstance(made, list) else made.tobytes()
            tensor.parameters = {"binary_data_size": len(packed)}
            behind.append(packed)
        else:
            tensor.data = [*made] if isinstance(made, list) else made.ravel().tolist()
        tensors.append(tensor)
    head = _encode(InferResponse(model_name, VERSION, tensors, msgspec.UNSET if asked.id is None else asked.id))
    if not behind:
        return Answer(200, head)
    length = (b"inference-header-content-length", b"%d" % len(head))
    return Answer(200, b"".join((head, *behind)), _OCTETS, (length,))


def _pack(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(4, "little") + encoded


def timeout_s(value: str | float | bool) -> float:
    """Seconds that the parameter `timeout`, in microseconds, leaves."""
    most_us = LONGEST_DEADLINE_MS * 1000
    if isinstance(value, str | bool) or not 0 < value <= most_us:
        raise Refusal(400, f"the parameter timeout is not a number of microseconds from 1 to {most_us}")
    return value / 1e6
