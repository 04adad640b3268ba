"""LitServe in front of onnxruntime, with its batching or without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import litserve

from benchmarks.peers.onnx_model import OnnxModel
from benchmarks.peers.options import BATCH_WAIT_S, HOST, Options, read_options


class ClassifierApi(litserve.LitAPI):
    """One text a request; `predict` gets a list of them where batching is on."""

    def __init__(self, options: Options) -> None:
        batching = {"max_batch_size": options.batch, "batch_timeout": BATCH_WAIT_S} if options.batch > 1 else {}
        super().__init__(api_path="/predict", **batching)
        self._folder: Path = options.model
        self._batched = options.batch > 1

    def setup(self, device: str) -> None:
        """Load the model, in the worker's process."""
        self._model = OnnxModel(self._folder)

    def decode_request(self, request: dict[str, str]) -> str:
        """The text of a request."""
        return request["text"]

    def predict(self, asked: Any) -> Any:  # noqa: ANN401 - a text, or a list of texts
        """The answer to a text, or one to each of a list."""
        return self._model.predict_batch(asked) if self._batched else self._model.predict(asked)

    def encode_response(self, answer: dict[str, Any]) -> dict[str, Any]:
        """An answer as it goes out."""
        return answer


def main() -> None:
    """Serve until stopped."""
    options = read_options()
    server = litserve.LitServer(ClassifierApi(options), accelerator="cpu", workers_per_device=1)
    server.run(host=HOST, port=options.port, num_api_servers=1, log_level="error", generate_client_file=False)


if __name__ == "__main__":
    main()
