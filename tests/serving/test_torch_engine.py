"""Graphs for torch: data and nothing else, computed as written, refused where they ask for more."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from serving.bundle import Bundle, seal_bundle
from serving.classifier import Classifier
from serving.errors import BundleError
from serving.torch_graph import OPERATORS, Graph, Step, write_graph


def _of(name: str) -> dict[str, str]:
    return {"of": name}


# The model of conftest.py's docstring: the mean of the points of all tokens that are not padding.
STEPS = (
    Step("embedded", "embedding.default", [_of("points"), _of("input_ids")]),
    Step("mask", "to.dtype", [_of("attention_mask"), {"dtype": "float32"}]),
    Step("mask3", "unsqueeze.default", [_of("mask"), -1]),
    Step("kept", "mul.Tensor", [_of("embedded"), _of("mask3")]),
    Step("sum", "sum.dim_IntList", [_of("kept"), [1]]),
    Step("count", "sum.dim_IntList", [_of("mask"), [1]], {"keepdim": True}),
    Step("logits", "div.Tensor", [_of("sum"), _of("count")]),
)


@pytest.fixture
def make_torch(make_bundle: Callable[..., Bundle], manifest: Callable[..., Any]) -> Callable[..., Bundle]:
    """The tiny bundle with its model as a graph for torch; `steps` and `weights` may be others."""

    def make(folder: Path, steps: tuple[Step, ...] = STEPS, weights: dict[str, Any] | None = None) -> Bundle:
        from safetensors.numpy import save_file

        make_bundle(folder)
        (folder / "model.onnx").unlink()
        points = np.zeros((7, 3), dtype=np.float32)
        points[4, 0] = points[5, 1] = points[6, 2] = 4.0
        save_file({"points": points} if weights is None else weights, folder / "weights.safetensors")
        write_graph(Graph(weights=("points",), steps=steps, output="logits"), folder / "graph.json")
        return seal_bundle(folder, manifest(engine="torch", model_file="graph.json", variant="tiny.torch-fp32"))

    return make


def test_it_computes_what_is_written(make_torch: Callable[..., Bundle], tmp_path: Path) -> None:
    served = Classifier(make_torch(tmp_path / "bundle"))
    logits = served.logits(["red", "green blue", ""])
    # [CLS] red [SEP]; [CLS] green blue [SEP]; [CLS] [SEP].
    assert_allclose(logits, [[4 / 3, 0, 0], [0, 1, 1], [0, 0, 0]], atol=1e-6)
    assert logits.dtype == np.float32


def test_results_that_nobody_needs_are_let_go(make_torch: Callable[..., Bundle], tmp_path: Path) -> None:
    engine: Any = Classifier(make_torch(tmp_path / "bundle"))._engine
    spent = [place for action in engine._actions for place in action.spent]
    # Places: two inputs, one weight, then the steps in order; the last is the output.
    assert sorted(spent) == [3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    "operator", ["from_file.default", "load.default", "linear", "size.__import__", "system", "size.eval"]
)
def test_an_operator_outside_the_list_is_refused(
    make_torch: Callable[..., Bundle], tmp_path: Path, operator: str
) -> None:
    steps = (*STEPS, Step("more", operator, ["/etc/passwd"]))
    with pytest.raises(BundleError, match="names operators that are not allowed in a bundle") as refusal:
        Classifier(make_torch(tmp_path / "bundle", steps))
    assert operator in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ({"of": "nobody"}, "nobody"),
        ({"dtype": "load"}, "no dtype"),
        ({"layout": "float32"}, "no layout"),
        ({"code": "print(1)"}, "no code"),
        ({"dtype": "no_such"}, "no_such"),
    ],
)
def test_an_argument_that_is_none_is_refused(
    make_torch: Callable[..., Bundle], tmp_path: Path, argument: Any, told: str
) -> None:
    steps = (*STEPS[:1], Step("mask", "to.dtype", [{"of": "attention_mask"}, argument]), *STEPS[2:])
    with pytest.raises(BundleError, match="torch cannot load") as refusal:
        Classifier(make_torch(tmp_path / "bundle", steps))
    assert told in str(refusal.value)


def test_a_step_that_cannot_be_done_is_told_at_load(make_torch: Callable[..., Bundle], tmp_path: Path) -> None:
    steps = (*STEPS[:-1], Step("logits", "div.Tensor", [_of("sum"), _of("embedded")]))
    with pytest.raises(BundleError, match="fails on two short texts: torch failed: "):
        Classifier(make_torch(tmp_path / "bundle", steps))


def test_weights_that_are_missing_or_no_safetensors_are_told(
    make_torch: Callable[..., Bundle], manifest: Callable[..., Any], tmp_path: Path
) -> None:
    other = {"others": np.zeros((7, 3), dtype=np.float32)}
    with pytest.raises(BundleError, match=r"torch cannot load .*points"):
        Classifier(make_torch(tmp_path / "missing", weights=other))
    folder = make_torch(tmp_path / "pickle").folder
    (folder / "weights.safetensors").write_bytes(b"\x80\x04c" + b"os\nsystem\n" * 10)
    changed = {"engine": "torch", "model_file": "graph.json"}
    with pytest.raises(BundleError, match="torch cannot load"):
        Classifier(seal_bundle(folder, manifest(**changed)))
    (folder / "weights.safetensors").unlink()
    with pytest.raises(BundleError, match=r"has no weights\.safetensors sealed beside it"):
        Classifier(seal_bundle(folder, manifest(**changed)))


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"format_version":1}', b"\xff", b"[" * 200_000])
def test_a_graph_that_is_none_is_told(
    make_torch: Callable[..., Bundle], manifest: Callable[..., Any], tmp_path: Path, content: bytes
) -> None:
    folder = make_torch(tmp_path / "bundle").folder
    (folder / "graph.json").write_bytes(content)
    with pytest.raises(BundleError, match="is not a graph for torch") as refusal:
        Classifier(seal_bundle(folder, manifest(engine="torch", model_file="graph.json")))
    assert "\n" not in str(refusal.value)


def test_a_graph_of_another_format_is_told(
    make_torch: Callable[..., Bundle], manifest: Callable[..., Any], tmp_path: Path
) -> None:
    folder = make_torch(tmp_path / "bundle").folder
    graph = json.loads((folder / "graph.json").read_text())
    (folder / "graph.json").write_text(json.dumps(graph | {"format_version": 2}))
    with pytest.raises(BundleError, match="has format 2, expected 1"):
        Classifier(seal_bundle(folder, manifest(engine="torch", model_file="graph.json")))


def test_the_list_names_operators_that_there_are() -> None:
    import torch

    for name in OPERATORS:
        kind, _, overload = name.partition(".")
        assert isinstance(getattr(getattr(torch.ops.aten, kind), overload), torch._ops.OpOverload), name
        assert not {"file", "load", "save", "pickle"} & set(kind.split("_")), name


def test_without_torch_the_line_says_what_to_install(
    make_torch: Callable[..., Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BundleError, match="needs the engine torch with torch, which is not installed; install it with"):
        Classifier(make_torch(tmp_path / "bundle"))
