"""FastAPI in front of onnxruntime: a function of its thread pool for each request, as its documentation shows it."""

from __future__ import annotations

from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.peers.onnx_model import OnnxModel
from benchmarks.peers.options import HOST, read_options


class Asked(BaseModel):
    """Body of a request."""

    text: str


def main() -> None:
    """Serve until stopped."""
    options = read_options()
    model, app = OnnxModel(options.model), FastAPI()

    @app.post("/predict")
    def predict(asked: Asked) -> dict[str, Any]:
        return model.predict(asked.text)

    uvicorn.run(app, host=HOST, port=options.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
