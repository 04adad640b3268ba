"""What one probe saw, with raw timings: histograms that merge exactly, over probes and over processes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from math import ceil

from hdrh.histogram import HdrHistogram

from loadtests.plan import ProbePlan

# Microseconds, from 1 us to 1 h, to 3 significant digits.
_RANGE_US = (1, 3_600_000_000, 3)


@dataclass(frozen=True)
class Slice:
    """One of the equal parts in time of a measured window, by when requests were due. `latency` is as a result's."""

    requests: int
    late: int
    failed: int
    latency: str

    @property
    def median_ms(self) -> float | None:
        """Median latency, None where nothing was answered."""
        histogram = merged([self.latency])
        return quantile_ms(histogram, 0.5) if histogram.get_total_count() else None


@dataclass(frozen=True)
class ProbeResult:
    """Counts and timings of the requests that were due in the measured window.

    `planned` counts those due in the whole window, `requests` those sent before the probe ended or was given up;
    `requests` = answered + failed. Latency runs from the moment a request was due, service time from the moment it
    was sent, dispatch delay is the difference; each is an HDR histogram of microseconds, encoded as text; failed
    requests are in none. `achieved_rps` counts the answers that came within `window_s`. `client_cpu_ratio` is in
    cores. `slices` cut the window into equal parts in time, `medians_ms` is the median latency of each, None where
    nothing was answered. `answers` pairs the number of a text with its label.

    The window began after `warmup_s` of load, whose `warmup_requests` are in no figure; `steady` says whether their
    latencies had become steady by then (MSER-5), False also where there was no warm-up. Each request carried
    `texts_per_request`. `workers` processes sent them, of which `lost_workers` died and left nothing.
    """

    mode: str
    rate_rps: float
    planned: int
    requests: int
    late: int
    errors: dict[str, int]
    achieved_rps: float
    window_s: float
    gave_up: str
    latency: str
    service: str
    dispatch: str
    mean_in_flight: float
    client_cpu_ratio: float
    medians_ms: list[float | None]
    slices: list[Slice]
    answers: list[tuple[int, str]]
    warmup_s: float = 0.0
    warmup_requests: int = 0
    steady: bool = False
    texts_per_request: int = 1
    workers: int = 1
    lost_workers: int = 0

    @property
    def failed(self) -> int:
        """Requests without a good answer."""
        return sum(self.errors.values())

    @property
    def answered(self) -> int:
        """Requests with a good answer."""
        return self.requests - self.failed


def write_result(result: ProbeResult) -> str:
    """The result as one line of JSON."""
    return json.dumps(asdict(result))


def read_result(line: str) -> ProbeResult:
    """The result that `write_result` wrote.

    Raises:
        ValueError: it is not one.
    """
    content = json.loads(line)
    names = {item.name for item in fields(ProbeResult)}
    if not isinstance(content, dict) or set(content) != names:
        raise ValueError(f"not the result of a probe: {line[:200]}")
    content["answers"] = [(number, label) for number, label in content["answers"]]
    content["slices"] = [Slice(**each) for each in content["slices"]]
    return ProbeResult(**content)


def merge_results(plan: ProbePlan, parts: Sequence[ProbeResult], planned: int, lost: int) -> ProbeResult:
    """What one process would have found that had sent all that several sent side by side in the same window.

    Counts and histograms add up exactly. `client_cpu_ratio` is that of the busiest; `planned` is what was to be sent by
    all of them, `lost` is how many more there were that left nothing, which gives the probe up.
    """
    achieved_rps = sum(part.achieved_rps for part in parts)
    slices = [_merged_slice(same) for same in zip(*(part.slices for part in parts), strict=True)]
    died = f"{lost} of {len(parts) + lost} workers of the load generator died" if lost else ""
    return ProbeResult(
        mode=plan.mode,
        rate_rps=(plan.rate_rps or planned / plan.duration_s) if plan.mode == "open" else achieved_rps,
        planned=planned,
        requests=sum(part.requests for part in parts),
        late=sum(part.late for part in parts),
        errors=dict(sum((Counter(part.errors) for part in parts), Counter())),
        achieved_rps=achieved_rps,
        window_s=max(part.window_s for part in parts),
        gave_up=died or next((part.gave_up for part in parts if part.gave_up), ""),
        latency=encoded(merged(part.latency for part in parts)),
        service=encoded(merged(part.service for part in parts)),
        dispatch=encoded(merged(part.dispatch for part in parts)),
        mean_in_flight=sum(part.mean_in_flight for part in parts),
        client_cpu_ratio=max(part.client_cpu_ratio for part in parts),
        medians_ms=[each.median_ms for each in slices],
        slices=slices,
        answers=[answer for part in parts for answer in part.answers],
        warmup_s=max(part.warmup_s for part in parts),
        warmup_requests=sum(part.warmup_requests for part in parts),
        steady=all(part.steady for part in parts),
        texts_per_request=plan.texts_per_request,
        workers=len(parts) + lost,
        lost_workers=lost,
    )


def _merged_slice(parts: Sequence[Slice]) -> Slice:
    return Slice(
        requests=sum(part.requests for part in parts),
        late=sum(part.late for part in parts),
        failed=sum(part.failed for part in parts),
        latency=encoded(merged(part.latency for part in parts)),
    )


def encoded(histogram: HdrHistogram) -> str:
    """A histogram as text."""
    return histogram.encode().decode("ascii")


def new_histogram() -> HdrHistogram:
    """An empty histogram of microseconds."""
    return HdrHistogram(*_RANGE_US)


def merged(encoded: Iterable[str]) -> HdrHistogram:
    """The histogram of all samples of several encoded ones."""
    total = new_histogram()
    for text in encoded:
        total.decode_and_add(text)
    return total


def quantile_ms(histogram: HdrHistogram, quantile: float) -> float:
    """The value in milliseconds at a quantile (0..1): the smallest that at least this share of samples is within."""
    samples = histogram.get_total_count()
    # The library rounds to the nearest rank. Less a little, because 0.95 x 100 is a little more than 95 in floats.
    rank = max(1, ceil(quantile * samples - 1e-6))
    return histogram.get_value_at_percentile(100 * rank / max(1, samples)) / 1000
