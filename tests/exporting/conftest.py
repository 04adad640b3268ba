"""Tuned tiny classifiers written as graphs, once a session: an export takes seconds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def opened(tuned: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Any]:
    """A trained model ready to be exported: `opened("bert", "stacked")`."""
    from deploycost.exporting.export import open_trained

    done: dict[tuple[str, str], Any] = {}

    def get(family: str, method: str) -> Any:
        if (family, method) not in done:
            made = tuned(family, method)
            logits_path: Path = made.folder / "trained_logits.safetensors"
            scratch = tmp_path_factory.mktemp(f"{family}-{method}-graph")
            texts = made.dataset
            done[family, method] = open_trained(made.record, made.folder, logits_path, texts.test, scratch, texts.train)
        return done[family, method]

    return get
