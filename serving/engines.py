"""What runs a model: one visible table of engines behind one small protocol.

A model has the int64 inputs `input_ids` and `attention_mask`, both [batch, tokens] with both sizes free, and the output
`logits` [batch, labels]. An engine's library is imported when a bundle asks for it, not before.
"""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from serving.bundle import Bundle, EngineName
from serving.onnx_engine import OnnxRuntimeEngine
from serving.openvino_engine import OpenVinoEngine
from serving.torch_engine import TorchEngine


class Engine(Protocol):
    """A loaded model. Raises `EngineError` where the model cannot compute an input."""

    def logits(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scores before the softmax, [batch, labels], for token ids and mask, both [batch, tokens]."""
        ...


# Each is given the bundle and the number of cores that it may use, and raises `BundleError` where the model does not
# load or the library is not installed.
ENGINES: Final[Mapping[EngineName, Callable[[Bundle, int], Engine]]] = {
    "onnxruntime": lambda bundle, threads: OnnxRuntimeEngine(bundle.model_path, threads, bundle.manifest.device),
    "openvino": OpenVinoEngine,
    "torch": TorchEngine,
}
