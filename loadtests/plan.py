"""What one probe is to do: the same record whether it came from a command line, the environment or a driver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

MODES = ("open", "closed")
ARRIVALS = ("poisson", "constant", "trace")
PROTOCOLS = ("deploycost", "open-inference", "template")


def _option(default: Any, help_text: str, choices: tuple[str, ...] | None = None) -> Any:  # noqa: ANN401 - as dataclasses.field
    return field(default=default, metadata={"help": help_text, "choices": choices})


@dataclass(frozen=True)
class ProbePlan:
    """One probe: how requests arrive, for how long, and when it is hopeless to go on.

    Rates, users and counts are of the whole probe, over however many processes it is spread.

    Raises:
        ValueError: all impossible values, in one line.
    """

    mode: str = _option("open", "open: send each request when it is due; closed: a new one after each answer", MODES)
    rate_rps: float = _option(10.0, "arrivals per second of the open loop; 0 replays a trace as it was recorded")
    concurrency: int = _option(1, "requests kept in flight by the closed loop")
    arrivals: str = _option("poisson", "gaps between arrivals of the open loop", ARRIVALS)
    trace: str = _option("", "file of arrivals to replay: seconds or ISO times, one a line")
    warmup_s: float = _option(1.0, "least seconds of load before anything is recorded; it goes on until it is steady")
    duration_s: float = _option(10.0, "seconds that are recorded")
    drain_s: float = _option(5.0, "seconds to wait for answers after the last request; later ones count as failed")
    seed: int = _option(0, "seed of the arrivals and of the order of texts")
    texts: str = _option("", "file of texts: .txt with one a line, .jsonl, .csv or .parquet")
    column: str = _option("text", "column of the texts in their file")
    texts_per_request: int = _option(1, "texts that each request carries")
    protocol: str = _option("deploycost", "what the endpoint speaks", PROTOCOLS)
    model: str = _option("classifier", "name of the model in the paths of the Open Inference Protocol")
    template: str = _option("", "YAML or JSON file that describes the requests of another service")
    late_ms: float = _option(100.0, "an answer is late beyond this latency")
    give_up_ratio: float = _option(1.0, "stop once more than this share of the requests is late or failed")
    hopeless_ms: float = _option(
        0.0, "stop once so many are late, and pile up so fast that answers will be this late; 0: never"
    )
    answers: int = _option(0, "how many answers to keep for comparison")

    def __post_init__(self) -> None:
        mistakes = [
            f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}"
            for name, known in (("mode", MODES), ("arrivals", ARRIVALS), ("protocol", PROTOCOLS))
            if getattr(self, name) not in known
        ]
        mistakes += [
            f"{name} must be above 0, got {getattr(self, name):g}"
            for name in ("rate_rps", "concurrency", "duration_s", "late_ms", "texts_per_request")
            if not getattr(self, name) > 0 and not (name == "rate_rps" and self.rate_rps == 0 and self.trace)
        ]
        mistakes += [
            f"{name} must be 0 or more, got {getattr(self, name):g}"
            for name in ("warmup_s", "drain_s", "give_up_ratio", "hopeless_ms", "answers")
            if not getattr(self, name) >= 0
        ]
        mistakes += [
            f"{choice}={value} needs {value}=FILE, and {value}=FILE needs {choice}={value}"
            for choice, value in (("arrivals", "trace"), ("protocol", "template"))
            if (getattr(self, choice) == value) != bool(getattr(self, value))
        ]
        if mistakes:
            raise ValueError("; ".join(mistakes))


def plan_from(options: Mapping[str, Any]) -> ProbePlan:
    """The plan among options; names that are not a plan's (Locust has many of its own) are passed over."""
    return ProbePlan(**{item.name: options[item.name] for item in fields(ProbePlan) if item.name in options})
