"""Tuned tiny classifiers written as graphs, once a session: an export takes seconds."""

from collections.abc import Callable
from dataclasses import replace
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


@pytest.fixture(autouse=True)
def _unsure_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """How often a network that was tuned for a second changes its answer when quantised is luck of the machine.

    Its scores for two classes are often nearly the same. How far they stray is held to the limits all the same.
    """
    from deploycost.exporting.artifacts import ARTIFACTS

    for name, artifact in ARTIFACTS.items():
        if artifact.precision in ("int8", "nf4"):
            monkeypatch.setitem(ARTIFACTS, name, replace(artifact, agreement_limit=0.5))
