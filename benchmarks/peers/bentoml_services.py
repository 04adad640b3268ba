"""The two services that `bentoml serve` is started on; what they are told comes through the environment.

No postponed annotations: BentoML reads them when the class is made.
"""

import os
from pathlib import Path
from typing import Any

import bentoml

from benchmarks.peers.onnx_model import OnnxModel

# The class is made even where the other one is served, and a batch of one is refused.
_BATCH = max(2, int(os.environ["PEER_BATCH"]))
_QUIET: Any = {"access": {"enabled": False}}


@bentoml.service(workers=1, logging=_QUIET)
class Plain:
    """One text a request."""

    def __init__(self) -> None:
        self._model = OnnxModel(Path(os.environ["PEER_MODEL"]))

    @bentoml.api(route="/predict")
    def predict(self, text: str) -> dict[str, Any]:
        """The answer to a text."""
        return self._model.predict(text)


@bentoml.service(workers=1, logging=_QUIET)
class Batched:
    """A list of texts a request, of one here, which its dispatcher joins with those of other requests."""

    def __init__(self) -> None:
        self._model = OnnxModel(Path(os.environ["PEER_MODEL"]))

    @bentoml.api(route="/predict", batchable=True, max_batch_size=_BATCH)
    def predict(self, texts: list[str]) -> list[dict[str, Any]]:
        """One answer to each text."""
        return self._model.predict_batch(texts)
