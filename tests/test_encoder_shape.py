"""Shapes read from config.json against the networks that transformers builds from it."""

import json
import re
from pathlib import Path

import pytest

from deploycost.encoder_shape import EncoderShape, matrix_word, shape_from, shape_of
from deploycost.errors import UserError


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
def test_counts_and_matrices_are_those_of_the_network(family: str, tiny_bases: dict[str, Path]) -> None:
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.from_pretrained(tiny_bases[family], num_labels=3)
    network = AutoModelForSequenceClassification.from_config(config)
    shape = shape_of(str(tiny_bases[family]))
    assert shape.body_parameters + shape.head_parameters(3) == sum(p.numel() for p in network.parameters())
    modules = dict(network.named_modules())
    for matrix in shape.matrices:
        found = [module for path, module in modules.items() if re.search(rf"\.layer\.\d+\.{matrix.path}$", path)]
        assert len(found) == shape.layers
        assert {(module.in_features, module.out_features) for module in found} == {(matrix.inputs, matrix.outputs)}


def test_targets_default_to_query_and_value_and_match_like_peft(shape: EncoderShape) -> None:
    assert [matrix_word(m.path) for m in shape.targeted(None)] == ["query", "value"]
    assert [m.path for m in shape.targeted(("output.dense",))] == ["attention.output.dense", "output.dense"]
    assert len(shape.targeted(("key", "attention.self.key"))) == 1
    with pytest.raises(
        UserError, match=r"unknown target 'querry' \(did you mean 'query'\?\).*query, key, value, dense"
    ):
        shape.targeted(("querry",))


def test_an_architecture_of_another_kind_is_told_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"is a 'albert' \(did you mean 'bert'\?\)"):
        shape_from({"model_type": "albert"}, "mine")


def test_missing_measures_are_told_all_at_once() -> None:
    with pytest.raises(UserError, match="num_hidden_layers, hidden_size, num_attention_heads"):
        shape_from({"model_type": "bert", "hidden_size": "wide", "num_hidden_layers": 0}, "mine")


@pytest.mark.parametrize("content", ["{", "[]", None])
def test_a_config_that_cannot_be_read_is_one_line(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config\.json of model"):
        shape_of(str(tmp_path))


def test_reading_a_shape_loads_no_framework(tiny_bases: dict[str, Path]) -> None:
    import subprocess
    import sys

    script = (
        "import sys; from deploycost.encoder_shape import shape_of; import deploycost.training_memory\n"
        f"shape_of({str(tiny_bases['bert'])!r}); print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.replace("'", '"')) == []


@pytest.fixture
def shape() -> EncoderShape:
    return EncoderShape("bert", layers=2, hidden=8, heads=2, ffn_width=16, vocabulary=10, positions=6, token_types=2)
