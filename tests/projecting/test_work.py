from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploycost.projecting.shapes import Shape, find_shape
from deploycost.projecting.work import work_of

TINY = Shape(layers=2, hidden=32, heads=4, ffn_width=64, vocabulary=320, labels=2)


def test_by_hand() -> None:
    work = work_of(TINY, batch=3, tokens=10, precision="fp32")
    # a layer: 4 x 32 x 32 + 2 x 32 x 64 weights; the head: 32 x 32 + 32 x 2 once a text
    assert work.matmul_flops == 2 * 30 * 2 * 8192 + 2 * 3 * 1088
    # two products of 10 x 32 by 32 x 10 a text and layer
    assert work.attention_flops == 3 * 2 * 2 * (2 * 10 * 10 * 32)
    assert work.weight_bytes == 4 * (2 * 8192 + 1088)
    assert work_of(TINY, 3, 10, "int8").weight_bytes == work.weight_bytes / 4


@pytest.mark.parametrize(("batch", "tokens"), [(1, 8), (3, 16)])
def test_a_counted_forward_pass(tiny_bases: dict[str, Path], batch: int, tokens: int) -> None:
    """A real BERT under torch's counter, whose pooler is the square map of the head."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoModelForSequenceClassification

    # The counter knows the products of plain attention only.
    model = AutoModelForSequenceClassification.from_pretrained(
        tiny_bases["bert"], num_labels=2, attn_implementation="eager"
    ).eval()
    ids = torch.full((batch, tokens), 7)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
    counted = work_of(find_shape(str(tiny_bases["bert"])), batch, tokens, "fp32").counted_flops
    assert counter.get_total_flops() == counted


def test_what_methods_add_is_counted() -> None:
    plain = work_of(TINY, 1, 10, "fp32")
    prompted = work_of(replace(TINY, virtual_tokens=5), 1, 10, "fp32")
    assert prompted.counted_flops == work_of(TINY, 1, 15, "fp32").counted_flops
    keyed = work_of(replace(TINY, virtual_keys=5, keyed_layers=1), 1, 10, "fp32")
    # five keys more for ten queries in one layer: two products of 10 x 32 by 32 x 5
    assert keyed.attention_flops - plain.attention_flops == 2 * (2 * 10 * 5 * 32)
    assert keyed.matmul_flops == plain.matmul_flops
    adapted = work_of(replace(TINY, adapters=1, adapter_width=4), 1, 10, "fp32")
    assert adapted.matmul_flops - plain.matmul_flops == 2 * 10 * 2 * (2 * 32 * 4)


@given(batch=st.integers(1, 64), tokens=st.integers(1, 512))
def test_more_is_never_less_work(batch: int, tokens: int) -> None:
    work, longer = work_of(TINY, batch, tokens, "fp16"), work_of(TINY, batch, tokens + 1, "fp16")
    assert work.counted_flops == pytest.approx(batch * work_of(TINY, 1, tokens, "fp16").counted_flops)
    assert longer.counted_flops > work.counted_flops
    assert longer.total_bytes > work.total_bytes
    assert longer.weight_bytes == work.weight_bytes
