"""onnxruntime behind the engines' protocol."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.bundle import DeviceName
from serving.errors import BundleError, EngineError, first_line
from serving.signature import INPUT_NAMES, OUTPUT_NAME

# One step of CUDA's memory arena for each need, not the next power of two: a server holds what it uses.
_CUDA = ("CUDAExecutionProvider", {"arena_extend_strategy": "kSameAsRequested"})


class OnnxRuntimeEngine:
    """onnxruntime with a stated number of threads, on the CPU or, where it is asked for, on a GPU.

    Raises `BundleError` where the model does not load, or where there is no GPU that it could use.
    """

    def __init__(self, model_path: Path, threads: int, device: DeviceName = "cpu") -> None:
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
        providers = ["CPUExecutionProvider"] if device == "cpu" else [_CUDA, "CPUExecutionProvider"]
        if device == "cuda" and _CUDA[0] not in onnxruntime.get_available_providers():
            raise BundleError(
                f"{model_path} is for a GPU, and this onnxruntime knows none; install onnxruntime-gpu in its place, "
                "or serve another artifact"
            )
        try:
            self._session = onnxruntime.InferenceSession(model_path, options, providers=providers)
        except self._faults as error:
            raise BundleError(f"onnxruntime cannot load {model_path}: {first_line(error)}") from None
        if device == "cuda" and _CUDA[0] not in self._session.get_providers():
            # It falls back to the CPU in silence, where half precision is slower than full.
            raise BundleError(f"{model_path} is for a GPU, and onnxruntime found none that it can use")
        self._refuse_other_signatures(model_path)

    def logits(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `Engine.logits`."""
        feed = {"input_ids": input_ids, "attention_mask": attention_mask}
        try:
            (logits,) = self._session.run([OUTPUT_NAME], feed)
        except self._faults as error:
            raise EngineError(f"onnxruntime failed: {first_line(error)}") from None
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
