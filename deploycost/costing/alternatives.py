"""What can be deployed on: machines as they are bought, services, APIs; and where each draws its power."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import Literal

from deploycost.carried import Carried
from deploycost.costing.bills import exactly
from deploycost.costing.fleet import exact
from deploycost.costing.hourly import Purchase
from deploycost.records import Subject
from deploycost.units import SECONDS_PER_HOUR
from deploycost.verdicts import Capacity, Policy
from pricing.book import Offer
from pricing.llm import LlmApi
from pricing.owned import OwnedMachine
from pricing.serverless import ServerlessRate

# Of services that bill instances: vCPUs are bought in these sizes, and memory is taken to be so much for each.
_INSTANCE_VCPUS = (1, 2, 4, 8)
_INSTANCE_MIB_PER_VCPU = 2048
MixPart = Literal["base", "peak"]
ApiPrice = Literal["list", "batch", "cached"]
OWNED = "owned"


@dataclass(frozen=True)
class Site:
    """What a machine draws and what that emits: watts idle and at load, the building's share, grams of CO2e per kWh.

    None where it is not known. `source` says where the watts come from, `grid_source` where the grams.
    """

    watts_idle: Decimal | None = None
    watts_load: Decimal | None = None
    pue: Decimal | None = None
    grams_co2e_per_kwh: Decimal | None = None
    source: str = ""
    grid_source: str = ""


SiteOf = Callable[[Offer], Site]
# What a variant carries on a machine. It may depend on nothing of the offer but what the machine computes with, and on
# its instance type where a load record names that: machines alike in these are asked for once.
CapacityOn = Callable[[Subject, Offer], Capacity]
# The same for many at once: only what ranks them, so that no reason is written that none reads.
CarriedOn = Callable[[Sequence[Subject], Sequence[Offer]], Carried]


@dataclass(frozen=True)
class Machine:
    """One type of machine in one place: the price row of those that come and go, and of the base where it is another.

    `owned` is set on a machine of one's own, whose offer stands for what it computes with. `free_monthly_usd` is what a
    service that bills like a machine gives each month, the fleet's at once.
    """

    offer: Offer
    base: Offer | None = None
    owned: OwnedMachine | None = None
    free_monthly_usd: Decimal = Decimal(0)

    @property
    def bought(self) -> str:
        """How it is paid, as in `on-demand`, `reserved-1y+spot` or `owned`."""
        if self.owned:
            return OWNED
        return f"{self.base.purchase_option}+{self.offer.purchase_option}" if self.base else self.offer.purchase_option

    def purchases(self, policy: Policy) -> tuple[Purchase, Purchase | None]:
        """How the machines that come and go are paid, and those of the base."""
        if self.owned:
            return Purchase(self.owned.hourly_usd(Decimal(0)) + storage_usd_per_hour(policy), always_on=True), None
        return _purchase(self.offer, policy), _purchase(self.base, policy) if self.base else None

    def usd_per_request(self, capacity_rps: float) -> Fraction:
        """What a request costs beside the hours: the power that load adds to a machine of one's own."""
        if self.owned is None:
            return Fraction(0)
        usd_per_hour_of_load = exactly(self.owned.hourly_usd(Decimal(1)) - self.owned.hourly_usd(Decimal(0)))
        return usd_per_hour_of_load / (SECONDS_PER_HOUR * exact(capacity_rps))


@dataclass(frozen=True)
class ApiOption:
    """An LLM API under one of its price lists."""

    api: LlmApi
    price: ApiPrice = "list"


@dataclass(frozen=True)
class Alternatives:
    """What is to be priced beside one another."""

    machines: Sequence[Machine] = ()
    services: Sequence[ServerlessRate] = ()
    apis: Sequence[ApiOption] = ()
    warnings: Sequence[str] = field(default=())


def hired(offers: Sequence[Offer]) -> list[Machine]:
    """Machines bought in one way each."""
    return [Machine(offer) for offer in offers]


def one_by_one(capacity_on: CapacityOn) -> CarriedOn:
    """What variants carry on machines where it can only be asked of each."""

    def carried_on(variants: Sequence[Subject], offers: Sequence[Offer]) -> Carried:
        carried = Carried.unknown(len(variants), len(offers))
        for row, variant in enumerate(variants):
            for column, offer in enumerate(offers):
                carried.put_capacity(row, column, capacity_on(variant, offer))
        return carried

    return carried_on


def mixed(peak: Sequence[Offer], base: Sequence[Offer]) -> tuple[list[Machine], int]:
    """Machines that both kinds of price are known for, and how many had only one of them."""
    by_place = {_place(offer): offer for offer in base}
    both = [Machine(offer, by_place[_place(offer)]) for offer in peak if _place(offer) in by_place]
    return both, len({_place(offer) for offer in (*peak, *base)}) - len(both)


def own_machine(owned: OwnedMachine) -> Machine:
    """A machine of one's own. Its offer says what it computes with; what it costs is in `owned`."""
    offer = Offer(
        cloud=OWNED, region="own", instance_type=owned.name, family=f"{OWNED}-{owned.name}",
        vcpus=Decimal(owned.cores), memory_gib=owned.memory_gib, accelerator_name=None, accelerator_count=Decimal(0),
        accelerator_memory_gib=None, purchase_option="on-demand", usd_per_hour=owned.hourly_usd(Decimal(1)),
        source=owned.source, as_of=owned.as_of, note=owned.note, vcpu_is="core", cpu_model=owned.description,
        architecture=owned.architecture, sustained_cpu_ratio=Decimal(1),
    )  # fmt: skip
    return Machine(offer, owned=owned)


def instance_machines(rate: ServerlessRate) -> list[Machine]:
    """A service that bills the life of its instances is a machine in all but name: one of each usual size.

    One that runs all month, as the least fleet does, uses up what is free.
    """
    sizes = [vcpus for vcpus in _INSTANCE_VCPUS if vcpus <= rate.vcpus_max]
    offers = (service_offer(rate, Fraction(vcpus), vcpus * _INSTANCE_MIB_PER_VCPU) for vcpus in sizes)
    free = rate.free_gib_seconds * rate.usd_per_gib_second[0][1] + rate.free_vcpu_seconds * rate.usd_per_vcpu_second
    return [
        Machine(
            replace(
                offer,
                instance_type=f"{rate.service}-{float(offer.vcpus):g}",
                billing_granularity_s=max(1, ceil(rate.rounding_ms / 1000)),
                billing_minimum_s=ceil(rate.minimum_ms / 1000),
            ),
            free_monthly_usd=free,
        )
        for offer in offers
    ]


def service_offer(rate: ServerlessRate, vcpus: Fraction, memory_mib: int) -> Offer:
    """One instance of a service as if it were a machine, to ask what it computes."""
    share, gib = Decimal(str(float(vcpus))), Decimal(memory_mib) / 1024
    hourly = SECONDS_PER_HOUR * (gib * rate.usd_per_gib_second[0][1] + share * rate.usd_per_vcpu_second)
    return Offer(
        cloud=rate.provider, region=rate.region, instance_type=rate.service, family=f"{rate.provider}-{rate.service}",
        vcpus=share, memory_gib=gib, accelerator_name=None, accelerator_count=Decimal(0), accelerator_memory_gib=None,
        purchase_option="on-demand", usd_per_hour=hourly, source=rate.source, as_of=rate.as_of, note=rate.note,
        vcpu_is="thread" if rate.architecture == "x86_64" else "core", cpu_model=f"the CPU of {rate.service}",
        architecture=rate.architecture,
        sustained_cpu_ratio=Decimal(1),
    )  # fmt: skip


def _place(offer: Offer) -> tuple[str, str, str]:
    return offer.cloud, offer.region, offer.instance_type


def _purchase(offer: Offer, policy: Policy) -> Purchase:
    reserved = offer.purchase_option.startswith("reserved")
    return Purchase(
        usd_per_hour=offer.effective_usd_per_hour + storage_usd_per_hour(policy),
        # A reservation is paid for its whole term, however it is used.
        granularity_s=SECONDS_PER_HOUR if reserved else offer.billing_granularity_s,
        minimum_s=SECONDS_PER_HOUR if reserved else offer.billing_minimum_s,
        always_on=reserved,
        interruption_ratio=exact(policy.spot_interruption_ratio) if offer.purchase_option == "spot" else Fraction(0),
    )


def storage_usd_per_hour(policy: Policy) -> Decimal:
    """What a machine's disk costs while it is rented."""
    if not policy.storage_gib:
        return Decimal(0)
    return Decimal(str(policy.storage_gib)) * policy.storage_usd_per_gib_month / policy.hours_per_month
