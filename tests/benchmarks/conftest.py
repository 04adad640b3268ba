"""A bundle that is written in no time and takes its time to answer, so that a server of it can be overloaded."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from serving.bundle import Manifest, seal_bundle

WIDTH, PRODUCTS = 1024, 8


@pytest.fixture(scope="session")
def served_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some 16 million multiplications a token, of no meaning; it calls itself int8, which the benchmark asks for."""
    folder = tmp_path_factory.mktemp("run") / "onnx-int8" / "bundle"
    folder.mkdir(parents=True)
    _write_model(folder / "model.onnx")
    tokenizer = Tokenizer(WordLevel({"[PAD]": 0, "[UNK]": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    # An empty text must be an input too; the endpoint serves no tokenizer that would make nothing of it.
    tokenizer.post_processor = TemplateProcessing(single="[UNK] $A", special_tokens=[("[UNK]", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    told = {"variant": "by-hand.onnx-int8", "engine": "onnxruntime", "precision": "int8"}
    seal_bundle(folder, Manifest(labels=("yes", "no"), max_tokens=64, pad_token_id=0, **told))  # pyright: ignore
    return folder


def _write_model(path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    draw = np.random.default_rng(0)
    square = draw.normal(0, WIDTH**-0.5, (WIDTH, WIDTH)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["points", "input_ids"], ["embedded"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask3"]),
        helper.make_node("Mul", ["embedded", "mask3"], ["product0"]),
        *(helper.make_node("MatMul", [f"product{n}", "square"], [f"product{n + 1}"]) for n in range(PRODUCTS)),
        helper.make_node("ReduceSum", [f"product{PRODUCTS}", "tokens_axis"], ["sum"], keepdims=0),
        helper.make_node("MatMul", ["sum", "head"], ["logits"]),
    ]
    constants = {
        "points": draw.normal(0, 1, (2, WIDTH)).astype(np.float32),
        "square": square,
        "head": square[:, :2],
        "last": np.array([2], dtype=np.int64),
        "tokens_axis": np.array([1], dtype=np.int64),
    }
    sizes = ["batch", "tokens"]
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info(name, TensorProto.INT64, sizes) for name in ("input_ids", "attention_mask")],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
