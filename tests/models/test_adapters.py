"""What each method trains, and that what was trained comes back: saved, reloaded, merged."""
# ruff: noqa: TID253 - these test what is made of the framework

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bitsandbytes.nn.modules import Linear4bit
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer

from deploycost.errors import UserError
from deploycost.models.adapters import (
    Recipe,
    TunedClassifier,
    build,
    load,
    load_merged,
    read_recipe,
    save,
    set_compute_dtype,
)
from deploycost.models.base import BaseModel, find_base, load_classifier
from deploycost.models.encoding import logits_of
from deploycost.models.scoring import compare

FAMILIES = ("bert", "distilbert", "roberta")
METHODS = ("full", "lora", "qlora", "prompt", "stacked")
QUANTISED = ("qlora", "stacked")
# Names under the classifier's root of all that lies above the encoder.
HEADS = {
    "bert": {"bert.pooler.dense", "classifier"},
    "distilbert": {"pre_classifier", "classifier"},
    "roberta": {"classifier.dense", "classifier.out_proj"},
}
# Two layers, query and value, a matrix down and one up.
LOW_RANK_MATRICES = 2 * 2 * 2


def _kind(name: str, family: str) -> str:
    """Which part a parameter belongs to: `prompt`, `low-rank`, `head` or `body`."""
    if name == "prompt.vectors":
        return "prompt"
    if ".lora_A." in name or ".lora_B." in name:
        return "low-rank"
    if ".original_module." in name:
        return "body"
    path = name.removeprefix("model.").removeprefix("base_model.model.").replace(".modules_to_save.default", "")
    return "head" if path.rsplit(".", 1)[0] in HEADS[family] else "body"


def _snapshot(classifier: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in classifier.named_parameters()}


def _two_steps(classifier: TunedClassifier, batch: tuple[Any, Any, Any]) -> None:
    trained = [p for p in classifier.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.0)
    classifier.train()
    # The first moves one matrix of each low-rank pair, and only then does the other have a gradient.
    for _ in range(2):
        optimiser.zero_grad()
        loss = classifier(*batch).loss
        assert loss is not None
        loss.backward()
        optimiser.step()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_all_and_only_what_the_method_trains(
    recipe_of: Callable[..., Any], batch: Callable[[str], Any], family: str, method: str
) -> None:
    torch.manual_seed(0)
    recipe = recipe_of(family, method)
    classifier = build(find_base(recipe.base_model), recipe)
    kinds = {
        "full": {"body", "head"},
        "lora": {"low-rank", "head"},
        "qlora": {"low-rank", "head"},
        "prompt": {"prompt", "head"},
        "stacked": {"prompt", "low-rank", "head"},
    }[method]
    intended = {name for name, _ in classifier.named_parameters() if _kind(name, family) in kinds}
    found = {kind: sum(_kind(name, family) == kind for name in intended) for kind in kinds}
    assert found["head"] == 4
    assert found.get("low-rank", LOW_RANK_MATRICES) == LOW_RANK_MATRICES
    assert found.get("prompt", 1) == 1

    before = _snapshot(classifier)
    _two_steps(classifier, batch(family))

    assert {name for name, p in classifier.named_parameters() if p.grad is not None} == intended
    changed = {name for name, p in classifier.named_parameters() if not torch.equal(p, before[name])}
    assert changed == intended


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_stay_whole_after_the_model_was_judged(
    recipe_of: Callable[..., Any], batch: Callable[[str], Any], encoded: Callable[[str], Any], family: str
) -> None:
    """Judging between epochs must not change how 4-bit layers train (bitsandbytes repacks them on some CPUs)."""
    recipe = recipe_of(family, "stacked", lora={"dropout": 0.0})
    torch.manual_seed(0)
    classifier = build(find_base(recipe.base_model), recipe)

    def gradients() -> dict[str, torch.Tensor]:
        classifier.train().zero_grad()
        torch.manual_seed(1)
        loss = classifier(*batch(family)).loss
        assert loss is not None
        loss.backward()
        return {n: p.grad.clone() for n, p in classifier.named_parameters() if p.grad is not None}

    before = gradients()
    logits_of(classifier, encoded(family))
    after = gradients()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], gradient) for name, gradient in before.items())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_reload_gives_the_same_logits(
    tuned: Callable[..., Any], encoded: Callable[[str], Any], family: str, method: str
) -> None:
    from safetensors.numpy import load_file

    done = tuned(family, method)
    trained = load_file(done.folder / "trained_logits.safetensors")["logits"]
    classifier = load(done.folder)
    set_compute_dtype(classifier, torch.float32)
    assert np.abs(logits_of(classifier, encoded(family)) - trained).max() < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_stacked_keeps_both_parts_and_both_matter(
    tuned: Callable[..., Any], encoded: Callable[[str], Any], family: str
) -> None:
    folder = tuned(family, "stacked").folder
    whole = logits_of(load(folder), encoded(family))

    without_prompt = load(folder)
    assert without_prompt.prompt is not None
    with torch.no_grad():
        without_prompt.prompt.vectors.zero_()
    assert np.abs(logits_of(without_prompt, encoded(family)) - whole).max() > 1e-3

    without_low_rank = load(folder)
    assert isinstance(without_low_rank.model, PeftModel)
    with without_low_rank.model.disable_adapter():
        assert np.abs(logits_of(without_low_rank, encoded(family)) - whole).max() > 1e-3


@pytest.mark.parametrize("method", ["lora", *QUANTISED])
@pytest.mark.parametrize("family", FAMILIES)
def test_merging_leaves_one_plain_network_with_the_same_answers(
    tuned: Callable[..., Any], encoded: Callable[[str], Any], family: str, method: str
) -> None:
    folder = tuned(family, method).folder
    merged = load_merged(folder)
    assert not any(isinstance(module, BaseTunerLayer | Linear4bit) for module in merged.modules())
    assert not isinstance(merged.model, PeftModel)
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.float32}
    assert not any(parameter.requires_grad for parameter in merged.parameters())
    assert not merged.training

    trained = load(folder)
    set_compute_dtype(trained, torch.float32)
    assert _error(logits_of(trained, encoded(family)), logits_of(merged, encoded(family))) < 1e-5


@pytest.mark.parametrize("method", QUANTISED)
@pytest.mark.parametrize("family", FAMILIES)
def test_merging_into_the_original_weights_would_stray_far_more(
    tuned: Callable[..., Any], encoded: Callable[[str], Any], family: str, method: str
) -> None:
    """The reason for dequantising: an adapter trained on nf4 weights fits those, not what they were rounded from."""
    done = tuned(family, method)
    trained = logits_of(load(done.folder), encoded(family))
    right = load_merged(done.folder)
    original = load_classifier(done.base, done.record.label_names)
    wrong = TunedClassifier(
        PeftModel.from_pretrained(original, str(done.folder)).merge_and_unload(),  # pyright: ignore[reportCallIssue]
        right.prompt,
    ).eval()
    # Measured here: 1e-7 to 3e-7 against 0.10 to 0.25.
    right_error = _error(trained, logits_of(right, encoded(family)))
    wrong_error = _error(trained, logits_of(wrong, encoded(family)))
    assert right_error < 1e-5
    assert wrong_error > 0.02


def _error(reference: Any, other: Any) -> float:
    return compare(reference, other, relative_error_limit=1, agreement_limit=0).relative_error


@pytest.mark.parametrize("prompted", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_right_padding_does_not_change_an_answer(
    recipe_of: Callable[..., Any], encoded: Callable[[str], Any], family: str, prompted: bool
) -> None:
    torch.manual_seed(0)
    recipe = recipe_of(family, "prompt" if prompted else "full")
    classifier = build(find_base(recipe.base_model), recipe)
    texts = encoded(family)
    assert len({len(ids) for ids in texts.input_ids}) > 5
    together = logits_of(classifier, texts, batch_size=len(texts))
    alone = logits_of(classifier, texts, batch_size=1)
    # A fresh head says nearly the same of every text, so what counts is the difference between texts.
    assert np.abs(together - alone).max() < 1e-3 * together.std(axis=0).max()


@pytest.mark.parametrize("family", FAMILIES)
def test_virtual_tokens_stand_after_cls_in_what_the_encoder_is_given(
    recipe_of: Callable[..., Any], batch: Callable[[str], Any], family: str
) -> None:
    torch.manual_seed(0)
    recipe = recipe_of(family, "prompt")
    classifier = build(find_base(recipe.base_model), recipe).eval()
    assert classifier.prompt is not None
    body: Any = getattr(classifier.model, family)
    seen: dict[str, Any] = {}
    body.register_forward_pre_hook(lambda _, __, given: seen.update(given), with_kwargs=True)
    positioned = []
    body.embeddings.register_forward_hook(lambda _, __, output: positioned.append(output))
    ids, mask, _ = batch(family)
    with torch.no_grad():
        words = body.get_input_embeddings()(ids)
        body(input_ids=ids, attention_mask=mask)
        classifier(ids, mask)

    given = seen["inputs_embeds"]
    assert torch.equal(given[:, 0], words[:, 0])
    assert torch.equal(given[:, 1:5], classifier.prompt.vectors.expand(len(ids), 4, -1))
    assert torch.equal(given[:, 5:], words[:, 1:])
    assert seen["attention_mask"].sum(dim=1).tolist() == [length + 4 for length in mask.sum(dim=1).tolist()]
    # With its position added, too, [CLS] is what it is without virtual tokens; the head reads it there.
    plain, prompted = positioned
    torch.testing.assert_close(prompted[:, 0], plain[:, 0], atol=1e-6, rtol=0)


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
        assert "/" not in path.read_text(encoding="utf-8"), path
    config = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == "minilm"


@pytest.mark.parametrize("method", ["lora", *QUANTISED])
def test_peft_finds_nothing_to_warn_of_on_the_way_back(tuned: Callable[..., Any], method: str) -> None:
    folder = tuned("bert", method).folder
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        load(folder)
        load_merged(folder)
    assert [str(warning.message) for warning in said if "peft" in warning.filename] == []


def test_a_recipe_comes_back_whole(recipe_of: Callable[..., Any], tmp_path: Path) -> None:
    recipe = recipe_of("bert", "stacked", lora={"rank": 3})
    save(build(find_base(recipe.base_model), recipe), recipe, tmp_path)
    assert read_recipe(tmp_path) == recipe
    assert recipe == Recipe(
        base_model=recipe.base_model,
        label_names=("World", "Sports", "Business"),
        quantised=True,
        lora={"rank": 3},  # pyright: ignore[reportArgumentType]
        virtual_tokens=4,
    )


def test_text_tokens_leave_room_for_the_virtual_ones(recipe_of: Callable[..., Any]) -> None:
    recipe = recipe_of("bert", "prompt", virtual_tokens=20)
    base = find_base(recipe.base_model)
    assert base.max_positions == 64
    assert recipe.text_tokens(base, 30) == 30
    assert recipe.text_tokens(base, 128) == 44
    assert recipe_of("bert", "full").text_tokens(base, 128) == 64


@pytest.mark.parametrize(
    ("method", "training", "said"),
    [
        ("lora", {"lora": {"rank": 33}}, "rank 33 is above the layer width 32"),
        ("stacked", {"virtual_tokens": 57}, "57 virtual tokens leave no room .* at most 56"),
    ],
)
def test_a_recipe_that_does_not_fit_the_base_is_refused(
    recipe_of: Callable[..., Any], method: str, training: dict[str, Any], said: str
) -> None:
    recipe = recipe_of("bert", method, **training)
    with pytest.raises(UserError, match=said) as refusal:
        build(find_base(recipe.base_model), recipe)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("damage", ["cut", "gone"])
@pytest.mark.parametrize(
    ("method", "file"),
    [
        ("full", "weights.safetensors"),
        ("stacked", "adapter_model.safetensors"),
        ("stacked", "adapter_config.json"),
        ("stacked", "prompt.safetensors"),
        ("stacked", "recipe.json"),
    ],
)
def test_a_damaged_adapter_folder_is_one_line(
    recipe_of: Callable[..., Any], tmp_path: Path, method: str, file: str, damage: str
) -> None:
    recipe = recipe_of("bert", method)
    save(build(find_base(recipe.base_model), recipe), recipe, tmp_path)
    if damage == "cut":
        (tmp_path / file).write_bytes((tmp_path / file).read_bytes()[:100])
    else:
        (tmp_path / file).unlink()
    with pytest.raises(UserError, match="is not a whole adapter folder") as refusal:
        load(tmp_path)
    assert "\n" not in str(refusal.value)


def test_weights_of_another_architecture_are_refused(recipe_of: Callable[..., Any], tmp_path: Path) -> None:
    recipe = recipe_of("bert", "full")
    save(build(find_base(recipe.base_model), recipe), recipe_of("distilbert", "full"), tmp_path)
    with pytest.raises(UserError, match=r"does not fit its base model: unexpected weights bert\.") as refusal:
        load(tmp_path)
    assert "\n" not in str(refusal.value)
