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
from serving.bundle import Task
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
    after: Sequence[str] = (),
) -> Path:
    """The graph of this module; `last` is what its output goes through before it gets its name, `after` what follows
    that: nodes that hand it on, or types that it is cast to.
    """
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
    names = [*(f"step{number}" for number in range(len(after))), output]
    nodes.append(helper.make_node(last or "Identity", [inner], names[:1], **({"axis": -1} if "oftmax" in last else {})))
    for step, given, made in zip(after, names, names[1:], strict=False):
        cast = {} if step == "Identity" else {"to": getattr(TensorProto, step.upper())}
        nodes.append(helper.make_node("Cast" if cast else step, [given], [made], **cast))
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


def opened(path: Path) -> Any:
    return open_graph(path, "single-label")


def served(path: Path) -> Any:
    ids = np.array([[1, 2, 3], [7, 9, 9]])
    return OnnxRuntimeEngine(path, 1).logits(ids, np.array([[1, 1, 1], [1, 0, 0]]))


@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.INT32])
@pytest.mark.parametrize("inputs", [INPUTS, INPUTS[:2], INPUTS[::-1]])
def test_inputs_of_other_number_type_and_order_fit_the_endpoint(
    tmp_path: Path, kind: int, inputs: tuple[str, ...]
) -> None:
    given = opened(write(tmp_path / "given.onnx", inputs, kind))
    np.testing.assert_allclose(answers_of(given, TEXTS), LOGITS)
    write_plain(given, 2, tmp_path / "plain.onnx")
    np.testing.assert_allclose(served(tmp_path / "plain.onnx"), LOGITS)
    onnx.checker.check_model(str(tmp_path / "plain.onnx"), full_check=True)
    assert ("token_type_ids were set to zero in the graph" in given.notes) == (len(inputs) == 3)


ENDS: list[tuple[str, Task]] = [
    ("Softmax", "single-label"), ("LogSoftmax", "single-label"), ("Sigmoid", "multi-label"),
]  # fmt: skip


@pytest.mark.parametrize("after", [(), ("Identity",), ("Double", "Identity", "Float")])
@pytest.mark.parametrize("output", ["logits", "probabilities"])
@pytest.mark.parametrize(("last", "task"), ENDS)
def test_logits_are_taken_from_before_the_last_activation(
    tmp_path: Path, last: str, task: Task, output: str, after: tuple[str, ...]
) -> None:
    given = open_graph(write(tmp_path / "given.onnx", last=last, output=output, after=after), task)
    np.testing.assert_allclose(answers_of(given, TEXTS), LOGITS)
    write_plain(given, 2, tmp_path / "plain.onnx")
    np.testing.assert_allclose(served(tmp_path / "plain.onnx"), LOGITS)
    onnx.checker.check_model(str(tmp_path / "plain.onnx"), full_check=True)
    assert any(last in note for note in given.notes)
    assert last not in {node.op_type for node in onnx.load(str(tmp_path / "plain.onnx")).graph.node}


def test_a_number_is_what_the_graph_makes_of_it(tmp_path: Path) -> None:
    given = open_graph(write(tmp_path / "given.onnx", last="Sigmoid", output="score"), "regression")
    write_plain(given, 2, tmp_path / "plain.onnx")
    told = 1 / (1 + np.exp(-np.array(LOGITS)))
    np.testing.assert_allclose(answers_of(given, TEXTS), told, rtol=1e-6)
    np.testing.assert_allclose(served(tmp_path / "plain.onnx"), told, rtol=1e-6)


@pytest.mark.parametrize(
    ("last", "task", "advice"),
    [
        ("Sigmoid", "single-label", "(--task multi-label), or for a number (--task regression)"),
        ("Softmax", "multi-label", "one label of several (--task single-label)"),
        ("LogSoftmax", "multi-label", "one label of several (--task single-label)"),
    ],
)
def test_the_activation_of_another_task(tmp_path: Path, last: str, task: Task, advice: str) -> None:
    told = refusal(write(tmp_path / "given.onnx", last=last), task)
    assert f"is brought as {task} and ends in {last}, which stands for " in told
    assert advice in told


def test_scores_rounded_to_whole_numbers_are_no_logits(tmp_path: Path) -> None:
    given = open_graph(write(tmp_path / "given.onnx", last="Softmax", after=("Int64", "Float")), "single-label")
    assert np.isin(answers_of(given, TEXTS), [0, 1]).all()


def test_what_is_made_of_scores_goes_with_them(tmp_path: Path) -> None:
    model = onnx.load(str(write(tmp_path / "given.onnx", last="Softmax", output="probabilities")))
    model.graph.node.append(helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1))
    model.graph.output.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["batch", 1]))
    onnx.save(model, str(tmp_path / "given.onnx"))
    write_plain(open_graph(tmp_path / "given.onnx", "single-label"), 2, tmp_path / "plain.onnx")
    np.testing.assert_allclose(served(tmp_path / "plain.onnx"), LOGITS)


def test_an_output_of_another_name_is_called_logits(tmp_path: Path) -> None:
    write_plain(opened(write(tmp_path / "given.onnx", output="scores")), 2, tmp_path / "plain.onnx")
    np.testing.assert_allclose(served(tmp_path / "plain.onnx"), LOGITS)


def test_an_inner_tensor_called_logits_makes_way(tmp_path: Path) -> None:
    """A temperature: what the graph calls logits is not what it answers, and is read inside a branch too."""
    model = onnx.load(str(write(tmp_path / "given.onnx", output="logits")))
    halves = helper.make_graph(
        [helper.make_node("Mul", ["logits", "half"], ["scaled"])],
        "halved", [], [helper.make_tensor_value_info("scaled", TensorProto.FLOAT, None)],
    )  # fmt: skip
    model.graph.node.append(helper.make_node("If", ["yes"], ["scores"], then_branch=halves, else_branch=halves))
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([0.5], dtype=np.float32), "half"))
    model.graph.output[0].name = "scores"
    onnx.save(model, str(tmp_path / "given.onnx"))
    for place in ("first", "again"):  # and a graph that was written so can be brought once more
        write_plain(opened(tmp_path / "given.onnx"), 2, tmp_path / f"{place}.onnx")
        np.testing.assert_allclose(served(tmp_path / f"{place}.onnx"), np.array(LOGITS) / 2)
        again = onnx.load(str(tmp_path / f"{place}.onnx"))
        again.graph.node.append(helper.make_node("Identity", ["logits"], ["answer"]))
        again.graph.output[0].name = "answer"
        onnx.save(again, str(tmp_path / "given.onnx"))


def test_weights_in_a_file_of_their_own_are_read_where_they_are(tmp_path: Path) -> None:
    model = onnx.load(str(write(tmp_path / "given.onnx")))
    path = tmp_path / "apart.onnx"
    onnx.save(model, str(path), save_as_external_data=True, location="apart.onnx.data", size_threshold=0)
    write_plain(opened(path), 2, tmp_path / "plain.onnx")
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


def refusal(path: Path, task: Task = "single-label") -> str:
    with pytest.raises(UserError) as told:
        open_graph(path, task)
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
        answers_of(opened(tmp_path / "given.onnx"), TEXTS)
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
