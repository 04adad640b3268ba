"""What many variants carry on many machines, in arrays: only what ranks them, so that no reason is written in vain."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deploycost.records import LoadRecord
from deploycost.verdicts import Capacity

NO_LOAD = -1


class Carried(NamedTuple):
    """Capacities of variants (rows) on machines (columns), one array for each thing that ranks them.

    `rps` are requests per second, NaN where unknown. `load_of` is the place among `loads` of the measurement that a
    capacity rests on, `NO_LOAD` where there is none, and `server_copies` how many of the measured servers share the
    machine, 0 where nothing is known. `p95_ms` is as of a capacity, NaN where it has none, `is_own` whether the
    measurement was made on this very machine.
    """

    loads: list[LoadRecord]
    rps: NDArray[np.float64]
    p95_ms: NDArray[np.float64]
    load_of: NDArray[np.int64]
    server_copies: NDArray[np.int64]
    is_own: NDArray[np.bool_]

    @staticmethod
    def unknown(variants: int, machines: int, loads: Iterable[LoadRecord] = ()) -> Carried:
        """Nothing is known yet of any of them."""
        shape = (variants, machines)
        return Carried(
            list(loads),
            rps=np.full(shape, np.nan),
            p95_ms=np.full(shape, np.nan),
            load_of=np.full(shape, NO_LOAD, dtype=np.int64),
            server_copies=np.zeros(shape, dtype=np.int64),
            is_own=np.zeros(shape, dtype=np.bool_),
        )

    def put(
        self,
        variant: int,
        machine: int,
        rps: float | None,
        p95_ms: float | None,
        load: LoadRecord | None,
        server_copies: int | None,
    ) -> None:
        """Notes a capacity and the measurement that it rests on."""
        place = variant, machine
        self.rps[place], self.p95_ms[place] = _nan(rps), _nan(p95_ms)
        self.load_of[place] = self._place_of(load) if load else NO_LOAD
        self.server_copies[place] = server_copies or 0

    def put_capacity(self, variant: int, machine: int, capacity: Capacity) -> None:
        """Notes what ranks a capacity that is known in full."""
        p95_ms = capacity.p95_ms.value if capacity.p95_ms else None
        self.put(variant, machine, capacity.capacity_rps.value, p95_ms, capacity.load, capacity.server_copies)
        self.is_own[variant, machine] = capacity.own_load is not None

    def put_columns(self, machines: Sequence[int], other: Carried) -> None:
        """Notes what the same variants carry on some of the machines; `other` has the same loads."""
        for own, known in zip(self[1:], other[1:], strict=True):
            own[:, machines] = known

    def _place_of(self, load: LoadRecord) -> int:
        for place, each in enumerate(self.loads):
            if each is load:
                return place
        self.loads.append(load)
        return len(self.loads) - 1


def _nan(value: float | None) -> float:
    return np.nan if value is None else value
