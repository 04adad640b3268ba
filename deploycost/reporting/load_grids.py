"""What a load test found beside its curve: a line to see it by, soaks, and server settings that were tried."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

from deploycost.records import Certificate, LoadRecord, SoakRecord
from deploycost.reporting.grid import Column, Grid
from deploycost.reporting.wording import UNKNOWN_MARK, interval, marked, number, percent_number, yes_no
from deploycost.units import bytes_text, percent, seconds_text

_BARS = "▁▂▃▄▅▆▇█"
_LINE_WIDTH = 60
_SETTINGS_COLUMNS = (
    Column("workers x threads", "workers x\nthreads"),
    Column("max batch", "max\nbatch"),
    Column("window ms", "window\nms"),
    Column("saturated rps", "closed\nloop rps"),
    Column("p95 ms", "p95\nms"),
    Column("rounds"),
    Column("capacity rps", "capacity\nrps"),
    Column("95 % interval", "95 %\ninterval"),
    Column("chosen"),
)
_SOAK_COLUMNS = (
    Column("variant", text=True),
    Column("rate rps", "rate\nrps"),
    Column("objective", text=True),
    Column("missed %", "missed\n%"),
    Column("95 % interval", "95 %\ninterval"),
    Column("allowed %", "allowed\n%"),
    Column("held"),
)


def line(load: LoadRecord) -> tuple[str, ...]:
    """The 95th percentile over the rates tried, as bars up to the limit, and where the capacity lies under them."""
    points = [point for point in load.curve if point.p95_ms is not None]
    if len({point.rate_rps for point in points}) < 2:
        return ()
    low, high = min(point.rate_rps for point in points), max(point.rate_rps for point in points)

    def place(rate_rps: float) -> int:
        share = log(max(low, min(high, rate_rps)) / low) / log(high / low)
        return round(share * (_LINE_WIDTH - 1))

    bars, limit_ms = [" "] * _LINE_WIDTH, load.slo.p95_ms
    for point in sorted(points, key=lambda point: point.p95_ms or 0.0):
        level = min(1.0, (point.p95_ms or 0.0) / limit_ms)
        bars[place(point.rate_rps)] = _BARS[min(len(_BARS) - 1, int(level * (len(_BARS) - 1)))]
    told = [f"p95 from {number(low)} to {number(high)} rps ({_BARS[-1]} is {number(limit_ms)} ms or more):"]
    told.append("".join(bars).rstrip())
    capacity = load.capacity_rps
    if capacity.value:
        marks = [" "] * _LINE_WIDTH
        for column in range(place(capacity.low or capacity.value), place(capacity.high or high) + 1):
            marks[column] = "─"
        marks[place(capacity.value)] = "┴"
        told.append("".join(marks).rstrip())
    return tuple(told)


def facts(load: LoadRecord) -> tuple[str, ...]:
    """Start, closed loop, cores and power in lines, as far as they are known."""
    told = []
    if load.startup_s is not None:
        first = f", first answer after {seconds_text(load.first_answer_s)}" if load.first_answer_s else ""
        told.append(f"Ready after {seconds_text(load.startup_s)}{first}.")
    if load.saturation_rps:
        told.append(f"A closed loop drew {number(load.saturation_rps)} rps, whatever the latency.")
    if load.core_cpu_ratios:
        shares = ", ".join(percent(ratio, 0) for ratio in load.core_cpu_ratios)
        told.append(f"Cores in use at capacity: {shares}.")
    if load.gpu_memory_bytes is not None:
        told.append(f"GPU memory at peak: {bytes_text(load.gpu_memory_bytes.peak)}.")
    if load.power is not None:
        per_request = marked(load.power.joules_per_request)
        idle = f", {marked(load.power.idle_watts)} W idle" if load.power.idle_watts else ""
        told.append(f"Power {marked(load.power.watts)} W{idle}, {per_request} J a request ({load.power.source}).")
    return tuple(told)


def trust(certificate: Certificate) -> str:
    """Whether a test is certified, which checks say no and by how much, and what was not seen."""
    failed = "; ".join(
        f"{each.name} {number(each.value)}, limit {number(each.limit)} ({each.explanation})"
        for each in certificate.checks
        if not each.ok
    )
    unseen = f" Not seen: {'; '.join(certificate.unseen)}." if certificate.unseen else ""
    return f"Certified.{unseen}" if certificate.certified else f"NOT certified: {failed}.{unseen}"


def settings(load: LoadRecord) -> Grid:
    """Every setting of the server that was tried, best first; at least one."""
    rows = tuple(
        (
            f"{each.settings.workers} x {each.settings.threads}",
            str(each.settings.max_batch),
            number(each.settings.batch_window_ms),
            number(each.saturation_rps),
            number(each.p95_ms),
            str(each.rounds),
            marked(each.capacity_rps) if each.capacity_rps else UNKNOWN_MARK,
            interval(each.capacity_rps) if each.capacity_rps else "",
            yes_no(each.settings == load.server),
        )
        for each in load.tried
    )
    notes = (
        "All were saturated by a closed loop; the default and the best of the others went on to a capacity.",
        "The other is chosen where its capacity is surely the greater.",
    )
    return Grid(f"Server settings tried for {load.variant}", _SETTINGS_COLUMNS, rows, notes)


def soaks(records: Sequence[SoakRecord]) -> Grid:
    """What came of rates that were held."""
    rows = []
    for record in records:
        for miss in record.point.misses:
            ratio = record.missed_ratios[miss.objective]
            rows.append(
                (
                    record.variant,
                    number(record.rate_rps),
                    miss.objective,
                    percent_number(ratio.value),
                    f"{percent_number(ratio.low)} to {percent_number(ratio.high)}",
                    percent_number(miss.allowed_ratio),
                    yes_no((ratio.value or 0.0) <= miss.allowed_ratio),
                )
            )
    return Grid("Rates held", _SOAK_COLUMNS, tuple(rows), tuple(map(_soak_note, records)))


def _soak_note(record: SoakRecord) -> str:
    verdict = "NOT HELD: " + record.point.reason
    if record.held:
        sure = "surely" if record.surely else "but too few independent requests to be sure of it"
        verdict = f"held, {sure}"
    lasted = seconds_text(record.point.duration_s)
    where = f"{lasted} at {number(record.rate_rps)} rps ({record.rate_reason})"
    told = f"{record.variant}, {record.slo.text}, {where}: {verdict}."
    return told if record.certificate is None else f"{told} {trust(record.certificate)}"
