"""FastAPI in front of a transformers pipeline in torch, fp32: what most tutorials deploy."""

from __future__ import annotations

from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline

from benchmarks.peers.options import HOST, read_options


class Asked(BaseModel):
    """Body of a request."""

    text: str


def main() -> None:
    """Serve until stopped; the model is a folder of `save_pretrained`."""
    options = read_options()
    torch.set_num_threads(1)
    folder = str(options.model)
    classify, app = pipeline("text-classification", model=folder, tokenizer=folder, device="cpu"), FastAPI()

    @app.post("/predict")
    def predict(asked: Asked) -> dict[str, Any]:
        return classify(asked.text, truncation=True)[0]

    uvicorn.run(app, host=HOST, port=options.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
