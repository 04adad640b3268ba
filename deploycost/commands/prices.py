"""`deploycost prices list`, `show` and `check`: the price book as it is, and what it lacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from decimal import Decimal
from math import isfinite
from typing import Annotated, Any

from cyclopts import Parameter
from rich.box import SIMPLE_HEAD
from rich.table import Table

from deploycost.commands.output import show, show_json
from deploycost.errors import UserError
from pricing.book import Offer, load_book
from pricing.errors import PriceError
from pricing.filters import Filters, narrowed
from pricing.selection import select

_Cloud = Annotated[str, Parameter(help="Cloud (aws), family (aws-g4dn), instance type, a comma list, or all.")]
_Json = Annotated[bool, Parameter(negative="", help="Print one JSON document instead of a table.")]
_PurchaseOption = Annotated[str, Parameter(help="on-demand, spot, reserved-1y or reserved-3y.")]
# How many families a line of `prices check` names.
_FAMILIES_NAMED = 8
_MAX_AGE_DAYS = 365


@Parameter(name="*")
@dataclass(frozen=True)
class FilterFlags:
    """Which machines to show."""

    min_vcpus: Annotated[float | None, Parameter(help="With at least so many vCPUs.")] = None
    max_vcpus: Annotated[float | None, Parameter(help="With at most so many vCPUs.")] = None
    min_memory: Annotated[float | None, Parameter(help="With at least so many GiB of memory.")] = None
    max_memory: Annotated[float | None, Parameter(help="With at most so many GiB of memory.")] = None
    accelerator: Annotated[str | None, Parameter(help="With this accelerator (T4); any; or none.")] = None
    max_price: Annotated[float | None, Parameter(help="For at most so many USD per hour.")] = None

    def as_filters(self) -> Filters:
        """The limits, as prices know them.

        Raises:
            UserError: a limit is not a number above zero.
        """
        return Filters(
            min_vcpus=_limit("--min-vcpus", self.min_vcpus),
            max_vcpus=_limit("--max-vcpus", self.max_vcpus),
            min_memory_gib=_limit("--min-memory", self.min_memory),
            max_memory_gib=_limit("--max-memory", self.max_memory),
            accelerator=self.accelerator,
            max_usd_per_hour=_limit("--max-price", self.max_price),
        )


@Parameter(name="*")
@dataclass(frozen=True)
class CurrencyFlags:
    """Which money to show prices in, at whose rate."""

    currency: Annotated[str, Parameter(help="Show prices in this currency, at the rate of --rate.")] = "USD"
    rate: Annotated[float | None, Parameter(help="What one USD is worth in --currency, as you say.")] = None

    def as_money(self) -> Money:
        """The money to print in.

        Raises:
            UserError: a currency came without a rate, or a rate without a currency, or they are not what they say.
        """
        code = self.currency.upper()
        if len(code) != 3 or not code.isalpha():
            raise UserError(f"--currency {self.currency!r} is not a currency: expected a code such as EUR")
        if code == "USD":
            if self.rate not in (None, 1):
                raise UserError(f"--rate {self.rate} needs its currency: say --currency EUR, for instance")
            return Money("USD", Decimal(1))
        if self.rate is None:
            raise UserError(f"--currency {code} needs its rate: say what one USD is worth, as in --rate 0.92")
        return Money(code, _number("--rate", self.rate))


@dataclass(frozen=True)
class Money:
    """A currency and what one USD is worth in it."""

    currency: str
    rate: Decimal

    @property
    def title(self) -> str:
        """The title of a column of prices."""
        return "$/hour" if self.currency == "USD" else f"{self.currency}/hour"

    @property
    def remark(self) -> str:
        """How the figures were converted; empty where they were not."""
        return "" if self.currency == "USD" else f"; 1 USD = {self.rate.normalize():f} {self.currency}, as you stated"

    def text(self, usd: Decimal) -> str:
        """An amount as it is printed."""
        if self.currency == "USD":
            return usd_text(usd)
        return f"{usd * self.rate:.4f}".rstrip("0").rstrip(".")

    def as_json(self, usd: Decimal) -> dict[str, str | float]:
        """What JSON says beside the USD; nothing where USD are shown."""
        if self.currency == "USD":
            return {}
        return {
            "currency": self.currency,
            "currency_per_usd": float(self.rate),
            "price_per_hour": float(usd * self.rate),
        }


def usd_text(usd: Decimal) -> str:
    """USD to a millionth, without zeros at the end: what is upfront of a term does not divide evenly."""
    return f"${round(usd, 6).normalize():f}"


def list_prices(
    cloud: _Cloud = "all",
    *,
    region: str | None = None,
    purchase_option: _PurchaseOption = "on-demand",
    filters: FilterFlags | None = None,
    currency: CurrencyFlags | None = None,
    json: _Json = False,
) -> int:
    """List the prices of machines, cheapest first.

    Example: deploycost prices list aws,gcp --accelerator T4 --max-price 1
    """
    money = (currency or CurrencyFlags()).as_money()
    offers = _selected(cloud, region, purchase_option, filters or FilterFlags())
    if json:
        show_json({"offers": [_as_json(offer, money) for offer in offers]})
        return 0
    table = Table(
        caption=f"{len(offers)} prices, {purchase_option}{money.remark}; "
        "'deploycost prices show MACHINE' gives the source of one",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for title in ("cloud", "region", "machine"):
        table.add_column(title, overflow="fold")
    for title in ("vCPU", "GiB", "accelerator", money.title, "as of"):
        table.add_column(title, justify="right", no_wrap=True)
    for offer in offers:
        count = f"{offer.accelerator_count.normalize():f}x" if offer.accelerator_name else ""
        sizes = (f"{offer.vcpus.normalize():f}", f"{offer.memory_gib.normalize():f}")
        table.add_row(
            offer.cloud,
            offer.region,
            offer.instance_type,
            *sizes,
            f"{count} {offer.accelerator_name or ''}".strip(),
            money.text(offer.effective_usd_per_hour),
            offer.as_of.isoformat(),
        )
    show(table)
    return 0


def show_price(
    machine: _Cloud,
    *,
    region: str | None = None,
    purchase_option: _PurchaseOption = "on-demand",
    filters: FilterFlags | None = None,
    currency: CurrencyFlags | None = None,
    json: _Json = False,
) -> int:
    """Everything known of the prices of one machine, with their sources.

    Example: deploycost prices show aws-g4dn.xlarge --currency EUR --rate 0.92
    """
    money = (currency or CurrencyFlags()).as_money()
    offers = _selected(machine, region, purchase_option, filters or FilterFlags())
    if json:
        show_json({"offers": [_as_json(offer, money) for offer in offers]})
        return 0
    for offer in offers:
        table = Table(title=f"{offer.key}{money.remark}", show_header=False, title_justify="left")
        for name, value in _as_json(offer, money).items():
            table.add_row(name, "unknown" if value is None else str(value))
        show(table)
    return 0


def check_prices(
    *,
    max_age_days: Annotated[int, Parameter(help="Rows older than this are stale.")] = _MAX_AGE_DAYS,
    json: _Json = False,
) -> int:
    """Say how old the price rows are and which prices are unknown. Exit code 1 when rows are stale.

    Example: deploycost prices check --max-age-days 180
    """
    from pricing.check import ages, gaps

    if max_age_days < 0:
        raise UserError(f"--max-age-days {max_age_days} is below zero: expected a number of days")
    try:
        offers = load_book().offers
    except PriceError as error:
        raise UserError(str(error)) from None
    by_age, missing = ages(offers, date.today(), max_age_days), gaps(offers)
    stale = sum(age.stale for age in by_age)
    if json:
        document = {"rows": len(offers), "stale": stale, "max_age_days": max_age_days}
        show_json(
            document
            | {"ages": [_plain_record(asdict(age)) for age in by_age]}
            | {"gaps": [_plain_record(asdict(gap)) for gap in missing]}
        )
        return 1 if stale else 0
    verdict = f"{stale} of {len(offers)} rows are older than {max_age_days} days"
    table = Table(caption=verdict, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in ("cloud", "option"):
        table.add_column(title)
    for title in ("rows", "oldest", "newest", "median days", "stale"):
        table.add_column(title, justify="right", no_wrap=True)
    for age in by_age:
        dates = (age.oldest.isoformat(), age.newest.isoformat())
        table.add_row(
            age.cloud, age.purchase_option, str(age.rows), *dates, f"{age.median_days:.0f}", str(age.stale or "")
        )
    unknown = Table(title="unknown", title_justify="left", show_header=False, box=SIMPLE_HEAD)
    for gap in missing:
        unknown.add_row(gap.cloud, gap.what, _named(gap.families))
    show(table, unknown)
    return 1 if stale else 0


def _limit(flag: str, value: float | None) -> Decimal | None:
    return None if value is None else _number(flag, value)


def _number(flag: str, value: float) -> Decimal:
    """The figure that was typed, exactly: of a float, the shortest text that means it."""
    if not isfinite(value) or value <= 0:
        raise UserError(f"{flag} {value:g} is not a number above zero")
    return Decimal(repr(value))


def _named(families: Sequence[str]) -> str:
    more = len(families) - _FAMILIES_NAMED
    return ", ".join(families[:_FAMILIES_NAMED]) + (f" and {more} more" if more > 0 else "")


def _selected(cloud: str, region: str | None, purchase_option: str, filters: FilterFlags) -> list[Offer]:
    try:
        book = load_book()
        offers = select(book, cloud, region, purchase_option)
        return narrowed(offers, filters.as_filters(), book.offers)
    except PriceError as error:
        raise UserError(str(error)) from None


def _as_json(offer: Offer, money: Money) -> dict[str, Any]:
    effective = offer.effective_usd_per_hour
    return _plain_record(asdict(offer)) | {"effective_usd_per_hour": float(effective)} | money.as_json(effective)


def _plain_record(record: dict[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in record.items()}


def _plain(value: Any) -> Any:  # noqa: ANN401 - any field of a record
    if isinstance(value, Decimal):
        return float(value)
    return value.isoformat() if isinstance(value, date) else value
