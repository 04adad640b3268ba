"""Where the time of training steps goes: operator groups by phase, and what sets one method's steps apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from deploycost.records import OperatorTime, ProfileRecord
from deploycost.reporting.grid import Column, Grid
from deploycost.reporting.wording import number, percent_number

_GROUPS: tuple[str, ...] = get_args(OperatorTime.model_fields["group"].annotation)
_PHASES: tuple[str, ...] = get_args(OperatorTime.model_fields["phase"].annotation)
# Differences that are not worth a word beside the largest.
_LEAST_TOLD_SHARE = 0.05


def tables(records: Sequence[ProfileRecord]) -> tuple[Grid, ...]:
    """Each profile's table, and before them, where there are several, the one that compares them."""
    return (*((profiles(records),) if len(records) > 1 else ()), *map(profile, records))


def profile(record: ProfileRecord) -> Grid:
    """One method's step: milliseconds of each group of operators in each phase, and its share of all of them."""
    total = sum(each.time_ms for each in record.times)
    columns = (
        Column("operators", text=True),
        *(Column(f"{phase} ms", f"{phase}\nms") for phase in _PHASES),
        Column("together ms", "together\nms"),
        Column("share %", "share\n%"),
        Column("calls a step", "calls\na step"),
    )
    groups = _groups_in([record])
    rows = [(group, *_cells([each for each in record.times if each.group == group], total)) for group in groups]
    rows.append(("all", *_cells(record.times, total)))
    notes = (
        f"Milliseconds per step, mean of {record.steps} profiled steps of {number(record.step_ms)} ms; recording slows "
        "steps down, so that shares mean more than sums.",
        f"Every call is in {record.slug}/profile/{record.trace_file}.",
    )
    return Grid(f"Where a step of {record.slug} goes", columns, tuple(rows), notes)


def profiles(records: Sequence[ProfileRecord]) -> Grid:
    """Several methods' steps side by side: milliseconds per step of each group, and in words what makes them differ."""
    columns = (Column("operators", text=True), *(Column(f"{record.slug} ms") for record in records))
    rows = [(group, *(number(_ms(record, group=group)) for record in records)) for group in _groups_in(records)]
    rows += [(f"in {phase}", *(number(_ms(record, phase=phase)) for record in records)) for phase in _PHASES]
    rows.append(("all", *(number(_ms(record)) for record in records)))
    reference = _reference(records)
    notes = [_against(record, reference) for record in records if record is not reference]
    return Grid("Where the steps of each method go", columns, tuple(rows), tuple(notes))


def _groups_in(records: Sequence[ProfileRecord]) -> list[str]:
    return [group for group in _GROUPS if any(_ms(record, group=group) > 0 for record in records)]


def _cells(times: Sequence[OperatorTime], total_ms: float) -> tuple[str, ...]:
    together = sum(each.time_ms for each in times)
    return (
        *(number(sum(each.time_ms for each in times if each.phase == phase)) for phase in _PHASES),
        number(together),
        percent_number(together / total_ms if total_ms else None),
        number(sum(each.calls for each in times)),
    )


def _ms(record: ProfileRecord, *, group: str | None = None, phase: str | None = None) -> float:
    return sum(each.time_ms for each in record.times if group in (None, each.group) and phase in (None, each.phase))


def _reference(records: Sequence[ProfileRecord]) -> ProfileRecord:
    """What the others are held against: plain LoRA, whose quantised form is asked about most, else full, else any."""
    by_method = {record.method: record for record in reversed(records)}
    return by_method.get("lora") or by_method.get("full") or records[0]


def _against(record: ProfileRecord, reference: ProfileRecord) -> str:
    changes = {group: _ms(record, group=group) - _ms(reference, group=group) for group in _GROUPS}
    difference = sum(changes.values())
    largest = max(abs(change) for change in changes.values())
    told = [
        f"{group} {'-' if change < 0 else '+'}{number(abs(change))}"
        for group, change in sorted(changes.items(), key=lambda item: -abs(item[1]))
        if abs(change) > _LEAST_TOLD_SHARE * largest
    ]
    word = "more" if difference > 0 else "less"
    return (
        f"A step of {record.slug} takes {number(abs(difference))} ms {word} than one of {reference.slug}: "
        f"{', '.join(told) or 'the same in every group'}."
    )
