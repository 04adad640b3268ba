"""Layers by word and by number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploycost.errors import UserError
from deploycost.layer_choice import resolve_layers


@pytest.mark.parametrize(
    ("layers", "count", "meant"),
    [
        ("all", 3, (0, 1, 2)),
        # The literature's 1-2, 3-4, 5-6 of DistilBERT's six.
        ("early", 6, (0, 1)),
        ("middle", 6, (2, 3)),
        ("late", 6, (4, 5)),
        ("early", 4, (0,)),
        ("middle", 4, (1, 2)),
        ("late", 4, (3,)),
        ("late", 2, (1,)),
        ("1-2", 6, (0, 1)),
        ("1,3", 6, (0, 2)),
        ("5-6,1,5", 6, (0, 4, 5)),
    ],
)
def test_layers_are_counted_from_nought(layers: str, count: int, meant: tuple[int, ...]) -> None:
    assert resolve_layers(layers, count) == meant


@given(st.integers(3, 48))
def test_thirds_share_out_all_layers(count: int) -> None:
    thirds = [resolve_layers(name, count) for name in ("early", "middle", "late")]
    assert tuple(layer for third in thirds for layer in third) == tuple(range(count))
    assert len(thirds[0]) == len(thirds[2])
    assert max(map(len, thirds)) - min(map(len, thirds)) <= 1


@pytest.mark.parametrize(
    ("layers", "count", "said"),
    [
        ("7", 6, "'7': 7 is not among the layers 1 to 6"),
        ("1,5-7", 6, "5-7 is not among"),
        ("0-1", 6, "0-1 is not among"),
        ("3-2", 6, "3-2 is not among"),
        ("middle", 2, "2 layers has no middle third"),
    ],
)
def test_layers_that_do_not_exist_are_one_line(layers: str, count: int, said: str) -> None:
    with pytest.raises(UserError, match=said) as refusal:
        resolve_layers(layers, count)
    assert "\n" not in str(refusal.value)
