"""OpenVINO behind the engines' protocol."""

import sys
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.bundle import Bundle
from serving.errors import BundleError, EngineError, first_line
from serving.openvino_branches import BRANCH_NAME, join_lengths, name_for
from serving.signature import INPUT_NAMES, OUTPUT_NAME

_REPORTER = "openvino_telemetry"
# What the model multiplies in; quantised parts stay in 8 bits under either.
_HINTS = {"fp32": "f32", "int8": "f32", "bf16": "bf16"}


@contextmanager
def kept_silent() -> Iterator[None]:
    """A block in which OpenVINO and its tools are imported without the package by which they report their use.

    They do so on import, and ask nobody; without it they take a stand-in that does nothing.
    """
    blocked = _REPORTER not in sys.modules
    if blocked:
        sys.modules[_REPORTER] = None  # pyright: ignore[reportArgumentType] - Python's own way to say "not there"
    try:
        yield
    finally:
        if blocked:
            del sys.modules[_REPORTER]


def import_openvino() -> Any:  # noqa: ANN401 - the module itself
    """The library; `ImportError` where it is not installed."""
    with kept_silent():
        import openvino
    return openvino


class OpenVinoEngine:
    """OpenVINO on the CPU with a stated number of threads, in the precision that the bundle names.

    With sizes that it knows beforehand it fuses more, and prepares nothing while a text waits: measured on one core, a
    6-layer int8 encoder took 0.6 of the time that it took with free sizes. So the bundle's `token_buckets` become
    branches of one compiled model (`join_lengths`), and a batch is computed row by row; a bundle without them takes
    any size.

    Raises `BundleError` where the model does not load.
    """

    def __init__(self, bundle: Bundle, threads: int) -> None:
        try:
            openvino = import_openvino()
        except ImportError:
            raise BundleError(
                f"{bundle.folder} needs the engine openvino, which is not installed; "
                "install it with: pip install 'deploycost[openvino]'"
            ) from None
        core = openvino.Core()
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            # Which cores a server runs on is its operator's choice; two workers must not be put on the same.
            "ENABLE_CPU_PINNING": False,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": _HINTS.get(bundle.manifest.precision, "f32"),
        }
        self._buckets = bundle.manifest.token_buckets
        # A request is one computation at a time, and what goes into it lies in one place.
        self._lock = Lock()
        try:
            model = core.read_model(bundle.model_path)
            self._refuse_other_signatures(bundle, model)
            if self._buckets:
                model = join_lengths(openvino, model, self._buckets, len(bundle.manifest.labels))
            self._request = core.compile_model(model, "CPU", settings).create_infer_request()
            if self._buckets:
                self._tie_memory(openvino, len(bundle.manifest.labels))
        except RuntimeError as error:
            raise BundleError(f"openvino cannot load {bundle.model_path}: {first_line(error)}") from None

    def logits(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `Engine.logits`."""
        try:
            with self._lock:
                if self._buckets:
                    placed = [*self._placed(attention_mask)]
                    return np.stack([self._run(place, input_ids[row], attention_mask[row]) for row, place in placed])
                feed = {"input_ids": input_ids, "attention_mask": attention_mask}
                found = self._request.infer({name: np.ascontiguousarray(each) for name, each in feed.items()})
                return np.array(found[OUTPUT_NAME], dtype=np.float32)
        except RuntimeError as error:
            raise EngineError(f"openvino failed: {first_line(error)}") from None

    def _tie_memory(self, openvino: Any, labels: int) -> None:  # noqa: ANN401 - the module itself
        """Arrays that the request reads and writes: a text is put there, and nothing is handed over for each."""

        def tied(name: str, array: NDArray[Any]) -> NDArray[Any]:
            self._request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
            return array

        self._branch = tied(BRANCH_NAME, np.zeros((), dtype=np.int32))
        self._given = [
            [tied(name_for(name, tokens), np.zeros((1, tokens), dtype=np.int32)) for name in INPUT_NAMES]
            for tokens in self._buckets
        ]
        width = self._request.get_output_tensor(0).shape[1] or labels  # 0 where the graph does not say
        self._answers = tied(OUTPUT_NAME, np.zeros((len(self._buckets), width), dtype=np.float32))

    def _placed(self, attention_mask: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
        """Each row with the place of the bucket that it fits into."""
        width = attention_mask.shape[1]
        for row, length in enumerate(attention_mask.sum(axis=1).tolist()):
            place = bisect_left(self._buckets, length)
            if place == len(self._buckets) or self._buckets[place] > width:
                raise EngineError(f"openvino failed: a text of {length} tokens in a batch of {width} fits no bucket")
            yield row, place

    def _run(self, place: int, *row: NDArray[np.int64]) -> NDArray[np.float32]:
        """The logits of one text, by the branch at `place`."""
        for given, new in zip(self._given[place], row, strict=True):
            given[0] = new[: given.shape[1]]
        self._branch[...] = place
        self._request.infer(share_outputs=True)
        return self._answers[place].copy()

    def _refuse_other_signatures(self, bundle: Bundle, model: Any) -> None:  # noqa: ANN401 - openvino's own
        """`BundleError` where the graph's inputs and outputs are not those of every engine."""
        inputs = {name for each in model.inputs for name in each.names}
        outputs = {name for each in model.outputs for name in each.names}
        if not inputs >= set(INPUT_NAMES) or len(model.inputs) != len(INPUT_NAMES) or OUTPUT_NAME not in outputs:
            raise BundleError(
                f"{bundle.model_path} does not fit the endpoint: expected the int64 inputs {' and '.join(INPUT_NAMES)} "
                f"and the output {OUTPUT_NAME}, got inputs {sorted(inputs)} and outputs {sorted(outputs)}"
            )
