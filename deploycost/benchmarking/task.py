"""What a load test or a soak is asked to do: of what, within which objectives, where, and by whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from deploycost.benchmarking.client import Client
from deploycost.benchmarking.cores import CorePlan
from deploycost.benchmarking.generator import Generator, running_generator
from deploycost.benchmarking.settings import module_of
from deploycost.environment import MachineFacts
from deploycost.experiment import LoadSpec
from deploycost.records import CurvePoint, ServerSettings, Slo, TuningDraft

# Module and arguments of the endpoint with some settings.
Server = Callable[[ServerSettings], Sequence[str]]


@dataclass(frozen=True)
class LoadSubject:
    """What is tested: a variant's bundle, the texts to send, and the labels they should get, in the same order.

    Where the answers are numbers, written as text, they should come within `tolerance` of those expected.
    """

    variant: str
    bundle_folder: Path
    bundle_digest: str
    texts: tuple[str, ...]
    expected_labels: tuple[str, ...] | None
    mean_tokens: float | None
    fingerprint: str
    tolerance: float | None = None


@dataclass(frozen=True)
class Notes:
    """What a load test tells on its way: each point of a curve, and how far a search for settings has come.

    It goes on from a `draft`, where there is one, and tells each further one.
    """

    keep: Callable[[CurvePoint], None] = lambda _: None
    draft: TuningDraft | None = None
    leave: Callable[[TuningDraft], None] = lambda _: None


@dataclass(frozen=True)
class Task:
    """What is to be done, where, and by whom; the endpoint is that of the bundle unless `server` says another."""

    subject: LoadSubject
    spec: LoadSpec
    machine: MachineFacts
    seed: int
    progress: Callable[[str], None]
    server: Server | None = None
    notes: Notes = field(default_factory=Notes)
    client: Client = field(default_factory=Client)

    @property
    def slo(self) -> Slo:
        """The objectives."""
        return slo_of(self.spec)

    @property
    def name(self) -> str:
        """What the endpoint is called when it is told of."""
        return f"the endpoint of {self.subject.variant}"

    def module(self, settings: ServerSettings) -> tuple[str, ...]:
        """Module and arguments of the endpoint with some settings."""
        return tuple(self.server(settings) if self.server else module_of(self.subject.bundle_folder, settings))

    def cores(self, settings: ServerSettings) -> CorePlan:
        """Cores of both sides."""
        return self.client.cores(settings.workers * settings.threads)

    def generator(self, cores: CorePlan) -> AbstractContextManager[Generator]:
        """The client, with its workers."""
        client = self.client
        return running_generator(self.subject.texts, cores.client, client.traffic, client.crew, self.progress)


def slo_of(spec: LoadSpec) -> Slo:
    """The objectives that a load test is asked for."""
    return Slo(
        p95_ms=spec.slo_p95_ms,
        max_error_ratio=spec.max_error_ratio,
        p50_ms=spec.slo_p50_ms,
        p90_ms=spec.slo_p90_ms,
        p99_ms=spec.slo_p99_ms,
    )
