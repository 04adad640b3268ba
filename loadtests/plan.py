"""What one probe is to do: the same record whether it came from a command line, the environment or a driver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

MODES = ("open", "closed")
ARRIVALS = ("poisson", "constant")


def _option(default: Any, help_text: str, choices: tuple[str, ...] | None = None) -> Any:  # noqa: ANN401 - as dataclasses.field
    return field(default=default, metadata={"help": help_text, "choices": choices})


@dataclass(frozen=True)
class ProbePlan:
    """One probe: how requests arrive, for how long, and when it is hopeless to go on.

    Raises:
        ValueError: all impossible values, in one line.
    """

    mode: str = _option("open", "open: send each request when it is due; closed: a new one after each answer", MODES)
    rate_rps: float = _option(10.0, "arrivals per second of the open loop, per Locust user")
    concurrency: int = _option(1, "requests kept in flight by the closed loop, per Locust user")
    arrivals: str = _option("poisson", "gaps between arrivals of the open loop", ARRIVALS)
    warmup_s: float = _option(1.0, "seconds of load before anything is recorded")
    duration_s: float = _option(10.0, "seconds that are recorded")
    drain_s: float = _option(5.0, "seconds to wait for answers after the last request; later ones count as failed")
    seed: int = _option(0, "seed of the arrivals and of the order of texts")
    texts: str = _option("", "JSONL file with one {'text': ...} per line")
    late_ms: float = _option(100.0, "an answer is late beyond this latency")
    give_up_ratio: float = _option(1.0, "stop once more than this share of the requests is late or failed")
    answers: int = _option(0, "how many answers to keep for comparison")

    def __post_init__(self) -> None:
        mistakes = [
            f"{name} must be one of {', '.join(known)}, got {value!r}"
            for name, known, value in (("mode", MODES, self.mode), ("arrivals", ARRIVALS, self.arrivals))
            if value not in known
        ]
        mistakes += [
            f"{name} must be above 0, got {getattr(self, name):g}"
            for name in ("rate_rps", "concurrency", "duration_s", "late_ms")
            if not getattr(self, name) > 0
        ]
        mistakes += [
            f"{name} must be 0 or more, got {getattr(self, name):g}"
            for name in ("warmup_s", "drain_s", "give_up_ratio", "answers")
            if not getattr(self, name) >= 0
        ]
        if mistakes:
            raise ValueError("; ".join(mistakes))


def plan_from(options: Mapping[str, Any]) -> ProbePlan:
    """The plan among options; names that are not a plan's (Locust has many of its own) are passed over."""
    return ProbePlan(**{item.name: options[item.name] for item in fields(ProbePlan) if item.name in options})
