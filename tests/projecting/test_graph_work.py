from pathlib import Path

import pytest

from deploycost.errors import UserError
from deploycost.projecting.graph_work import work_of_graph
from deploycost.projecting.reference import write_reference
from deploycost.projecting.shapes import Shape, find_shape
from deploycost.projecting.work import work_of

SHAPE = Shape(layers=3, hidden=64, heads=4, ffn_width=256, vocabulary=100, labels=4)


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("graphs")
    made = {}
    for precision in ("fp32", "int8"):
        made[precision] = folder / f"{precision}.onnx"
        write_reference(SHAPE, made[precision], int8=precision == "int8")
    return made


@pytest.mark.parametrize(("precision", "kind", "each"), [("fp32", "float", 4), ("int8", "int8", 1)])
def test_graphs_and_configurations_agree(graphs: dict[str, Path], precision: str, kind: str, each: int) -> None:
    counted = work_of_graph(graphs[precision])
    # a layer: 4 x 64 x 64 + 2 x 64 x 256 weights; the head: 64 x 64 + 64 x 4
    assert counted.weights == {kind: 3 * 49_152 + 4352}
    assert counted.weight_bytes == each * (3 * 49_152 + 4352)
    assert (counted.attentions, counted.hidden) == (3, 64)
    found = find_shape(str(graphs[precision]))
    assert (found.layers, found.hidden, found.ffn_width, found.adapter_width) == (3, 64, 256, 0)
    told = work_of(SHAPE, 2, 32, "fp32")
    assert counted.counted_flops(2, 32) == pytest.approx(told.counted_flops, rel=0.03)


def test_an_exported_bundle(tuned, tmp_path: Path) -> None:  # noqa: ANN001
    from deploycost.exporting.graph import write_int8, write_onnx
    from deploycost.models.adapter_folder import load_merged

    made = tuned("bert", "full")
    path, small = tmp_path / "model.onnx", tmp_path / "small.onnx"
    classifier = load_merged(made.folder)
    write_onnx(classifier, 48, path)
    write_int8(path, small)
    shape = find_shape(made.base.place)
    for graph in (path, small):
        counted = work_of_graph(graph)
        assert counted.attentions == shape.layers
        told = work_of(shape, 1, 48, "fp32")
        assert counted.counted_flops(1, 48) == pytest.approx(told.counted_flops, rel=0.1)


def test_what_is_no_graph(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no graph at all")
    with pytest.raises(UserError, match="cannot read the ONNX graph"):
        work_of_graph(path)
