"""Deep prompts and bottlenecks through PEFT's own doors: made, saved and loaded with nothing else of this package."""
# ruff: noqa: TID253 - these test what is made of the framework

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftConfig, PeftModel, get_peft_model
from transformers import AutoModelForSequenceClassification

from deploycost.models.peft_methods import BottleneckConfig, DeepPromptConfig, register

FAMILIES = ("bert", "distilbert", "roberta")


def _config(kind: str) -> Any:
    if kind == "bottleneck":
        return BottleneckConfig(task_type="SEQ_CLS", placement="houlsby", reduction_factor=4)
    return DeepPromptConfig(
        task_type="SEQ_CLS", layers=[0, 1], virtual_tokens=4, hidden=8 if kind == "reparametrised" else None
    )


def _base(tiny_bases: dict[str, Path], family: str) -> Any:
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(tiny_bases[family], num_labels=3)


@pytest.mark.parametrize("kind", ["deep prompt", "reparametrised", "bottleneck"])
@pytest.mark.parametrize("family", FAMILIES)
def test_they_save_and_load_like_any_peft_method(
    tiny_bases: dict[str, Path], batch: Callable[[str], Any], tmp_path: Path, family: str, kind: str
) -> None:
    register()
    register()  # a second time changes nothing
    model = get_peft_model(_base(tiny_bases, family), _config(kind))
    ids, mask, labels = batch(family)
    model.train()
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):
        optimiser.zero_grad()
        model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
        optimiser.step()
    model.eval()
    model.save_pretrained(tmp_path)
    told = json.loads((tmp_path / "adapter_config.json").read_text())
    assert told["peft_type"] == ("BOTTLENECK" if kind == "bottleneck" else "DEEP_PROMPT")
    assert type(PeftConfig.from_pretrained(tmp_path)) is type(_config(kind))

    for trainable in (False, True):
        again = PeftModel.from_pretrained(_base(tiny_bases, family), tmp_path, is_trainable=trainable).eval()
        with torch.no_grad():
            expected = model(input_ids=ids, attention_mask=mask).logits
            assert torch.equal(again(input_ids=ids, attention_mask=mask).logits, expected)
            with again.disable_adapter():
                assert not torch.equal(again(input_ids=ids, attention_mask=mask).logits, expected)
        wanted = {name for name, p in again.named_parameters() if ".part." in name}
        assert wanted
        assert {name for name, p in again.named_parameters() if p.requires_grad and ".part." in name} == (
            wanted if trainable else set()
        )
