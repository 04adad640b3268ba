"""Base encoders: which are taken, which are refused in one line, and what of them is held in 4 bits."""
# ruff: noqa: TID253 - these test what is made of the framework

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt
from transformers import BertConfig, BertForSequenceClassification, GPT2Config

from deploycost.errors import UserError
from deploycost.models.base import FAMILIES, find_base, load_classifier, load_tokenizer

LABELS = ("World", "Sports", "Business")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_encoder_is_taken(tiny_bases: dict[str, Path], family: str) -> None:
    base = find_base(str(tiny_bases[family]))
    assert (base.name, base.place) == (str(tiny_bases[family]), str(tiny_bases[family]))
    assert base.model_type == family
    # RoBERTa's table has 66 rows here, two of which no token can take.
    assert base.max_positions == 64
    tokenizer = load_tokenizer(base)
    assert tokenizer("goal")["input_ids"][0] == tokenizer.cls_token_id


@pytest.mark.parametrize("family", FAMILIES)
def test_the_longest_text_fits_the_positions(tiny_bases: dict[str, Path], family: str) -> None:
    base = find_base(str(tiny_bases[family]))
    model: Any = load_classifier(base, LABELS).eval()
    ids = torch.full((1, base.max_positions), 5)
    assert model(input_ids=ids).logits.shape == (1, 3)
    with pytest.raises((RuntimeError, IndexError)):
        model(input_ids=torch.full((1, base.max_positions + 1), 5))


@pytest.mark.parametrize(("bits", "kind"), [(4, Linear4bit), (8, Linear8bitLt)])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_body_is_quantised_and_the_head_is_not(
    tiny_bases: dict[str, Path], family: str, bits: Any, kind: Any
) -> None:
    model = load_classifier(find_base(str(tiny_bases[family])), LABELS, bits=bits)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    quantised = {name for name, module in layers.items() if isinstance(module, kind)}
    # Two layers of query, key, value, output and the two of the feed-forward part.
    assert len(quantised) == 12
    # The last of each family's head: BERT's pooler, DistilBERT's pre-classifier, RoBERTa's dense, and the output.
    assert len(layers) - len(quantised) == 2
    for name in quantised:
        weight: Any = layers[name].weight
        if bits == 8:
            assert weight.dtype is torch.int8
            continue
        assert (weight.quant_type, weight.quant_state.nested) == ("nf4", True)
        assert not layers[name].support_avx512bf16_for_cpu
    for name, parameter in model.named_parameters():
        if name.rsplit(".", 1)[0] not in quantised:
            assert parameter.dtype is torch.float32, name


def test_labels_are_named_in_the_model(tiny_bases: dict[str, Path]) -> None:
    model = load_classifier(find_base(str(tiny_bases["bert"])), LABELS)
    assert model.config.id2label == dict(enumerate(LABELS))
    assert model.config.label2id == {name: number for number, name in enumerate(LABELS)}


def _refusal(name: str) -> str:
    with pytest.raises(UserError) as refusal:
        find_base(name)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_a_generator_is_no_classifier_base(tiny_bases: dict[str, Path], tmp_path: Path) -> None:
    shutil.copy(tiny_bases["bert"] / "model.safetensors", tmp_path)
    GPT2Config().save_pretrained(tmp_path)
    assert "is a 'gpt2', not a classifier base" in _refusal(str(tmp_path))
    assert "expected one of bert, distilbert, roberta" in _refusal(str(tmp_path))


def test_an_unknown_architecture_is_told(tiny_bases: dict[str, Path], tmp_path: Path) -> None:
    shutil.copy(tiny_bases["bert"] / "model.safetensors", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no-such-thing"}))
    assert "is not one that transformers knows" in _refusal(str(tmp_path))


def test_a_broken_config_is_told(tiny_bases: dict[str, Path], tmp_path: Path) -> None:
    shutil.copy(tiny_bases["bert"] / "model.safetensors", tmp_path)
    (tmp_path / "config.json").write_text("{")
    assert "is not a folder with a readable config.json" in _refusal(str(tmp_path))


def test_a_hub_that_is_out_of_reach_names_the_embedded_encoder(offline: None) -> None:
    message = _refusal("nobody/no-such-encoder")
    assert "cannot have model 'nobody/no-such-encoder' from the model hub (HF_HUB_OFFLINE is set" in message
    assert "--model minilm" in message


def test_no_tokenizer_is_told(tiny_bases: dict[str, Path], tmp_path: Path) -> None:
    shutil.copy(tiny_bases["bert"] / "model.safetensors", tmp_path)
    shutil.copy(tiny_bases["bert"] / "config.json", tmp_path)
    with pytest.raises(UserError, match="tokenizer") as refusal:
        load_tokenizer(find_base(str(tmp_path)))
    assert "\n" not in str(refusal.value)


def test_cut_weights_are_told(tiny_bases: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(tiny_bases["bert"], tmp_path, dirs_exist_ok=True)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot load the weights of model") as refusal:
        load_classifier(find_base(str(tmp_path)), LABELS)
    assert "\n" not in str(refusal.value)


def test_weights_of_another_network_are_told(tiny_bases: dict[str, Path], tmp_path: Path) -> None:
    """Else transformers would draw the missing weights at random and go on."""
    shutil.copytree(tiny_bases["bert"], tmp_path, dirs_exist_ok=True)
    shutil.copy(tiny_bases["distilbert"] / "model.safetensors", tmp_path)
    with pytest.raises(UserError, match=r"do not fit its config\.json: .* of its encoder are missing") as refusal:
        load_classifier(find_base(str(tmp_path)), LABELS)
    assert "\n" not in str(refusal.value)


def test_a_classifier_of_other_labels_is_a_base_like_any(tiny_bases: dict[str, Path], tmp_path: Path) -> None:
    """A model tuned for two labels elsewhere gets a fresh head for three here; its body is kept."""
    shutil.copytree(tiny_bases["bert"], tmp_path, dirs_exist_ok=True)
    config = BertConfig.from_pretrained(tiny_bases["bert"], num_labels=2)
    before = BertForSequenceClassification(config)
    before.save_pretrained(tmp_path)
    after: Any = load_classifier(find_base(str(tmp_path)), LABELS)
    assert after.classifier.weight.shape == (3, 32)
    layer = "bert.encoder.layer.1.output.dense.weight"
    assert torch.equal(after.get_parameter(layer), before.get_parameter(layer))
