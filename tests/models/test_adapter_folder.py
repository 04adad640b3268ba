"""What was trained comes back: saved, reloaded, merged, written as a graph."""
# ruff: noqa: TID253 - these test what is made of the framework

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper

from deploycost.errors import UserError
from deploycost.exporting.graph import write_onnx
from deploycost.models.adapter_folder import load, load_merged, read_recipe, save
from deploycost.models.base import BaseModel, find_base, load_classifier
from deploycost.models.classifier import TunedClassifier, build
from deploycost.models.encoding import batches_by_length, logits_of
from deploycost.models.scoring import compare

FAMILIES = ("bert", "distilbert", "roberta")
KINDS = (
    "full", "lora", "lora-targets", "qlora", "qlora-8", "prompt", "prompt-layers", "prefix", "houlsby", "pfeiffer",
    "dynamic", "dynamic-4", "dynamic-8", "stacked", "stacked-layers", "stacked-layers-8",
)  # fmt: skip


def _error(reference: Any, other: Any) -> float:
    return compare(reference, other, relative_error_limit=1, agreement_limit=0).relative_error


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_reload_gives_the_same_logits(
    trained: Callable[..., Any], encoded: Callable[[str], Any], family: str, kind: str
) -> None:
    done = trained(family, kind)
    assert _error(done.logits, logits_of(load(done.folder), encoded(family))) < 1e-6
    assert read_recipe(done.folder) == done.recipe


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_merging_leaves_one_plain_network_with_the_same_answers(
    trained: Callable[..., Any], encoded: Callable[[str], Any], family: str, kind: str
) -> None:
    done = trained(family, kind)
    merged = load_merged(done.folder)
    strange = BaseTunerLayer | Linear4bit | Linear8bitLt | ModulesToSaveWrapper | PeftModel
    assert not any(isinstance(module, strange) for module in merged.modules())
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.float32}
    assert not any(parameter.requires_grad for parameter in merged.parameters())
    assert not merged.training
    assert _error(done.logits, logits_of(merged, encoded(family))) < 1e-5


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        # What is folded in or stands in the input is written as plain networks are (see the tests of exporting).
        *((family, kind) for family in FAMILIES for kind in ("houlsby", "stacked-layers")),
        ("bert", "dynamic-8"),
    ],
)
def test_the_graph_agrees_with_the_trained_model_on_texts(
    trained: Callable[..., Any], encoded: Callable[[str], Any], tmp_path: Path, family: str, kind: str
) -> None:
    done, texts = trained(family, kind), encoded(family)
    write_onnx(load_merged(done.folder), 48, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    for batch_size in (1, 7):
        served = np.empty_like(done.logits)
        for rows, ids, mask in batches_by_length(texts, batch_size):
            (served[rows],) = session.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})
        assert _error(done.logits, served) < 1e-5


@pytest.mark.parametrize("kind", ["stacked", "stacked-layers"])
@pytest.mark.parametrize("family", FAMILIES)
def test_stacked_keeps_both_parts_and_both_matter(
    trained: Callable[..., Any], encoded: Callable[[str], Any], family: str, kind: str
) -> None:
    done = trained(family, kind)
    without_prompt = load(done.folder)
    with torch.no_grad():
        for part in (without_prompt.prompt, without_prompt.attached):
            for parameter in part.parameters() if part is not None else ():
                parameter.zero_()
    # Four steps do not make much of either, but a reload is exact to 1e-6.
    assert _error(done.logits, logits_of(without_prompt, encoded(family))) > 1e-4

    without_low_rank = load(done.folder)
    assert isinstance(without_low_rank.model, PeftModel)
    with without_low_rank.model.disable_adapter():
        assert _error(done.logits, logits_of(without_low_rank, encoded(family))) > 1e-4


@pytest.mark.parametrize("kind", ["qlora", "qlora-8", "dynamic-4"])
@pytest.mark.parametrize("family", FAMILIES)
def test_merging_into_the_original_weights_would_stray_far_more(
    trained: Callable[..., Any], encoded: Callable[[str], Any], family: str, kind: str
) -> None:
    """The reason for dequantising: an adapter fits the rounded weights it was trained on, not the original ones."""
    done = trained(family, kind)
    original = load_classifier(find_base(done.recipe.base_model), done.recipe.label_names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opened: Any = PeftModel.from_pretrained(original, str(done.folder))
    wrong = TunedClassifier(opened.merge_and_unload()).eval()
    right_error = _error(done.logits, logits_of(load_merged(done.folder), encoded(family)))
    wrong_error = _error(done.logits, logits_of(wrong, encoded(family)))
    assert right_error < 1e-5
    assert wrong_error > (3e-3 if done.recipe.bits == 4 else 3e-5)


def test_only_the_ranks_that_were_kept_are_saved(trained: Callable[..., Any]) -> None:
    from safetensors.numpy import load_file

    done = trained("bert", "dynamic")
    kept = [
        weight.shape[0]
        for name, weight in load_file(done.folder / "adapter_model.safetensors").items()
        if "lora_A" in name
    ]
    # Four matrices of a mean final rank of two, from four each.
    assert len(kept) == 4
    assert sum(kept) == 4 * 2


def test_a_prefix_is_kept_without_its_network(trained: Callable[..., Any]) -> None:
    from safetensors.numpy import load_file

    done = trained("bert", "prefix")
    weights = load_file(done.folder / "adapter_model.safetensors")
    parts = {name: weight.shape for name, weight in weights.items() if ".part." in name}
    assert parts == {f"base_model.part.{name}.{layer}": (4, 32) for name in ("keys", "values") for layer in (0, 1)}


def test_an_adapter_folder_names_no_place_on_this_machine(
    tiny_bases: dict[str, Path], recipe_of: Callable[..., Any], tmp_path: Path
) -> None:
    place = str(tiny_bases["bert"])
    recipe = recipe_of("bert", "stacked").model_copy(update={"base_model": "minilm"})
    base = BaseModel("minilm", place, "bert", 64)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        save(build(base, recipe), recipe, tmp_path)
    # PEFT warns where it cannot find the base model on the hub, which it has no reason to ask.
    assert [str(warning.message) for warning in said if "peft" in warning.filename] == []
    assert {p.name for p in tmp_path.iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "prompt.safetensors", "recipe.json",
    }  # fmt: skip
    for path in tmp_path.glob("*.json"):
        assert str(place) not in path.read_text(encoding="utf-8"), path
    config = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == "minilm"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("full", "prompt")])
def test_peft_finds_nothing_to_warn_of_on_the_way_back(trained: Callable[..., Any], kind: str) -> None:
    folder = trained("bert", kind).folder
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        load(folder)
        load_merged(folder)
    assert [str(warning.message) for warning in said if "peft" in warning.filename] == []


@pytest.mark.parametrize("damage", ["cut", "gone"])
@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("full", "weights.safetensors"),
        ("stacked", "adapter_model.safetensors"),
        ("stacked", "adapter_config.json"),
        ("stacked", "prompt.safetensors"),
        ("stacked", "recipe.json"),
        ("stacked-layers", "prompt.safetensors"),
        ("prefix", "adapter_model.safetensors"),
    ],
)
def test_a_damaged_adapter_folder_is_one_line(
    built: Callable[..., Any], recipe_of: Callable[..., Any], tmp_path: Path, kind: str, file: str, damage: str
) -> None:
    save(built("bert", kind), recipe_of("bert", kind), tmp_path)
    if damage == "cut":
        (tmp_path / file).write_bytes((tmp_path / file).read_bytes()[:100])
    else:
        (tmp_path / file).unlink()
    with pytest.raises(UserError, match="is not a whole adapter folder") as refusal:
        load(tmp_path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("kind", "file", "part"),
    [
        ("houlsby", "adapter_model", "attention.1.up.weight"),
        ("houlsby", "adapter_model", "classifier.weight"),
        ("lora", "adapter_model", "layer.1.attention.self.value.lora_B.weight"),
        ("lora", "adapter_model", "classifier.bias"),
        ("dynamic", "adapter_model", "layer.0.attention.self.query.lora_E"),
        ("stacked-layers", "prompt", "keys.1"),
        ("stacked", "prompt", "vectors"),
        ("full", "weights", "encoder.layer.1.output.dense.weight"),
        ("prompt", "weights", "classifier.weight"),
    ],
)
def test_weights_that_are_missing_are_not_let_pass(
    trained: Callable[..., Any], tmp_path: Path, kind: str, file: str, part: str
) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    done = trained("bert", kind)
    shutil.copytree(done.folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / f"{file}.safetensors"
    weights = load_file(path)
    kept = {name: weight for name, weight in weights.items() if part not in name}
    assert len(kept) == len(weights) - 1
    save_file(kept, path)
    with pytest.raises(UserError, match=r"weights are missing: .*" + part.replace(".", r"\.")) as refusal:
        load(tmp_path)
    assert "\n" not in str(refusal.value)
    with pytest.raises(UserError, match="weights are missing"):
        load_merged(tmp_path)


def test_weights_of_another_architecture_are_refused(
    built: Callable[..., Any], recipe_of: Callable[..., Any], tmp_path: Path
) -> None:
    save(built("bert", "full"), recipe_of("distilbert", "full"), tmp_path)
    with pytest.raises(UserError, match=r"does not fit its base model: unexpected weights bert\.") as refusal:
        load(tmp_path)
    assert "\n" not in str(refusal.value)
