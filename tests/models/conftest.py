"""Batches of the toy task, and one small recipe of each kind of network, built and trained for a few steps."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploycost.dataset import Dataset

LABELS = ("World", "Sports", "Business")
LORA = {"rank": 4}
# Ranks are set anew at steps 1 and 2 and kept from then on.
RANKS = {
    "initial_rank": 4, "target_rank": 2, "total_steps": 4, "warm_up_steps": 0, "settling_steps": 2, "interval_steps": 1,
}  # fmt: skip
RECIPES: dict[str, dict[str, Any]] = {
    "full": {"whole_body": True},
    "lora": {"lora": LORA},
    "lora-targets": {"lora": {"rank": 4, "targets": ("all-of-them",)}},
    "qlora": {"lora": LORA, "bits": 4},
    "qlora-8": {"lora": LORA, "bits": 8},
    "prompt": {"prompt": {"virtual_tokens": 4}},
    "prompt-layers": {"prompt": {"virtual_tokens": 4, "layers": "2"}},
    "prefix": {"prompt": {"virtual_tokens": 4, "layers": "all"}, "prefix": {"bottleneck_width": 8}},
    "houlsby": {"adapter": {"placement": "houlsby", "reduction_factor": 4}},
    "pfeiffer": {"adapter": {"placement": "pfeiffer", "reduction_factor": 4}},
    "dynamic": {"lora": LORA, "ranks": RANKS},
    "dynamic-4": {"lora": LORA, "ranks": RANKS, "bits": 4},
    "dynamic-8": {"lora": LORA, "ranks": RANKS, "bits": 8},
    "stacked": {"lora": LORA, "bits": 4, "prompt": {"virtual_tokens": 4}},
    "stacked-layers": {"lora": LORA, "bits": 4, "prompt": {"virtual_tokens": 4, "layers": "all"}},
    "stacked-layers-8": {"lora": LORA, "bits": 8, "prompt": {"virtual_tokens": 4, "layers": "1"}},
}
ALL_MATRICES = {
    "bert": ("query", "key", "value", "dense"),
    "distilbert": ("q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"),
    "roberta": ("query", "key", "value", "dense"),
}


@dataclass(frozen=True)
class Trained:
    """A network after four steps, the folder it was saved in, and its logits on the toy test split."""

    classifier: Any
    recipe: Any
    folder: Path
    logits: Any


@pytest.fixture(scope="session")
def recipe_of(tiny_bases: dict[str, Path]) -> Callable[..., Any]:
    """The recipe of a kind on a family, `recipe_of("bert", "stacked")`; keyword arguments are `Recipe`'s own."""
    from deploycost.models.recipe import Recipe

    def make(family: str, kind: str, **changes: Any) -> Any:
        fields = RECIPES[kind] | changes
        if kind == "lora-targets" and "lora" not in changes:
            fields["lora"] = {"rank": 4, "targets": ALL_MATRICES[family]}
        return Recipe.model_validate({"base_model": str(tiny_bases[family]), "label_names": LABELS} | fields)

    return make


@pytest.fixture(scope="session")
def built(recipe_of: Callable[..., Any]) -> Callable[..., Any]:
    """A fresh classifier of a kind: `built("bert", "stacked")`; its dropout is off where `dropout` says so."""
    import torch

    from deploycost.models.base import find_base
    from deploycost.models.classifier import build

    def make(family: str, kind: str, *, dropout: bool = True, **changes: Any) -> Any:
        torch.manual_seed(0)
        recipe = recipe_of(family, kind, **changes)
        classifier = build(find_base(recipe.base_model), recipe)
        if not dropout:
            for module in classifier.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
        return classifier

    return make


@pytest.fixture(scope="session")
def train(batch: Callable[[str], Any]) -> Callable[..., None]:
    """Trains a classifier on one batch for four steps, ranks allocated along the way where they are to be."""
    import torch
    from peft.tuners.adalora import AdaLoraModel

    def steps(classifier: Any, family: str) -> None:
        trained = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
        optimiser = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.0)
        tuner = getattr(classifier.model, "base_model", None)
        classifier.train()
        for step in range(1, 5):
            optimiser.zero_grad()
            classifier(*batch(family)).loss.backward()
            optimiser.step()
            if isinstance(tuner, AdaLoraModel):
                tuner.update_and_allocate(step)
        classifier.eval()

    return steps


@pytest.fixture(scope="session")
def trained(
    built: Callable[..., Any],
    recipe_of: Callable[..., Any],
    train: Callable[..., None],
    encoded: Callable[[str], Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, str], Trained]:
    """A network trained for four steps and saved, once a session: `trained("bert", "stacked")`."""
    from deploycost.models.adapter_folder import save
    from deploycost.models.encoding import logits_of

    done: dict[tuple[str, str], Trained] = {}

    def get(family: str, kind: str) -> Trained:
        if (family, kind) not in done:
            classifier, recipe = built(family, kind), recipe_of(family, kind)
            train(classifier, family)
            folder = tmp_path_factory.mktemp(f"{family}-{kind}")
            save(classifier, recipe, folder)
            done[family, kind] = Trained(classifier, recipe, folder, logits_of(classifier, encoded(family)))
        return done[family, kind]

    return get


@pytest.fixture(scope="session")
def encoded(tiny_bases: dict[str, Path], toy_dataset: Dataset) -> Callable[[str], Any]:
    """The toy test split as a family's token ids."""
    from deploycost.models.base import find_base, load_tokenizer
    from deploycost.models.encoding import encode

    def make(family: str) -> Any:
        tokenizer = load_tokenizer(find_base(str(tiny_bases[family])))
        return encode(tokenizer, toy_dataset.test.texts, toy_dataset.test.labels, max_tokens=48)

    return make


@pytest.fixture(scope="session")
def batch(encoded: Callable[[str], Any]) -> Callable[[str], tuple[Any, Any, Any]]:
    """Ids [8, tokens], mask and labels of eight toy texts of mixed lengths."""
    import torch

    from deploycost.models.encoding import EncodedTexts, batches_by_length

    def make(family: str) -> tuple[Any, Any, Any]:
        texts = encoded(family)
        eight = EncodedTexts(texts.input_ids[:8], texts.labels[:8], texts.pad_token_id)
        ((rows, ids, mask),) = batches_by_length(eight, 8)
        return ids, mask, torch.tensor([eight.labels[row] for row in rows])

    return make
