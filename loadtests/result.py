"""What one probe saw, with raw timings: histograms that merge exactly, over probes and over processes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from math import ceil

from hdrh.histogram import HdrHistogram

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
    cores. `slices` cut the window into equal parts in time, `medians_ms` is the median latency
    of each, None where nothing was answered. `answers` pairs the number of a text with its label.
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
