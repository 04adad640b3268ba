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
        (json.dumps({"model_type": "brt"}), r"unknown model_type 'brt' \(did you mean 'bert'\?\)"),
        (json.dumps({"model_type": "bert", "hidden_size": -1}), "lacks a whole positive number for hidden_size"),
    ):
        path.write_text(content)
        with pytest.raises(UserError, match=told):
            find_shape(str(path))
