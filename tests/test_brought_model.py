"""What a brought model's files say before any framework reads them, and every way in which they can be no model."""

import json
from pathlib import Path
from typing import Any

import pytest

from deploycost.brought_model import find_brought, label_names_of, task_of
from deploycost.errors import UserError
from deploycost.experiment import BroughtSpec, make_experiment

CONFIG = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "no", "1": "yes"}}


def folder(path: Path, config: dict[str, Any] | None = None, *names: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    if config is not None:
        (path / "config.json").write_text(json.dumps(config))
    for name in names:
        (path / name).write_bytes(name.encode())
    return path


def find(source: Path | str, **fields: Any) -> Any:
    return find_brought(BroughtSpec(source=str(source), **fields))


def refusal(source: Path | str, **fields: Any) -> str:
    with pytest.raises(UserError) as told:
        find(source, **fields)
    assert "\n" not in str(told.value)
    return str(told.value)


def test_a_folder_of_a_classifier(tmp_path: Path) -> None:
    found = find(folder(tmp_path, CONFIG, "model.safetensors", "tokenizer.json"))
    assert (found.kind, found.task, found.tokenizer_place) == ("classifier", "single-label", tmp_path)
    assert label_names_of(found.config) == ("no", "yes")


@pytest.mark.parametrize("changed", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
def test_the_digest_is_of_every_file_that_is_read(tmp_path: Path, changed: str) -> None:
    folder(tmp_path, CONFIG, "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md")
    before = find(tmp_path).digest
    (tmp_path / "README.md").write_text("other words")
    assert find(tmp_path).digest == before
    path = tmp_path / changed
    path.write_text(path.read_text() + " ")
    assert find(tmp_path).digest != before


def test_a_graph_its_weights_and_its_tokenizer(tmp_path: Path) -> None:
    graph = folder(tmp_path, CONFIG, "model.onnx", "model.onnx.data", "tokenizer.json") / "model.onnx"
    assert find(graph) == find(tmp_path).__class__(**{**vars(find(tmp_path)), "spec": BroughtSpec(source=str(graph))})
    before = find(graph)
    assert (before.kind, before.folder) == ("onnx", tmp_path)
    (tmp_path / "model.onnx.data").write_bytes(b"other")
    assert find(graph).digest != before.digest
    elsewhere = folder(tmp_path / "elsewhere", None, "tokenizer.json")
    assert find(graph, tokenizer=str(elsewhere / "tokenizer.json")).tokenizer_place == elsewhere / "tokenizer.json"


@pytest.mark.parametrize("source", ["", "onnx", "onnx/model.onnx", "model.onnx"])
def test_a_hub_repository_keeps_its_config_above_its_graph(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"problem_type": "multi_label_classification", "id2label": {"0": "rude", "1": "odd"}}
    folder(tmp_path, config, "tokenizer.json")
    folder(tmp_path / "onnx", None, "model.onnx")
    monkeypatch.chdir(tmp_path / "onnx")
    place = Path(source) if source == "model.onnx" else tmp_path / source
    found = find(place)
    assert (found.task, label_names_of(found.config)) == ("multi-label", ("rude", "odd"))
    assert found.tokenizer_place == tmp_path
    folder(tmp_path, config | {"problem_type": "regression"})
    assert find(place).digest != found.digest
    folder(tmp_path / "onnx", CONFIG)
    assert label_names_of(find(place).config) == ("no", "yes")


def test_an_adapter_and_its_base(tmp_path: Path) -> None:
    base = folder(tmp_path / "base", {"model_type": "bert"}, "model.safetensors", "tokenizer.json")
    adapter = folder(tmp_path / "adapter", None, "adapter_model.safetensors")
    config = {"peft_type": "LORA", "task_type": "SEQ_CLS", "base_model_name_or_path": str(base)}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    found = find(adapter)
    assert (found.kind, found.tokenizer_place) == ("adapter", base)
    (base / "model.safetensors").write_bytes(b"other weights")
    assert find(adapter).digest != found.digest
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "./gone"}))
    assert "the adapter" in (told := refusal(adapter))
    assert "give yours with --model" in told
    assert find(adapter, base=str(base)).base.place == str(base)
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"task_type": "CAUSAL_LM"}))
    assert "is for CAUSAL_LM; expected" in refusal(adapter)
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"megatron_config": {"x": 1}}))
    assert "modules of its own" in refusal(adapter)


@pytest.mark.parametrize(
    ("config", "names", "fields", "problem"),
    [
        (CONFIG, ("pytorch_model.bin", "tokenizer.json"), {}, "pickled weights (pytorch_model.bin), which can"),
        (CONFIG, ("tokenizer.json",), {}, "holds no weights: expected *.safetensors"),
        (CONFIG, ("model.safetensors",), {}, "has no tokenizer beside it: expected tokenizer.json"),
        (None, ("tokenizer.json",), {}, "holds no model: expected config.json with *.safetensors"),
        ({"architectures": ["BertModel"]}, ("model.safetensors",), {}, "is a BertModel, not a trained sequence"),
        ({"architectures": ["GPT2LMHeadModel"]}, ("model.safetensors",), {}, "is a GPT2LMHeadModel, not a trained"),
        (CONFIG | {"auto_map": {"AutoModel": "x.Y"}}, ("model.safetensors",), {}, "code of its own (auto_map"),
        (None, ("a.onnx", "b.onnx"), {}, "holds 2 ONNX files (a.onnx, b.onnx); name one"),
        (CONFIG, ("model.safetensors", "tokenizer.json"), {"base": "minilm"}, "--model tells what an adapter sits on"),
        (CONFIG, ("model.safetensors", "tokenizer.json"), {"bits": 4}, "--bits tells what an adapter sits on"),
        (CONFIG, ("model.safetensors",), {"tokenizer": "nowhere"}, "--tokenizer nowhere: expected a tokenizer.json"),
        (CONFIG, ("model.safetensors",), {"tokenizer": "~nobody.at.all/x"}, "--tokenizer ~nobody.at.all/x: expected"),
        (CONFIG | {"id2label": {"1": "no", "2": "yes"}}, ("model.safetensors",), {}, "numbers its labels 1, 2 ("),
        (CONFIG | {"id2label": ["no", "yes"]}, ("model.onnx",), {}, "numbers its labels ['no', 'yes'] (id2label"),
    ],
)  # fmt: skip
def test_what_is_no_model(
    tmp_path: Path, config: dict[str, Any] | None, names: tuple[str, ...], fields: dict[str, Any], problem: str
) -> None:
    assert problem in refusal(folder(tmp_path, config, *names), **fields)


def test_pickles_other_files_and_missing_ones(tmp_path: Path, offline: None) -> None:
    for name in ("model.pt", "model.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert "pickled weights (model.pt)" in refusal(tmp_path / "model.pt")
    assert "expected an .onnx file" in refusal(tmp_path / "model.txt")
    assert "did you mean 'model.txt'?" in refusal(tmp_path / "modle.txt")
    assert "HF_HUB_OFFLINE is set" in refusal("nobody/nothing")
    assert "no such model to bring: ~nobody.at.all/x" in refusal("~nobody.at.all/x")


def test_an_index_that_names_weights_elsewhere_is_not_followed(tmp_path: Path) -> None:
    folder(tmp_path, CONFIG, "model.safetensors", "tokenizer.json")
    index = {"weight_map": {"a": "../../other.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "outside its folder (../../other.safetensors)" in refusal(tmp_path)


def test_what_a_config_says_of_the_task() -> None:
    assert task_of({"problem_type": "multi_label_classification", "id2label": {"0": "a"}}) == "multi-label"
    assert task_of({"id2label": {"0": "LABEL_0"}}) == "regression"
    assert task_of(CONFIG) is None
    assert label_names_of({"id2label": {"0": "a", "2": "b"}}) is None


@pytest.mark.parametrize("name", ["../up", "a.b", "full", "lora-r8", "quotes", ""])
def test_a_name_is_a_plain_folder_and_not_one_of_ours(name: str) -> None:
    with pytest.raises(UserError, match=r"brought\.0\.name"):
        make_experiment({"methods": [], "brought": [{"source": "x", "name": name}]})


def test_an_experiment_needs_something_to_make_and_trains_one_task_only() -> None:
    with pytest.raises(UserError, match="expected at least one, or a trained model that is brought"):
        make_experiment({"methods": []})
    with pytest.raises(
        UserError, match="methods train single-label classifiers only; bring a trained regression model"
    ):
        make_experiment({"methods": ["lora"], "dataset": {"task": "regression"}})
    with pytest.raises(UserError, match="one name for two models"):
        make_experiment({"methods": [], "brought": [{"source": "x"}, {"source": "y"}]})
