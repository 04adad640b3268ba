import re
from collections.abc import Callable

import pytest

from deploycost.errors import UserError
from deploycost.projecting.evidence import with_records
from deploycost.records import LoadRecord, Variant


def test_records_join_their_variants(
    make_variant: Callable[..., Variant], make_load: Callable[..., LoadRecord]
) -> None:
    variants = [make_variant("full.onnx-int8"), make_variant("lora.onnx-int8")]
    first, second = (make_load(rate, variant="lora.onnx-int8") for rate in (10.0, 20.0))
    full, lora = with_records(variants, [first, second])
    assert full == variants[0]
    assert lora.elsewhere == (first, second)
    assert lora.load == variants[1].load


def test_a_record_of_another_bundle_is_refused(
    make_variant: Callable[..., Variant], make_load: Callable[..., LoadRecord]
) -> None:
    with pytest.raises(UserError, match=r"measured another bundle \(eeeeeeeeeeee, here dddddddddddd\)"):
        with_records([make_variant()], [make_load(bundle_digest="e" * 64)])


def test_a_record_of_an_unknown_variant_is_refused(
    make_variant: Callable[..., Variant], make_load: Callable[..., LoadRecord]
) -> None:
    expected = "unknown variant of a load record 'full.onnx-int9' (did you mean 'full.onnx-int8'?)"
    with pytest.raises(UserError, match=re.escape(expected)):
        with_records([make_variant()], [make_load(variant="full.onnx-int9")])
