"""OpenVINO behind the engines' protocol."""

import sys
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.bundle import Bundle
from serving.errors import BundleError, EngineError, first_line
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
    6-layer int8 encoder took 0.6 of the time that it took with free sizes. So each of the bundle's `token_buckets` is
    compiled for one text of that length, and a batch is computed row by row; a bundle without them takes any size.

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
        self._requests = []
        try:
            model = core.read_model(bundle.model_path)
            self._refuse_other_signatures(bundle, model)
            for tokens in self._buckets or (None,):
                fixed = model.clone()
                if tokens is not None:
                    fixed.reshape({name: [1, tokens] for name in INPUT_NAMES})
                self._requests.append(core.compile_model(fixed, "CPU", settings).create_infer_request())
        except RuntimeError as error:
            raise BundleError(f"openvino cannot load {bundle.model_path}: {first_line(error)}") from None

    def logits(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `Engine.logits`."""
        if not self._buckets:
            return self._run(0, input_ids, attention_mask)
        rows = [
            self._run(place, input_ids[row : row + 1, :tokens], attention_mask[row : row + 1, :tokens])
            for row, place, tokens in self._placed(attention_mask)
        ]
        return np.concatenate(rows)

    def _placed(self, attention_mask: NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
        """Each row with the place of the bucket that it fits into, and the tokens of that."""
        width = attention_mask.shape[1]
        for row, length in enumerate(attention_mask.sum(axis=1).tolist()):
            place = bisect_left(self._buckets, length)
            if place == len(self._buckets) or self._buckets[place] > width:
                raise EngineError(f"openvino failed: a text of {length} tokens in a batch of {width} fits no bucket")
            yield row, place, self._buckets[place]

    def _run(self, place: int, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        feed = {"input_ids": np.ascontiguousarray(input_ids), "attention_mask": np.ascontiguousarray(attention_mask)}
        try:
            found = self._requests[place].infer(feed, share_inputs=True)
            return np.array(found[OUTPUT_NAME], dtype=np.float32)
        except RuntimeError as error:
            raise EngineError(f"openvino failed: {first_line(error)}") from None

    def _refuse_other_signatures(self, bundle: Bundle, model: Any) -> None:  # noqa: ANN401 - openvino's own
        """`BundleError` where the graph's inputs and outputs are not those of every engine."""
        inputs = {name for each in model.inputs for name in each.names}
        outputs = {name for each in model.outputs for name in each.names}
        if not inputs >= set(INPUT_NAMES) or len(model.inputs) != len(INPUT_NAMES) or OUTPUT_NAME not in outputs:
            raise BundleError(
                f"{bundle.model_path} does not fit the endpoint: expected the int64 inputs {' and '.join(INPUT_NAMES)} "
                f"and the output {OUTPUT_NAME}, got inputs {sorted(inputs)} and outputs {sorted(outputs)}"
            )
