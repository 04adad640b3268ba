"""Graphs from elsewhere, made by hand so that what they answer is known: edited to fit, or refused in one line."""
# ruff: noqa: TID253 - these test what is made of the framework

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploycost.brought_model import find_brought
from deploycost.errors import UserError
from deploycost.experiment import BroughtSpec
from deploycost.exporting.bring import open_brought
from deploycost.exporting.given_graph import answers_of, open_graph, write_plain
from deploycost.models.encoding import EncodedTexts
from serving.engines import OnnxRuntimeEngine

# A word is its own number: the logits are the mean over real words of (word, 10 - word), and 100 x any token type.
TEXTS = EncodedTexts(([1, 2, 3], [7]), (0, 0), 0)
LOGITS = [[2, 8], [7, 3]]
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def write(
    path: Path,
    inputs: Sequence[str] = INPUTS,
    kind: int = TensorProto.INT64,
    last: str = "",
    output: str = "logits",
    sizes: Sequence[int | str] = ("batch", "tokens"),
) -> Path:
    """The graph of this module; `last` is what its output goes through before it gets its name."""
    floats = [helper.make_node("Cast", [name], [f"{name}_f"], to=TensorProto.FLOAT) for name in inputs]
    masked = helper.make_node("Mul", ["input_ids_f", "attention_mask_f"], ["masked"])
    nodes = [
        *floats,
        masked,
        helper.make_node("ReduceSum", ["masked", "axis"], ["sum"], keepdims=1),
        helper.make_node("ReduceSum", ["attention_mask_f", "axis"], ["count"], keepdims=1),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
        helper.make_node("Sub", ["ten", "mean"], ["rest"]),
        helper.make_node("Concat", ["mean", "rest"], ["both"], axis=1),
    ]
    inner = "both"
    if "token_type_ids" in inputs:
        nodes += [
            helper.make_node("ReduceSum", ["token_type_ids_f", "axis"], ["types"], keepdims=1),
            helper.make_node("Mul", ["types", "hundred"], ["far"]),
            helper.make_node("Add", [inner, "far"], ["typed"]),
        ]
        inner = "typed"
    nodes.append(helper.make_node(last or "Identity", [inner], [output], **({"axis": -1} if "oftmax" in last else {})))
    constants = [
        numpy_helper.from_array(np.array([1], dtype=np.int64), "axis"),
        numpy_helper.from_array(np.array([[10]], dtype=np.float32), "ten"),
        numpy_helper.from_array(np.array([[100]], dtype=np.float32), "hundred"),
    ]
    graph = helper.make_graph(
        nodes,
        "words",
        [helper.make_tensor_value_info(name, kind, sizes) for name in inputs],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", 2])],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def served(path: Path) -> Any:
    ids = np.array([[1, 2, 3], [7, 9, 9]])
    return OnnxRuntimeEngine(path, 1).logits(ids, np.array([[1, 1, 1], [1, 0, 0]]))


@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.INT32])
@pytest.mark.parametrize("inputs", [INPUTS, INPUTS[:2], INPUTS[::-1]])
def test_inputs_of_other_number_type_and_order_fit_the_endpoint(
    tmp_path: Path, kind: int, inputs: tuple[str, ...]
) -> None:
    given = open_graph(write(tmp_path / "given.onnx", inputs, kind))
    np.testing.assert_allclose(answers_of(given, TEXTS), LOGITS)
    write_plain(given, 2, tmp_path / "plain.onnx")
    np.testing.assert_allclose(served(tmp_path / "plain.onnx"), LOGITS)
    onnx.checker.check_model(str(tmp_path / "plain.onnx"), full_check=True)
    assert ("token_type_ids were set to zero in the graph" in given.notes) == (len(inputs) == 3)


@pytest.mark.parametrize("last", ["Softmax", "LogSoftmax", "Sigmoid"])
def test_logits_are_taken_from_before_the_last_activation(tmp_path: Path, last: str) -> None:
    given = open_graph(write(tmp_path / "given.onnx", last=last, output="probabilities"))
    np.testing.assert_allclose(answers_of(given, TEXTS), LOGITS)
    write_plain(given, 2, tmp_path / "plain.onnx")
    np.testing.assert_allclose(served(tmp_path / "plain.onnx"), LOGITS)
    assert any(last in note for note in given.notes)
    assert last not in {node.op_type for node in onnx.load(str(tmp_path / "plain.onnx")).graph.node}


def test_an_output_of_another_name_is_called_logits(tmp_path: Path) -> None:
    write_plain(open_graph(write(tmp_path / "given.onnx", output="scores")), 2, tmp_path / "plain.onnx")
    np.testing.assert_allclose(served(tmp_path / "plain.onnx"), LOGITS)


def test_weights_in_a_file_of_their_own_are_read_where_they_are(tmp_path: Path) -> None:
    model = onnx.load(str(write(tmp_path / "given.onnx")))
    path = tmp_path / "apart.onnx"
    onnx.save(model, str(path), save_as_external_data=True, location="apart.onnx.data", size_threshold=0)
    write_plain(open_graph(path), 2, tmp_path / "plain.onnx")
    (tmp_path / "apart.onnx.data").rename(tmp_path / "gone")
    np.testing.assert_allclose(served(tmp_path / "plain.onnx"), LOGITS)
    assert "keeps its weights in apart.onnx.data, which is missing" in refusal(path)
    moved = onnx.load(str(path), load_external_data=False)
    for tensor in moved.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../gone"
    path.write_bytes(moved.SerializeToString())
    assert "keeps weights outside its folder (../gone)" in refusal(path)


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as told:
        open_graph(path)
    assert "\n" not in str(told.value)
    return str(told.value)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"kind": TensorProto.FLOAT}, "takes input_ids as FLOAT, expected INT64 or INT32"),
        ({"sizes": (1, 128)}, "of fixed size [1, 128]; export it with dynamic batch and sequence axes"),
        ({"sizes": ("batch", 128)}, "of fixed size [0, 128]"),
    ],
)
def test_what_the_endpoint_could_not_feed(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    assert problem in refusal(write(tmp_path / "given.onnx", **changes))


def test_other_inputs_outputs_and_files(tmp_path: Path) -> None:
    path = write(tmp_path / "given.onnx")
    model = onnx.load(str(path))
    model.graph.input[2].name = "pixel_values"
    for node in model.graph.node:
        node.input[:] = ["pixel_values" if name == "token_type_ids" else name for name in node.input]
    onnx.save(model, str(path))
    assert "has the inputs input_ids, attention_mask, pixel_values; expected input_ids and attention_mask" in refusal(
        path
    )
    model = onnx.load(str(write(path, output="scores")))
    model.graph.output.append(helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["batch", 1]))
    onnx.save(model, str(path))
    assert "has the outputs scores, mean; expected logits" in refusal(path)
    path.write_bytes(b"no graph")
    assert "cannot read" in refusal(path)


def test_a_quantised_or_halved_graph_is_not_called_fp32(tmp_path: Path) -> None:
    model = onnx.load(str(write(tmp_path / "given.onnx")))
    model.graph.node[0].op_type = "QuantizeLinear"
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.array([[10]], dtype=np.float16), "ten"))
    from deploycost.exporting import given_graph

    with pytest.raises(UserError, match="is quantised already"):
        given_graph._refuse_precision(tmp_path, model)
    model.graph.node[0].op_type = "Cast"
    with pytest.raises(UserError, match="weights in 16 bits"):
        given_graph._refuse_precision(tmp_path, model)


def test_a_graph_that_fails_on_texts(tmp_path: Path) -> None:
    model = onnx.load(str(write(tmp_path / "given.onnx")))
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.zeros((7, 3), dtype=np.float32), "ten"))
    onnx.save(model, str(tmp_path / "given.onnx"))
    with pytest.raises(UserError, match="does not run on texts: ") as told:
        answers_of(open_graph(tmp_path / "given.onnx"), TEXTS)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_graph_is_fed_as_much_as_its_config_has_positions_for(
    tiny_bases: dict[str, Path], tmp_path: Path, family: str
) -> None:
    write(tmp_path / "model.onnx", INPUTS[:2])
    for name in ("tokenizer.json", "config.json"):
        (tmp_path / name).write_bytes((tiny_bases[family] / name).read_bytes())
    opened = open_brought(find_brought(BroughtSpec(source=str(tmp_path))))
    assert (opened.max_tokens, opened.notes) == (64, ())  # RoBERTa has 66 positions, of which it never uses two
    (tmp_path / "config.json").write_text('{"model_type": "of nobody", "max_position_embeddings": 32}')
    assert open_brought(find_brought(BroughtSpec(source=str(tmp_path)))).max_tokens == 32
    (tmp_path / "config.json").write_text('{"model_type": "of nobody"}')
    opened = open_brought(find_brought(BroughtSpec(source=str(tmp_path))))
    assert opened.max_tokens == 128
    assert "nothing says how many tokens it takes" in opened.notes[0]
