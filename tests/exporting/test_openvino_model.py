"""What is written for OpenVINO: the graph's own answers, from weights and tables that every length can share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.testing import assert_allclose

from deploycost.exporting.calibration import draw
from deploycost.exporting.openvino_model import write_openvino, write_openvino_int8
from serving.openvino_engine import import_openvino
from serving.signature import OUTPUT_NAME


def _answer(path: Path, feed: dict[str, Any]) -> Any:
    return import_openvino().Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(feed)[OUTPUT_NAME]


def _matrices(model: Any) -> list[Any]:
    """The products whose second factor is made of constants alone."""
    found = []
    for each in model.get_ordered_ops():
        if each.get_type_name() == "MatMul":
            source = each.input_value(1).get_node()
            while source.get_type_name() in ("Multiply", "Convert", "FakeQuantize"):
                source = source.input_value(0).get_node()
            found += [(each, source)] if source.get_type_name() == "Constant" else []
    return found


def test_weights_lie_outputs_first_and_answers_stay(opened: Callable[..., Any], tmp_path: Path) -> None:
    trained, openvino = opened("bert", "full"), import_openvino()
    write_openvino(trained.graph_path, tmp_path / "model.xml")
    feed = next(draw(trained.train, trained.tokenizer, trained.max_tokens).feeds())
    assert_allclose(_answer(tmp_path / "model.xml", feed), _answer(trained.graph_path, feed), atol=1e-5)
    matrices = _matrices(openvino.Core().read_model(tmp_path / "model.xml"))
    # Six of each of the two layers, the pooler's and the head's.
    assert len(matrices) == 6 * 2 + 2
    assert all(product.get_attributes()["transpose_b"] for product, _ in matrices)


def test_in_8_bits_matrices_and_tables_are_whole_numbers(opened: Callable[..., Any], tmp_path: Path) -> None:
    trained, openvino = opened("bert", "full"), import_openvino()
    calibration = draw(trained.train, trained.tokenizer, trained.max_tokens)
    write_openvino_int8(trained.graph_path, tmp_path / "model.xml", calibration)
    model = openvino.Core().read_model(tmp_path / "model.xml")
    products = [weights.get_element_type().to_string() for _, weights in _matrices(model)]
    assert products.count("i8") == len(products)
    tables = [each.input_value(0).get_node() for each in model.get_ordered_ops() if each.get_type_name() == "Gather"]
    wide = [table for table in tables if table.get_type_name() == "Constant" and table.shape[-1:] == [32]]
    assert wide, "words are looked up"
    for table in wide:
        assert table.get_element_type().to_string() == "i8"
        # The largest of every row that is not all nought is as large as it can be.
        largest = np.abs(table.data.astype(int)).max(axis=1)
        assert set(largest.tolist()) <= {0, 127}
