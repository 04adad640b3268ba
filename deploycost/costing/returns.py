"""What moving to a variant returns: one-off cost, monthly saving, payback, present value, break-even.

Payback is one-off cost over monthly saving. The present value discounts each month's saving at the month's end by the
annual rate's twelfth root: NPV = -cost + sum over m of saving / (1 + r)^(m / 12).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from deploycost.costing.bills import RequestBill
from deploycost.costing.break_even import break_even_with_api, break_even_with_fleet, crossover
from deploycost.costing.fleet import MILLION, Fleet, plan_fleet
from deploycost.costing.quoted_bill import bill_of
from deploycost.errors import UserError
from deploycost.records import Figure, Quote, Variant, weakest
from deploycost.units import SECONDS_PER_HOUR, usd
from deploycost.verdicts import NOT_REACHED, BreakEven, NotReached, QuoteSheet, Return
from pricing.llm import LlmApi

# An instruction that names the labels and asks for one of them; and the label with its JSON around it.
PROMPT_TEMPLATE_TOKENS = 60
OUTPUT_TOKENS = 5
MONTHS_PER_YEAR = 12


@dataclass(frozen=True)
class Terms:
    """Over how many months a return is counted, and what money costs meanwhile (a ratio a year)."""

    horizon_months: int = 36
    annual_discount_ratio: float = 0.08


@dataclass(frozen=True)
class ApiRequest:
    """What an LLM is sent and answers, per classification; `template_tokens` of the input are alike in all requests.

    Of those `beginning_tokens` come before the text: a cache holds what requests begin with, and nothing behind.
    """

    input_tokens: float
    output_tokens: float = OUTPUT_TOKENS
    template_tokens: float = PROMPT_TEMPLATE_TOKENS
    beginning_tokens: float = 0.0


@dataclass(frozen=True)
class _Baseline:
    name: str
    kind: Literal["variant", "llm-api"]
    monthly_usd: Figure
    notes: tuple[str, ...]


def one_off_usd(variant: Variant, usd_per_hour: Decimal) -> Figure:
    """What making the variant costs once: its training and export time at a machine's price.

    Assumed, because the machine that trained it was timed but not hired. What training a model took that was brought is
    not known, and not counted: see `one_off_notes`.
    """
    seconds = Decimal(str(variant.tuning.training_s or 0)) + Decimal(str(variant.export.export_s))
    return Figure(value=float(seconds / SECONDS_PER_HOUR * usd_per_hour), basis="assumed")


def one_off_notes(variant: Variant) -> tuple[str, ...]:
    """What the one-off cost of a variant leaves out."""
    if variant.tuning.training_s is not None:
        return ()
    return (f"training not counted: {variant.tuning.slug} was brought, and what its training cost is not known",)


def classification_request(
    mean_tokens: float,
    template_tokens: float = PROMPT_TEMPLATE_TOKENS,
    output_tokens: float = OUTPUT_TOKENS,
    beginning_tokens: float = 0.0,
) -> ApiRequest:
    """A request to an LLM about a text of so many of our own tokens, with a prompt around it."""
    return ApiRequest(mean_tokens + template_tokens, output_tokens, template_tokens, beginning_tokens)


def api_usd_per_request(api: LlmApi, request: ApiRequest) -> Decimal:
    """The list price of one request, without batch or cache reductions.

    Raises:
        UserError: the model does not answer prompts.
    """
    if api.mode != "chat":
        raise UserError(f"{api.model} is for {api.mode} and cannot classify by a prompt; choose a chat model")
    tokens_in, tokens_out = Decimal(str(request.input_tokens)), Decimal(str(request.output_tokens))
    return (tokens_in * api.input_usd_per_mtok + tokens_out * api.output_usd_per_mtok) / MILLION


def return_against_api(
    candidate: Quote, api: LlmApi, request: ApiRequest, one_off: Figure, sheet: QuoteSheet, terms: Terms
) -> Return:
    """The return of serving the candidate instead of asking the API, at the traffic and policy of the sheet.

    Raises:
        UserError: the model does not answer prompts.
    """
    per_request = api_usd_per_request(api, request)
    monthly = float(per_request * sheet.traffic.requests_per_month)
    baseline = _Baseline(
        name=api.key,
        kind="llm-api",
        monthly_usd=Figure(value=monthly, basis="assumed"),
        notes=(
            f"not verified: the accuracy of {api.model} on this task",
            f"assumed: {request.input_tokens:g} tokens in (ours and a prompt of {request.template_tokens:g}) and "
            f"{request.output_tokens:g} out per request, at list price: {usd(per_request * MILLION)} per million "
            "requests",
            *_unmetered(candidate),
        ),
    )
    plain, bill = _fleet(candidate, sheet), bill_of(candidate, sheet, with_training=False)
    if plain:
        crossing = break_even_with_api(plain, Fraction(per_request))
    else:
        crossing = crossover(bill, RequestBill(Fraction(per_request))) if bill else _unknown_break_even()
    return _return(candidate, baseline, one_off, crossing, terms)


def return_against_variant(
    candidate: Quote, baseline: Quote, one_off: Figure, sheet: QuoteSheet, terms: Terms
) -> Return:
    """The return of serving the candidate instead of the baseline, each on its own machines.

    The baseline is taken to be in service already: its own one-off cost is spent and not credited.
    """
    fleet, other = _fleet(candidate, sheet), _fleet(baseline, sheet)
    bills = [bill_of(each, sheet, with_training=False) for each in (candidate, baseline)]
    if fleet and other:
        crossing = break_even_with_fleet(fleet, other)
    else:
        crossing = crossover(bills[0], bills[1]) if bills[0] and bills[1] else _unknown_break_even()
    against = _Baseline(
        name=f"{baseline.variant} on {baseline.cloud} {baseline.instance_type}",
        kind="variant",
        monthly_usd=_without_training(baseline),
        notes=(
            "the baseline is taken to be in service already; what it cost to make is not credited",
            *_unmetered(candidate, baseline),
        ),
    )
    return _return(candidate, against, one_off, crossing, terms)


def _return(candidate: Quote, baseline: _Baseline, one_off: Figure, crossing: BreakEven, terms: Terms) -> Return:
    monthly = _without_training(candidate)
    saving = _difference(baseline.monthly_usd, monthly)
    worth = _present_value_factor(terms)
    return Return(
        candidate=f"{candidate.variant} on {candidate.cloud} {candidate.instance_type}",
        baseline=baseline.name,
        baseline_kind=baseline.kind,
        one_off_usd=one_off,
        candidate_monthly_usd=monthly,
        baseline_monthly_usd=baseline.monthly_usd,
        monthly_saving_usd=saving,
        payback_months=_payback_months(one_off.value, saving.value),
        horizon_months=terms.horizon_months,
        annual_discount_ratio=terms.annual_discount_ratio,
        npv_usd=_net_present_value(one_off, saving, worth),
        roi_ratio=_roi_ratio(one_off.value, saving.value, terms.horizon_months),
        break_even=crossing,
        notes=baseline.notes,
    )


def _fleet(quoted: Quote, sheet: QuoteSheet) -> Fleet | None:
    """The fleet for the peak where nothing else is in the bill: its steps need no search."""
    capacity_rps, policy = quoted.capacity_rps.value, sheet.policy
    plain = (
        quoted.kind == "machine"
        and quoted.purchase_option != "spot"
        and len(quoted.parts) <= 1
        and not (
            sheet.traffic.hourly_weights or quoted.usd_per_request or quoted.free_monthly_usd or policy.storage_gib
        )
    )
    return plan_fleet(capacity_rps, quoted.usd_per_hour, sheet.traffic, policy) if capacity_rps and plain else None


def _without_training(quoted: Quote) -> Figure:
    """The bill without its share of what making the variant cost: a return counts that once, and not by the month."""
    share = quoted.training_monthly_usd or 0.0

    def less(amount: float | None) -> float | None:
        return None if amount is None else amount - share

    bill = quoted.monthly_usd
    return bill.model_copy(update={"value": less(bill.value), "low": less(bill.low), "high": less(bill.high)})


def _unknown_break_even() -> BreakEven:
    return BreakEven(
        requests_per_month=None, stays_cheaper=None, cheaper_for_good_from=None, searched_to_requests_per_month=0
    )


def _unmetered(*quotes: Quote) -> tuple[str, ...]:
    """Why a break-even is unknown: a quote does not hold the meter of a service, so its bill at other volumes."""
    named = dict.fromkeys(f"{each.cloud} {each.instance_type}" for each in quotes if each.kind == "serverless")
    return tuple(
        f"break-even unknown: a quote holds the bill of {name} at one volume; 'deploycost quote --crossover' reads its "
        "meter and searches"
        for name in named
    )


def _difference(more: Figure, less: Figure) -> Figure:
    """The difference with the widest interval that those of both allow; a figure without one counts as exact."""

    def minus(a: float | None, b: float | None) -> float | None:
        return None if a is None or b is None else a - b

    has_interval = any(end is not None for end in (more.low, more.high, less.low, less.high))
    return Figure(
        value=minus(more.value, less.value),
        low=minus(_either(more.low, more.value), _either(less.high, less.value)) if has_interval else None,
        high=minus(_either(more.high, more.value), _either(less.low, less.value)) if has_interval else None,
        basis=weakest(more.basis, less.basis),
    )


def _either(end: float | None, value: float | None) -> float | None:
    return value if end is None else end


def _payback_months(one_off: float | None, saving: float | None) -> float | NotReached | None:
    if one_off is None or saving is None:
        return None
    return one_off / saving if saving > 0 else NOT_REACHED


def _present_value_factor(terms: Terms) -> Decimal:
    """What a dollar at each month's end of the horizon is worth today."""
    growth = 1 + Decimal(str(terms.annual_discount_ratio))
    months = range(1, terms.horizon_months + 1)
    return sum((growth ** (Decimal(-month) / MONTHS_PER_YEAR) for month in months), Decimal(0))


def _net_present_value(one_off: Figure, saving: Figure, worth: Decimal) -> Figure:
    def at(monthly: float | None) -> float | None:
        if monthly is None or one_off.value is None:
            return None
        return float(Decimal(str(monthly)) * worth - Decimal(str(one_off.value)))

    basis = weakest(one_off.basis, saving.basis)
    return Figure(value=at(saving.value), low=at(saving.low), high=at(saving.high), basis=basis)


def _roi_ratio(one_off: float | None, saving: float | None, months: int) -> float | None:
    return (saving * months - one_off) / one_off if one_off and saving is not None else None
