"""What is paid where nobody rents a machine: memory and CPU by the second, and a fee per request."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Literal, cast, get_args

from pricing.offer import ARCHITECTURES, Architecture
from pricing.table import DATA_FOLDER, Row, positive_number, read_rows, refuse_mistakes

Billed = Literal["request", "instance"]
_BILLED: tuple[Billed, ...] = get_args(Billed)
_COLUMNS = (
    "provider", "service", "region", "architecture", "billing", "usd_per_gib_second_tiers", "usd_per_vcpu_second",
    "usd_per_million_requests", "rounding_ms", "minimum_ms", "memory_min_mib", "memory_max_mib", "memory_step_mib",
    "mib_per_vcpu", "vcpus_max", "free_gib_seconds", "free_vcpu_seconds", "free_requests", "concurrency_per_instance",
    "source", "as_of", "note",
)  # fmt: skip

__all__ = ["Billed", "ServerlessRate", "load_serverless"]


@dataclass(frozen=True, slots=True)
class ServerlessRate:
    """The price list of one serverless service in one region, in USD; what is free is free each month.

    `usd_per_gib_second` are the tiers of a month as (up to so many GiB-seconds, USD); the last has no end (None).
    `billing` says which time is paid: that of requests being answered, or the whole life of an instance. A time is
    rounded up to whole `rounding_ms`, and is at least `minimum_ms`. `mib_per_vcpu` ties CPU to memory (1,769 MiB buy
    one vCPU of AWS Lambda); None where vCPUs are chosen and paid apart. `concurrency_per_instance` is how many
    requests one instance takes at once unless told otherwise.
    """

    provider: str
    service: str
    region: str
    architecture: Architecture
    billing: Billed
    usd_per_gib_second: tuple[tuple[Decimal | None, Decimal], ...]
    usd_per_vcpu_second: Decimal
    usd_per_million_requests: Decimal
    rounding_ms: int
    minimum_ms: int
    memory_min_mib: int
    memory_max_mib: int
    memory_step_mib: int
    mib_per_vcpu: int | None
    vcpus_max: int
    free_gib_seconds: Decimal
    free_vcpu_seconds: Decimal
    free_requests: Decimal
    concurrency_per_instance: int
    source: str
    as_of: datetime.date
    note: str

    @property
    def key(self) -> str:
        """Names the row and its date, as in `aws/us-east-1/lambda/arm64@2026-11-28`."""
        return f"{self.provider}/{self.region}/{self.service}/{self.architecture}@{self.as_of.isoformat()}"

    def memory_usd(self, gib_seconds: Decimal) -> Decimal:
        """USD of a month's GiB-seconds, tier by tier, after the free ones."""
        paid, total, start = max(gib_seconds - self.free_gib_seconds, Decimal(0)), Decimal(0), Decimal(0)
        for end, usd in self.usd_per_gib_second:
            within = paid - start if end is None else min(paid, end) - start
            if within <= 0:
                break
            total += within * usd
            start += within
        return total

    def vcpu_usd(self, vcpu_seconds: Decimal) -> Decimal:
        """USD of a month's vCPU-seconds, after the free ones."""
        return max(vcpu_seconds - self.free_vcpu_seconds, Decimal(0)) * self.usd_per_vcpu_second

    def requests_usd(self, requests: Decimal) -> Decimal:
        """USD of the fee on a month's requests, after the free ones."""
        return max(requests - self.free_requests, Decimal(0)) * self.usd_per_million_requests / 1_000_000


@cache
def load_serverless(path: Path = DATA_FOLDER / "serverless.csv") -> tuple[ServerlessRate, ...]:
    """All known services, in the order of the file; the shipped one unless told. A service not in it is unknown.

    Raises:
        PriceError: the file cannot be read, or all its mistakes.
    """
    rows = read_rows(path, _COLUMNS)
    rates: dict[tuple[str, ...], ServerlessRate] = {}
    for row in rows:
        rate = _rate(row)
        identity = (rate.provider, rate.service, rate.region, rate.architecture)
        if identity in rates:
            row.mistakes.append(f"{'/'.join(identity)} is priced twice")
        rates[identity] = rate
    refuse_mistakes(path, rows)
    return tuple(rates.values())


def _rate(row: Row) -> ServerlessRate:
    memory_min_mib, memory_max_mib = row.whole("memory_min_mib"), row.whole("memory_max_mib")
    if memory_max_mib < memory_min_mib:
        row.mistakes.append(f"memory_max_mib {memory_max_mib} is below memory_min_mib {memory_min_mib}")
    return ServerlessRate(
        provider=row.name("provider"),
        service=row.name("service"),
        region=row.name("region"),
        architecture=cast(Architecture, row.choice("architecture", ARCHITECTURES)),
        billing=cast(Billed, row.choice("billing", _BILLED)),
        usd_per_gib_second=_tiers(row),
        usd_per_vcpu_second=row.number("usd_per_vcpu_second", zero_allowed=True),
        usd_per_million_requests=row.number("usd_per_million_requests", zero_allowed=True),
        rounding_ms=row.whole("rounding_ms"),
        minimum_ms=row.whole("minimum_ms"),
        memory_min_mib=memory_min_mib,
        memory_max_mib=memory_max_mib,
        memory_step_mib=row.whole("memory_step_mib"),
        mib_per_vcpu=row.whole("mib_per_vcpu") if row.text("mib_per_vcpu") else None,
        vcpus_max=row.whole("vcpus_max"),
        free_gib_seconds=row.number("free_gib_seconds", zero_allowed=True),
        free_vcpu_seconds=row.number("free_vcpu_seconds", zero_allowed=True),
        free_requests=row.number("free_requests", zero_allowed=True),
        concurrency_per_instance=row.whole("concurrency_per_instance"),
        source=row.name("source"),
        as_of=row.date("as_of"),
        note=row.text("note"),
    )


def _tiers(row: Row) -> tuple[tuple[Decimal | None, Decimal], ...]:
    """Reads `END:USD END:USD USD`: ends rise, and the last tier has none."""
    column = "usd_per_gib_second_tiers"
    tiers: list[tuple[Decimal | None, Decimal]] = []
    for part in row.text(column).split():
        end_text, separator, usd_text = part.rpartition(":")
        end, usd = positive_number(end_text), positive_number(usd_text)
        if usd is None or (separator and end is None):
            row.mistakes.append(f"{column} {part!r} is not END:USD or USD, both above zero")
            return ((None, Decimal(1)),)
        tiers.append((end, usd))
    ends = [end for end, _ in tiers]
    finite = [end for end in ends if end is not None]
    if not ends or ends[-1] is not None or len(finite) != len(ends) - 1 or finite != sorted(set(finite)):
        row.mistakes.append(f"{column} {row.text(column)!r}: ends must rise, and the last tier has none")
    return tuple(tiers)
