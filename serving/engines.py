"""What runs a model: one visible table of engines behind one small protocol.

A model is a graph with the int64 inputs `input_ids` and `attention_mask`, both [batch, tokens] with both sizes free,
and the output `logits` [batch, labels]. An engine's library is imported when a bundle asks for it, not before.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from serving.bundle import EngineName
from serving.errors import BundleError, EngineError

INPUT_NAMES: Final = ("input_ids", "attention_mask")
OUTPUT_NAME: Final = "logits"


class Engine(Protocol):
    """A loaded model. Raises `EngineError` where the model cannot compute an input."""

    def logits(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scores before the softmax, [batch, labels], for token ids and mask, both [batch, tokens]."""
        ...


class OnnxRuntimeEngine:
    """onnxruntime on the CPU with a stated number of threads; raises `BundleError` where the model does not load."""

    def __init__(self, model_path: Path, threads: int) -> None:
        # From 1.31 it reports its use to its maker unless told not to; it reads this when it is imported.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime
        import onnxruntime.capi.onnxruntime_pybind11_state as faults

        self._faults = (  # they share no base class of their own
            faults.Fail,
            faults.InvalidArgument,
            faults.InvalidGraph,
            faults.InvalidProtobuf,
            faults.NoSuchFile,
            faults.NotImplemented,
            faults.RuntimeException,
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        # Workers that spin take the cores from the event loop and from other processes: with 2 threads on a shared
        # 2-core machine, spinning doubled the CPU time of a request and lengthened it by half.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4  # its warnings could quote inputs; failures reach us as exceptions
        try:
            self._session = onnxruntime.InferenceSession(model_path, options, providers=["CPUExecutionProvider"])
        except self._faults as error:
            raise BundleError(f"onnxruntime cannot load {model_path}: {_first_line(error)}") from None
        self._refuse_other_signatures(model_path)

    def logits(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `Engine.logits`."""
        feed = {"input_ids": input_ids, "attention_mask": attention_mask}
        try:
            (logits,) = self._session.run([OUTPUT_NAME], feed)
        except self._faults as error:
            raise EngineError(f"onnxruntime failed: {_first_line(error)}") from None
        return np.asarray(logits, dtype=np.float32)

    def _refuse_other_signatures(self, model_path: Path) -> None:
        """`BundleError` where the graph's inputs and outputs are not those of this module's docstring."""
        inputs = {node.name: node.type for node in self._session.get_inputs()}
        outputs = [node.name for node in self._session.get_outputs()]
        if inputs != dict.fromkeys(INPUT_NAMES, "tensor(int64)") or OUTPUT_NAME not in outputs:
            raise BundleError(
                f"{model_path} does not fit the endpoint: expected the int64 inputs {' and '.join(INPUT_NAMES)} and "
                f"the output {OUTPUT_NAME}, got inputs {inputs} and outputs {outputs}"
            )


ENGINES: Final[Mapping[EngineName, Callable[[Path, int], Engine]]] = {"onnxruntime": OnnxRuntimeEngine}


def _first_line(error: Exception) -> str:
    """The first line of an error, short enough to be read."""
    return str(error).partition("\n")[0][:200]
