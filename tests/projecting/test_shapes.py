import json
from pathlib import Path

import pytest

from deploycost.errors import UserError
from deploycost.projecting.shapes import find_shape, named_shape


@pytest.mark.parametrize(
    ("name", "layers", "hidden", "ffn_width"),
    [
        ("bert-base", 12, 768, 3072),
        ("BERT-large-uncased", 24, 1024, 4096),
        ("google-bert/bert-base-uncased", 12, 768, 3072),
        ("DistilBERT-base-uncased-sst2", 6, 768, 3072),
        ("RoBERTa-large", 24, 1024, 4096),
        ("MiniLM-L6-H384", 6, 384, 1536),
        ("sentence-transformers/all-MiniLM-L12-v2", 12, 384, 1536),
        ("minilm", 6, 384, 1536),
        ("BERT-6L-768D (distilled, DistilBERT-shaped)", 6, 768, 3072),
        ("BERT-4L-312D (distilled)", 4, 312, 1200),
        ("6L-768D", 6, 768, 3072),
        ("bert_uncased_L-4_H-512_A-8", 4, 512, 2048),
        ("cross-encoder/ms-marco-MiniLM-L-12-v2", 12, 384, 1536),
        ("paraphrase-MiniLM-L3-v2", 3, 384, 1536),
        ("cross-encoder/ms-marco-TinyBERT-L-2-v2", 2, 128, 512),
        ("nlpaueb/legal-bert-small-uncased", 6, 512, 2048),
        ("nlpaueb/legal-bert-base-uncased", 12, 768, 3072),
        ("intfloat/multilingual-e5-small", 12, 384, 1536),
        ("BERT-base (12 layers)", 12, 768, 3072),
        ("6L-768", 6, 768, 3072),
        ("L6H384", 6, 384, 1536),
        ("6 layers, 768 hidden", 6, 768, 3072),
    ],
)
def test_names_and_sizes(name: str, layers: int, hidden: int, ffn_width: int) -> None:
    shape = find_shape(name)
    assert (shape.layers, shape.hidden, shape.ffn_width) == (layers, hidden, ffn_width)


def test_a_name_means_a_folder_only_where_folders_are_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shape = named_shape("bert-base")
    (tmp_path / "bert-base").mkdir()
    assert named_shape("bert-base") == shape
    with pytest.raises(UserError, match=r"config\.json"):
        find_shape("bert-base")


def test_an_unknown_model_is_told_with_its_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown model 'brt-base'.*did you mean .*bert-base.*6L-768D"):
        find_shape("brt-base")


@pytest.mark.parametrize(
    "name",
    [
        "bert-base-6-layers",
        "ernie-2.0-large-en",
        "distilbert-tiny",
        "some-bert-small",  # not Google's, and of measures that nobody told
        "deepset/minilm-uncased-squad2",  # of twelve layers, which its name does not say
    ],
)
def test_a_known_start_is_no_answer_where_the_size_is_another(name: str) -> None:
    with pytest.raises(UserError, match="6L-768D"):
        find_shape(name)


@pytest.mark.parametrize("name", ["~nobody-of-this-name/brt", "brt" * 1000])
def test_what_can_be_no_file_is_an_unknown_name(name: str) -> None:
    with pytest.raises(UserError, match=f"unknown model '{name}'"):
        find_shape(name)


@pytest.mark.parametrize("name", ["", " "])
def test_no_name_is_no_folder(name: str, tiny_bases: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_bases["bert"])
    with pytest.raises(UserError, match="no model is named"):
        find_shape(name)


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
def test_a_config_of_any_family(tiny_bases: dict[str, Path], family: str) -> None:
    shape = find_shape(str(tiny_bases[family]))
    assert (shape.layers, shape.hidden, shape.heads, shape.ffn_width, shape.vocabulary) == (2, 32, 4, 64, 320)
    assert find_shape(str(tiny_bases[family] / "config.json")) == shape


def test_a_config_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for content, told in (
        ("{", "cannot read the model's"),
        ("[]", "names no model_type"),
        (json.dumps({"model_type": "brt"}), r"model_type 'brt' \(did you mean 'bert'\?\) is no encoder"),
        (json.dumps({"model_type": "llama", "hidden_size": 64}), "model_type 'llama' is no encoder"),
        (json.dumps({"model_type": "bert", "is_decoder": True}), "a decoder is not projected"),
        (json.dumps({"model_type": "bert", "hidden_size": -1}), "lacks a whole positive number for hidden_size"),
        (json.dumps({"model_type": "bert", "hidden_size": 10**200}), "lacks a whole positive number for hidden_size"),
    ):
        path.write_text(content)
        with pytest.raises(UserError, match=told):
            find_shape(str(path))


def test_a_gated_block_has_three_matrices_of_its_width(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    measures = {"hidden_size": 768, "num_hidden_layers": 22, "num_attention_heads": 12, "intermediate_size": 1152}
    path.write_text(json.dumps({"model_type": "modernbert", "vocab_size": 50368, **measures}))
    named = find_shape("answerdotai/ModernBERT-base")
    assert find_shape(str(path)).layer_parameters == named.layer_parameters == 4 * 768**2 + 3 * 768 * 1152
