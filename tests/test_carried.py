from collections.abc import Callable

import numpy as np

from deploycost.carried import NO_LOAD, Carried
from deploycost.records import Figure, LoadRecord
from deploycost.verdicts import Capacity


def test_nothing_is_known_until_it_is_put_in(make_load: Callable[..., LoadRecord]) -> None:
    load = make_load()
    carried = Carried.unknown(2, 3, [load])
    carried.put_capacity(0, 1, Capacity(capacity_rps=Figure(value=8.0), reason="", load=load, server_copies=2))
    p95_ms = Figure(value=4.0, basis="projected")
    carried.put_capacity(1, 2, Capacity(capacity_rps=Figure(value=9.0, basis="projected"), reason="", p95_ms=p95_ms))
    np.testing.assert_equal(carried.rps, [[np.nan, 8, np.nan], [np.nan, np.nan, 9]])
    np.testing.assert_equal(carried.p95_ms, [[np.nan] * 3, [np.nan, np.nan, 4]])
    assert carried.load_of.tolist() == [[NO_LOAD, 0, NO_LOAD], [NO_LOAD] * 3]
    assert carried.server_copies.tolist() == [[0, 2, 0], [0, 0, 0]]
    assert carried.is_own.tolist() == [[False, True, False], [False] * 3]


def test_a_load_test_is_kept_once(make_load: Callable[..., LoadRecord]) -> None:
    one, like_it = make_load(), make_load()
    carried = Carried.unknown(1, 3)
    for column, load in enumerate((one, like_it, one)):
        carried.put(0, column, 1.0, None, load, 1)
    assert carried.load_of.tolist() == [[0, 1, 0]]
    assert carried.loads[0] is one


def test_some_of_the_columns_are_filled_at_once(make_load: Callable[..., LoadRecord]) -> None:
    loads = [make_load()]
    some = Carried.unknown(1, 2, loads)
    some.put(0, 0, 5.0, None, loads[0], 1)
    some.put(0, 1, 6.0, None, None, None)
    carried = Carried.unknown(1, 3, loads)
    carried.put_columns([2, 0], some)
    np.testing.assert_equal(carried.rps, [[6, np.nan, 5]])
    assert carried.load_of.tolist() == [[NO_LOAD, NO_LOAD, 0]]
