"""Rows that are paid by the request: a variant on a serverless service, and an LLM behind an API."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cache
from math import ceil

from deploycost.costing.alternatives import ApiOption, CapacityOn, service_offer
from deploycost.costing.bills import MeteredBill, RequestBill, billed_seconds
from deploycost.costing.fleet import MILLION, exact
from deploycost.costing.ranking import usd_per_answer
from deploycost.costing.returns import ApiRequest
from deploycost.costing.rows import accuracy_of, meets_slo, per_correct, training_monthly_usd
from deploycost.records import UNKNOWN_FIGURE, Figure, LoadRecord, Quote, Subject, UsdPerMillion
from deploycost.units import MIB, bytes_text, milliseconds, percent, seconds_text
from deploycost.verdicts import OS_RESERVE_BYTES, Policy, Traffic
from pricing.serverless import ServerlessRate

_MS_PER_S = 1000
# Providers cache a prompt's beginning from so many tokens on (OpenAI, Anthropic: recalled, not read anew).
LEAST_CACHED_TOKENS = 1024


@dataclass(frozen=True)
class ServiceRow:
    """A variant on a serverless service: one request at a time on each instance."""

    variant: Subject
    rate: ServerlessRate
    capacity_on: CapacityOn
    traffic: Traffic
    policy: Policy

    def quote(self, slo_p95_ms: float) -> Quote:
        """The row in full; unknown where the variant was not load-tested or its kind of CPU was not."""
        work = self._work()
        return self._unknown(work) if isinstance(work, str) else self._known(work, slo_p95_ms)

    def planned_bill(self) -> MeteredBill | None:
        """The bill at the duration expected; None where that is unknown."""
        work = self._work()
        return None if isinstance(work, str) else self._bill(work, work.duration_ms.value or 0.0)

    def is_of(self, quote: Quote) -> bool:
        """Whether a quote is this row's."""
        return (quote.cloud, quote.region, quote.instance_type) == (
            self.rate.provider,
            self.rate.region,
            self._instance_type,
        )

    @property
    def _instance_type(self) -> str:
        return self.rate.service + (f" {self.rate.architecture}" if self.rate.architecture != "x86_64" else "")

    def _work(self) -> _Work | str:
        """A request on an instance, or why it is unknown."""
        load = _measured(self.variant)
        if load is None:
            return f"unknown: not load-tested; run 'deploycost loadtest {self.variant.name}'"
        if load.memory_bytes is None:
            return "unknown: the load test was not told the process of the service (--pid), so not its memory"
        if load.startup_s is None and self.policy.cold_start_ratio:
            return "unknown: the load test did not start the service, so what a cold start takes is not known"
        size = _size(self.rate, load, load.memory_bytes.peak)
        there = self.capacity_on(self.variant, service_offer(self.rate, size.vcpus, size.memory_mib))
        duration = _duration_ms(load, there.capacity_rps)
        return there.reason if duration.value is None else _Work(load, size, duration)

    def _bill(self, work: _Work, duration_ms: float, *, shared: bool = False) -> MeteredBill:
        """The bill of a month at that duration; `shared` where requests fill an instance, so that none is rounded."""
        load, size = work.load, work.size
        span = exact(duration_ms)
        billed = span / _MS_PER_S if shared else billed_seconds(span, self.rate)
        cold = exact(self.policy.cold_start_ratio) * exact(load.startup_s or 0.0)
        return MeteredBill(
            rate=self.rate,
            memory_mib=size.memory_mib,
            vcpus=size.vcpus if self.rate.mib_per_vcpu is None else Fraction(0),
            billed_s=billed + cold,
            egress_usd=usd_per_answer(self.policy),
            fixed_usd=Fraction(training_monthly_usd(self.variant, self._hourly(size), self.policy)),
        )

    def _hourly(self, size: _Size) -> Decimal:
        return service_offer(self.rate, size.vcpus, size.memory_mib).usd_per_hour

    def _known(self, work: _Work, slo_p95_ms: float) -> Quote:
        load, size, duration = work.load, work.size, work.duration_ms
        requests = self.traffic.requests_per_month
        shared = self.rate.concurrency_per_instance > 1
        bill_at = cache(lambda span, full: self._bill(work, span, shared=full))

        def rising(price: Callable[[MeteredBill], Fraction]) -> Figure:
            """A price that rises with the duration, at it and at the ends of its interval."""
            ends = (
                None if span is None else float(price(bill_at(span, full)))
                for span, full in ((duration.value, False), (duration.low, shared), (duration.high, False))
            )
            value, low, high = ends
            return Figure(value=value, low=low, high=high, basis="assumed")

        planned = rising(lambda bill: bill.monthly_usd(requests) * MILLION / requests)
        accuracy = accuracy_of(self.variant)
        rate = _per_instance(duration)
        p95_ms = self._p95_ms(load, duration)
        fits = size.memory_mib <= self.rate.memory_max_mib
        needed = f"{bytes_text(size.needed_mib * MIB)} of at most {bytes_text(self.rate.memory_max_mib * MIB)}"
        return self._row(
            usd_per_hour=self._hourly(size),
            capacity_rps=rate,
            capacity_reason=self._reason(load, size, duration),
            measured_capacity_rps=load.capacity_rps,
            certified=load.certificate.certified,
            replicas=None,
            usd_per_million=UsdPerMillion(
                # What is free may bring the plan below the list price.
                floor=rising(
                    lambda bill: MILLION * min(bill.list_usd_per_request(), bill.monthly_usd(requests) / requests)
                ),
                planned=planned,
                per_correct=per_correct(planned, accuracy),
            ),
            monthly_usd=rising(lambda bill: bill.monthly_usd(requests)),
            training_monthly_usd=float(bill_at(duration.value, False).fixed_usd)
            if self.policy.horizon_months
            else None,
            p95_ms=p95_ms,
            accuracy=accuracy,
            fits_memory=fits,
            memory_reason=f"server at peak and the system need {needed}",
            meets_slo=meets_slo(rate, p95_ms, slo_p95_ms),
        )

    def _unknown(self, reason: str) -> Quote:
        return self._row(
            usd_per_hour=Decimal(0),
            capacity_rps=UNKNOWN_FIGURE,
            capacity_reason=reason,
            measured_capacity_rps=UNKNOWN_FIGURE,
            certified=False,
            replicas=None,
            usd_per_million=UsdPerMillion(floor=UNKNOWN_FIGURE, planned=UNKNOWN_FIGURE, per_correct=UNKNOWN_FIGURE),
            monthly_usd=UNKNOWN_FIGURE,
            p95_ms=UNKNOWN_FIGURE,
            accuracy=accuracy_of(self.variant),
            fits_memory=None,
            memory_reason="unknown until load-tested",
            meets_slo=None,
        )

    def _row(self, **known: object) -> Quote:
        rate = self.rate
        return Quote.model_validate(
            {
                "variant": self.variant.name, "kind": "serverless", "cloud": rate.provider, "region": rate.region,
                "instance_type": self._instance_type, "purchase_option": "per-request",
                "price_source": rate.source, "price_date": rate.as_of.isoformat(),
                "energy_reason": "unknown: no power figure for a service",
            } | known
        )  # fmt: skip

    def _p95_ms(self, load: LoadRecord, duration: Figure) -> Figure:
        """The measured spread of latencies at the service's speed; a cold start on top where one in twenty is cold."""
        if duration.value is None:
            return UNKNOWN_FIGURE
        cold_ms = (load.startup_s or 0.0) * _MS_PER_S if self.policy.cold_start_ratio >= 0.05 else 0.0
        factor = _spread(load)
        low, high = ((end * factor + cold_ms if end is not None else None) for end in (duration.low, duration.high))
        return Figure(value=duration.value * factor + cold_ms, low=low, high=high, basis="assumed")

    def _reason(self, load: LoadRecord, size: _Size, duration: Figure) -> str:
        rounded = seconds_text(float(billed_seconds(exact(duration.value or 0.0), self.rate)))
        return (
            f"assumed: a request takes {milliseconds(duration.value)} on {float(size.vcpus):.3g} vCPU "
            f"({size.memory_mib:,} MiB), from {milliseconds(service_ms(load))} on {load.server_cores} measured core(s) "
            f"of {load.environment.cpu_model}; billed {rounded}; {percent(self.policy.cold_start_ratio)} of requests "
            f"wait for a cold start of {seconds_text(load.startup_s or 0.0)}; one request at a time on each instance"
        )


@dataclass(frozen=True)
class ApiRow:
    """An LLM behind an API, asked about each text. Its accuracy on the task and its latency are not verified."""

    option: ApiOption
    request: ApiRequest
    traffic: Traffic
    policy: Policy

    def bill(self) -> RequestBill:
        """In proportion to the requests; nothing leaves a cloud of one's own."""
        return RequestBill(Fraction(api_option_usd(self.option, self.request)))

    def quote(self) -> Quote:
        """The row in full."""
        api, requests = self.option.api, self.traffic.requests_per_month
        planned = Figure(value=float(self.bill().usd_per_request * MILLION), basis="assumed")
        cached = f", {self.request.beginning_tokens:g} of them cached" if self.option.price == "cached" else ""
        return Quote(
            variant=f"api:{api.model}",
            kind="api",
            cloud=api.provider,
            region="api",
            instance_type=f"{self.option.price} price",
            purchase_option=self.option.price,
            usd_per_hour=Decimal(0),
            capacity_rps=UNKNOWN_FIGURE,
            capacity_reason=(
                f"assumed: {self.request.input_tokens:g} tokens in (a prompt of {self.request.template_tokens:g} and "
                f"our own count of the text){cached} and {self.request.output_tokens:g} out per request, at "
                f"{self.option.price} price; rate limits, latency and accuracy on this task are not verified"
            ),
            measured_capacity_rps=UNKNOWN_FIGURE,
            certified=False,
            replicas=None,
            usd_per_million=UsdPerMillion(floor=planned, planned=planned, per_correct=UNKNOWN_FIGURE),
            usd_per_request=api_option_usd(self.option, self.request),
            monthly_usd=Figure(value=float(self.bill().monthly_usd(requests)), basis="assumed"),
            p95_ms=UNKNOWN_FIGURE,
            accuracy=UNKNOWN_FIGURE,
            fits_memory=None,
            memory_reason="no machine of one's own",
            meets_slo=None,
            energy_reason="unknown: no power figure for an API",
            price_source=api.source,
            price_date=api.as_of.isoformat(),
        )


def api_option_usd(option: ApiOption, request: ApiRequest) -> Decimal:
    """USD of one request under a price list: in full, in a batch, or with the prompt before the text cached.

    Raises:
        ValueError: the price is not listed (`api_options` offers only what is).
    """
    api = option.api
    tokens_in, tokens_out = Decimal(str(request.input_tokens)), Decimal(str(request.output_tokens))
    cached_tokens = Decimal(0)
    prices = (api.input_usd_per_mtok, api.output_usd_per_mtok, Decimal(0))
    if option.price == "batch":
        if api.batch_input_usd_per_mtok is None or api.batch_output_usd_per_mtok is None:
            raise ValueError(f"{api.model} lists no batch price")
        prices = (api.batch_input_usd_per_mtok, api.batch_output_usd_per_mtok, Decimal(0))
    elif option.price == "cached":
        if api.cached_input_usd_per_mtok is None:
            raise ValueError(f"{api.model} lists no cached price")
        prices = (api.input_usd_per_mtok, api.output_usd_per_mtok, api.cached_input_usd_per_mtok)
        cached_tokens = Decimal(str(request.beginning_tokens))
    fresh, out, cached = prices
    return ((tokens_in - cached_tokens) * fresh + cached_tokens * cached + tokens_out * out) / MILLION


def api_prices_listed(option: ApiOption, request: ApiRequest) -> list[ApiOption]:
    """The price lists of an API that a request can be under: caching needs a long enough beginning."""
    api = option.api
    listed = [ApiOption(api)]
    if api.batch_input_usd_per_mtok is not None and api.batch_output_usd_per_mtok is not None:
        listed.append(ApiOption(api, "batch"))
    if api.cached_input_usd_per_mtok is not None and request.beginning_tokens >= LEAST_CACHED_TOKENS:
        listed.append(ApiOption(api, "cached"))
    return listed


def service_ms(load: LoadRecord) -> float | None:
    """What a request takes when nobody else asks: the median at the lowest rate probed, else what saturation tells."""
    alone = [point for point in load.curve if point.service_p50_ms is not None or point.p50_ms is not None]
    if alone:
        point = min(alone, key=lambda each: each.rate_rps)
        return point.service_p50_ms if point.service_p50_ms is not None else point.p50_ms
    return load.server_cores / load.saturation_rps * _MS_PER_S if load.saturation_rps else None


@dataclass(frozen=True)
class _Size:
    """An instance: memory that is paid, that is needed, and the share of CPUs that a request gets."""

    memory_mib: int
    needed_mib: int
    vcpus: Fraction


@dataclass(frozen=True)
class _Work:
    """A request on an instance: what it rests on, the instance, and how long it takes there."""

    load: LoadRecord
    size: _Size
    duration_ms: Figure


def _size(rate: ServerlessRate, load: LoadRecord, peak_bytes: int) -> _Size:
    """The least memory that holds the server and, where memory brings the CPU, keeps the measured cores busy.

    Below that a request takes as much longer as its memory is cheaper; above it memory is paid for nothing.
    """
    needed = ceil((peak_bytes + OS_RESERVE_BYTES) / MIB)
    cores = Fraction(min(load.server_cores, rate.vcpus_max))
    wanted = max(needed, rate.memory_min_mib)
    if rate.mib_per_vcpu is not None:
        wanted = max(wanted, min(ceil(cores * rate.mib_per_vcpu), rate.memory_max_mib))
    memory = ceil(wanted / rate.memory_step_mib) * rate.memory_step_mib
    share = Fraction(memory, rate.mib_per_vcpu) if rate.mib_per_vcpu is not None else cores
    return _Size(memory, needed, min(share, cores))


def _duration_ms(load: LoadRecord, there: Figure) -> Figure:
    """The measured service time, as much longer as the instance carries less than where it was measured."""
    alone, measured = service_ms(load), load.capacity_rps.value
    if not (alone and measured and there.value):
        return UNKNOWN_FIGURE

    def at(rps: float | None) -> float | None:
        return alone * measured / rps if rps else None

    return Figure(value=at(there.value), low=at(there.high), high=at(there.low), basis="assumed")


def _per_instance(duration: Figure) -> Figure:
    def at(span: float | None) -> float | None:
        return _MS_PER_S / span if span else None

    return Figure(value=at(duration.value), low=at(duration.high), high=at(duration.low), basis="assumed")


def _spread(load: LoadRecord) -> float:
    """p95 over p50 of the lowest rate probed: how much longer than the usual a request takes when it is alone."""
    points = [point for point in load.curve if point.p95_ms is not None and point.p50_ms]
    if not points:
        return 1.0
    point = min(points, key=lambda each: each.rate_rps)
    return (point.p95_ms or 0.0) / (point.p50_ms or 1.0)


def _measured(variant: Subject) -> LoadRecord | None:
    return variant.loads[0] if variant.loads else None
