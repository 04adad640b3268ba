"""Flags of machines, traffic and policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from deploycost.commands.options.flag import flag_for
from deploycost.errors import UserError
from deploycost.experiment import QuoteSpec


@Parameter(name="*")
@dataclass(frozen=True)
class PriceFlags:
    """Which machines, which traffic, which policy."""

    cloud: Annotated[
        str | None,
        Parameter(
            help="Cloud (aws, lambda), family (aws-g4dn), instance type (aws-g4dn.xlarge), service (aws-lambda, "
            "cloud-run), api:MODEL, owned, owned:NAME, owned:FILE.csv, a comma list, or all machines for hire."
        ),
    ] = flag_for("quote.clouds")
    region: Annotated[
        str | None, Parameter(help="Region, or all. Default: us-east-1, us-central1, eastus by cloud.")
    ] = flag_for("quote.region")
    purchase_option: Annotated[
        str | None,
        Parameter(
            help="on-demand, spot, reserved-1y, reserved-3y, or all; no reserved price is shipped: 'prices refresh' or "
            "'prices add' brings them. Default: on-demand."
        ),
    ] = flag_for("quote.purchase_option")
    requests_per_month: Annotated[
        int | None, Parameter(help="Predictions to serve each month. Default: 100,000,000.")
    ] = flag_for("quote.requests_per_month")
    peak_to_mean: Annotated[float | None, Parameter(help="How much busier the peak is than the mean. Default: 3.")] = (
        flag_for("quote.peak_to_mean_ratio")
    )
    utilisation: Annotated[float | None, Parameter(help="Share of capacity to plan with, 0..1. Default: 0.7.")] = (
        flag_for("quote.utilisation_ratio")
    )
    spare_replicas: Annotated[int | None, Parameter(help="Replicas beyond the need. Default: 1.")] = flag_for(
        "quote.spare_replicas"
    )
    traffic: Annotated[
        str | None,
        Parameter(
            help="Shape of the week: flat, business-hours, spiky, or a .csv or .yaml file of 168 hourly weights."
        ),
    ] = flag_for("quote.traffic")
    autoscale: Annotated[
        bool | None, Parameter(help="Machines hour by hour, not for the peak; needs --traffic. Default: off.")
    ] = flag_for("quote.autoscale")
    scale_step: Annotated[int | None, Parameter(help="Machines started or stopped at once. Default: 1.")] = flag_for(
        "quote.scale_step"
    )
    cold_start: Annotated[
        float | None, Parameter(help="Seconds that a machine is started, and paid, ahead of need. Default: 180.")
    ] = flag_for("quote.cold_start_s")
    mix: Annotated[
        str | None, Parameter(help="Purchase options of base and peak, as in reserved-1y=base,spot=peak.")
    ] = flag_for("quote.mix")
    spot_interruption: Annotated[
        float | None, Parameter(help="Share of spot machines away at any time, 0..1. Default: 0.05, assumed.")
    ] = flag_for("quote.spot_interruption_ratio")
    cold_start_ratio: Annotated[
        float | None, Parameter(help="Serverless: share of requests that wait for a start. Default: 0.01, assumed.")
    ] = flag_for("quote.cold_start_ratio")
    storage_gib: Annotated[float | None, Parameter(help="Disk of each machine. Default: 0, not counted.")] = flag_for(
        "quote.storage_gib"
    )
    storage_price: Annotated[float | None, Parameter(help="USD per GiB and month of disk. Default: 0.")] = flag_for(
        "quote.storage_usd_per_gib_month"
    )
    response_bytes: Annotated[
        int | None, Parameter(help="Bytes of an answer that leave the cloud. Default: 0, not counted.")
    ] = flag_for("quote.response_bytes")
    egress_price: Annotated[float | None, Parameter(help="USD per GiB that leaves the cloud. Default: 0.")] = flag_for(
        "quote.egress_usd_per_gib"
    )
    horizon_months: Annotated[
        int | None, Parameter(help="Spread what making a variant cost over so many months. Default: not in the bill.")
    ] = flag_for("quote.horizon_months")
    prompt_template: Annotated[
        str | None, Parameter(help="File of the prompt around {text} (and {labels}). Default: 60 tokens, assumed.")
    ] = flag_for("quote.prompt_template")
    output_tokens: Annotated[int | None, Parameter(help="Tokens that an LLM answers. Default: 5.")] = flag_for(
        "quote.output_tokens"
    )


@Parameter(name="*")
@dataclass(frozen=True)
class ChoiceFlags:
    """What decides which row is chosen, and what the choice is compared with."""

    max_accuracy_drop: Annotated[
        float | None, Parameter(help="Accuracy that may be given up for cost, 0..1. Default: 0.01.")
    ] = flag_for("quote.max_accuracy_drop")
    llm_api: Annotated[str | None, Parameter(help="LLM API to compare with, by model name. Default: gpt-5-nano.")] = (
        flag_for("quote.llm_api")
    )


def refuse_unread(price: PriceFlags | None, question: QuoteSpec) -> None:
    """Refuses flags that were given and that nothing reads in the question that they are part of.

    Raises:
        UserError: all of them in one line.
    """
    given = price or PriceFlags()
    has_spot = bool({"spot", "all"} & (set(question.mix.values()) or {question.purchase_option}))
    checked = (
        (given.peak_to_mean, question.traffic is None, "--traffic and --peak-to-mean both say how high the peak is"),
        (given.purchase_option, not question.mix, "--mix and --purchase-option both say how machines are bought"),
        (given.scale_step, question.autoscale, "--scale-step is of use with --autoscale only"),
        (given.cold_start, question.autoscale, "--cold-start is of use with --autoscale only"),
        (
            given.spot_interruption,
            has_spot,
            "--spot-interruption is of use only where --purchase-option or --mix has spot",
        ),
    )
    unread = [what for flag, is_read, what in checked if flag is not None and not is_read]
    if unread:
        raise UserError("; ".join(unread))
