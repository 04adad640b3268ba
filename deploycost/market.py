"""What a question names, with its prices: machines for hire and owned, services, APIs; and their power and grid."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path

from deploycost.costing.alternatives import (
    OWNED,
    Alternatives,
    ApiOption,
    Machine,
    Site,
    SiteOf,
    hired,
    instance_machines,
    mixed,
    own_machine,
)
from deploycost.costing.request_rows import api_prices_listed
from deploycost.costing.returns import PROMPT_TEMPLATE_TOKENS, ApiRequest, classification_request
from deploycost.errors import UserError
from deploycost.experiment import QuoteSpec
from deploycost.records import ModelRecord, Subject, Variant
from deploycost.traffic_shape import week_shape
from deploycost.verdicts import Policy, Traffic
from pricing.book import PURCHASE_OPTIONS, Offer, PriceBook, load_book
from pricing.errors import PriceError
from pricing.grid import grid_intensity
from pricing.llm import find_llm_api, load_llm_apis
from pricing.owned import OwnedMachine, find_owned, load_owned
from pricing.power import power_of, pue_of
from pricing.selection import DEFAULT_REGIONS, select
from pricing.serverless import ServerlessRate, load_serverless

EVERY = "all"
_API, _OWNED_PREFIX = "api", f"{OWNED}:"
# English text, as providers count: about so many characters to a token.
_CHARACTERS_PER_TOKEN = 4


def alternatives_for(question: QuoteSpec, request: ApiRequest) -> Alternatives:
    """The machines, services and APIs that a question names.

    Raises:
        UserError: a name, region or purchase option is unknown, or no price is known for what was named.
    """
    try:
        names = list(dict.fromkeys(name.strip() for name in question.clouds))
        services = {name: rates for name in names if (rates := _services(name, question.region))}
        apis = [name for name in names if name == _API or name.startswith(f"{_API}:")]
        owned = [name for name in names if name == OWNED or name.startswith(_OWNED_PREFIX)]
        machines = [name for name in names if name not in services and name not in apis and name not in owned]
        hire, warnings = _for_hire(machines, question) if machines else ([], [])
        rates = [rate for named in services.values() for rate in named]
        return Alternatives(
            machines=[
                *hire,
                *(machine for rate in rates if rate.billing == "instance" for machine in instance_machines(rate)),
                *(own_machine(each) for name in owned for each in _owned(name)),
            ],
            services=[rate for rate in rates if rate.billing == "request"],
            apis=[option for name in apis for option in _apis(name, request)],
            warnings=[*_namesakes(machines), *warnings],
        )
    except PriceError as error:
        hint = _service_hint(question.clouds) if str(error).startswith("unknown cloud") else ""
        raise UserError(f"{error}{hint}") from None


def traffic_for(question: QuoteSpec) -> Traffic:
    """The traffic asked about, with the shape of its week if one is named.

    Raises:
        UserError: the shape is unknown, or all mistakes of its file.
    """
    if question.traffic is None:
        return Traffic(requests_per_month=question.requests_per_month, peak_to_mean_ratio=question.peak_to_mean_ratio)
    weights = week_shape(question.traffic)
    return Traffic(
        requests_per_month=question.requests_per_month,
        peak_to_mean_ratio=max(1.0, max(weights) * len(weights) / sum(weights)),
        shape=question.traffic,
        hourly_weights=weights,
    )


def policy_for(question: QuoteSpec) -> Policy:
    """How machines are planned and paid."""
    return Policy(
        utilisation_ratio=question.utilisation_ratio,
        spare_replicas=question.spare_replicas,
        autoscale=question.autoscale,
        scale_step=question.scale_step,
        cold_start_s=question.cold_start_s,
        mix=question.mix,
        spot_interruption_ratio=question.spot_interruption_ratio,
        cold_start_ratio=question.cold_start_ratio,
        storage_gib=question.storage_gib,
        storage_usd_per_gib_month=Decimal(str(question.storage_usd_per_gib_month)),
        response_bytes=question.response_bytes,
        egress_usd_per_gib=Decimal(str(question.egress_usd_per_gib)),
        horizon_months=question.horizon_months,
    )


def request_for(question: QuoteSpec, variants: Sequence[Subject]) -> ApiRequest:
    """What an LLM would be sent about a text of the task: its own mean length, and the prompt around it.

    Raises:
        UserError: the template cannot be read, or has no place for the text.
    """
    tunings = [each.tuning for each in variants if isinstance(each, Variant)]
    mean_tokens = _whole_tokens(tunings[0]) if tunings else _sent_tokens(variants)
    template_tokens: float = PROMPT_TEMPLATE_TOKENS
    beginning_tokens = 0.0
    if question.prompt_template is not None:
        labels = tunings[0].label_names if tunings else ()
        template_tokens, beginning_tokens = _template_tokens(Path(question.prompt_template), labels)
    return classification_request(mean_tokens, template_tokens, question.output_tokens, beginning_tokens)


def _whole_tokens(tuning: ModelRecord) -> float:
    """The mean length of the task's texts before any was truncated to what our own model is fed.

    An earlier version recorded only what was fed.
    """
    return tuning.mean_tokens if tuning.whole_mean_tokens is None else tuning.whole_mean_tokens


def _sent_tokens(variants: Sequence[Subject]) -> float:
    """The mean length of the texts that load tests sent to services of the user's own; 0 where none tells."""
    return next((load.mean_tokens for each in variants for load in each.elsewhere if load.mean_tokens), 0.0)


def site_finder(machines: Sequence[Machine]) -> SiteOf:
    """Where each machine draws its power: published means by part, the provider's buildings, the region's grid."""
    owned = {machine.offer.instance_type: machine.owned for machine in machines if machine.owned}

    def site_of(offer: Offer) -> Site:
        """Where one machine draws its power; what is not known of it is None."""
        own = owned.get(offer.instance_type) if offer.cloud == OWNED else None
        if own:
            return Site(own.watts_idle, own.watts_load, own.pue, None, own.source)
        power, grid = power_of(offer), grid_intensity(offer.cloud, offer.region)
        return Site(
            power.watts_idle if power else None,
            power.watts_load if power else None,
            pue_of(offer.cloud),
            grid.grams_co2e_per_kwh if grid else None,
            "; ".join(power.sources) if power else "",
            f"grid: {grid.source}, {grid.as_of.isoformat()}" if grid else "",
        )

    return site_of


def _for_hire(names: Sequence[str], question: QuoteSpec) -> tuple[list[Machine], list[str]]:
    book, cloud = load_book(), ",".join(names)
    if not question.mix:
        options = PURCHASE_OPTIONS if question.purchase_option == EVERY else (question.purchase_option,)
        return hired(_selected(book, cloud, question.region, options)), []
    peak, base = (_selected(book, cloud, question.region, (question.mix[part],)) for part in ("peak", "base"))
    both, short = mixed(peak, base)
    told = f"{question.mix['base']} and {question.mix['peak']}"
    if not both:
        raise UserError(f"no machine of {cloud!r} has both a price: {told}; choose other machines or another --mix")
    return both, [f"{short} machines are left out: not both prices are known, {told}"] if short else []


def _selected(book: PriceBook, cloud: str, region: str | None, options: Sequence[str]) -> list[Offer]:
    """The offers of several regions or purchase options: an error where a name has a price in none of them."""
    if region != EVERY and len(options) == 1:
        return select(book, cloud, region, options[0])
    found: dict[str, Offer] = {}
    for name in cloud.split(","):
        offers: list[Offer] = []
        refused: list[PriceError] = []
        for option in options:
            try:
                offers += select(book, name, region, option)
            except PriceError as error:
                refused.append(error)
        if not offers:
            raise refused[0]
        if region == EVERY:
            offers.sort(key=lambda offer: offer.region)
        found |= {offer.key: offer for offer in offers}
    return list(found.values())


def _services(name: str, region: str | None) -> list[ServerlessRate]:
    """The rates of a service by its name (`cloud-run`) or with its provider (`aws-lambda`), in the region asked for.

    The name of a cloud means the cloud: `lambda` rents GPUs.
    """
    wanted = name.lower()
    named = [rate for rate in load_serverless() if wanted in (rate.service, f"{rate.provider}-{rate.service}")]
    if not named or any(offer.cloud == wanted for offer in load_book().offers):
        return []
    if region == EVERY:
        return named
    here = [rate for rate in named if rate.region == (region or DEFAULT_REGIONS.get(rate.provider, rate.region))]
    if not here:
        places = ", ".join(sorted({rate.region for rate in named}))
        raise PriceError(f"no price is known for {name!r} in {region}; there is one in {places}: choose with --region")
    return here


def _namesakes(clouds: Sequence[str]) -> list[str]:
    """That a cloud was taken by its name where a service has the same one."""
    services = {rate.service: f"{rate.provider}-{rate.service}" for rate in load_serverless()}
    return [
        f"{name} is the cloud of that name; the service is called {services[name.lower()]}"
        for name in clouds
        if name.lower() in services
    ]


def _service_hint(names: Sequence[str]) -> str:
    """What else there is than machines, the likeliest first."""
    services = list(dict.fromkeys(f"{rate.provider}-{rate.service}" for rate in load_serverless()))
    near = [match for name in names for match in get_close_matches(name.lower(), services, n=1, cutoff=0.8)]
    listed = ", ".join(dict.fromkeys([*near, *services]))
    return f"; services: {listed}; {_API}:MODEL for an LLM API, {OWNED} for machines of one's own"


def _apis(name: str, request: ApiRequest) -> list[ApiOption]:
    wanted = name.partition(":")[2]
    chat = [api for api in load_llm_apis() if api.mode == "chat"]
    found = chat if wanted in ("", EVERY) else [find_llm_api(wanted)]
    other = next((api for api in found if api.mode != "chat"), None)
    if other is not None:
        raise PriceError(
            f"{other.model} is for {other.mode} and cannot classify by a prompt; choose a chat model: "
            f"{', '.join(api.model for api in chat)}"
        )
    return [option for api in found for option in api_prices_listed(ApiOption(api), request)]


def _owned(name: str) -> tuple[OwnedMachine, ...]:
    wanted = name.removeprefix(_OWNED_PREFIX)
    if name == OWNED:
        return load_owned()
    return load_owned(Path(wanted)) if wanted.lower().endswith(".csv") else (find_owned(wanted),)


def _template_tokens(path: Path, labels: Sequence[str]) -> tuple[float, float]:
    """What a prompt has around its text, and how much of that before it."""
    try:
        template = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read prompt template {path}: {getattr(error, 'strerror', None) or error}") from None
    if "{text}" not in template:
        raise UserError(f"prompt template {path} has no place for the text: write {{text}} where it goes")
    filled = template.replace("{labels}", ", ".join(labels))
    around, before = filled.replace("{text}", ""), filled.partition("{text}")[0]
    return float(-(-len(around) // _CHARACTERS_PER_TOKEN)), float(len(before) // _CHARACTERS_PER_TOKEN)
