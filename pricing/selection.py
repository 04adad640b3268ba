"""Which price rows a user means by words such as `aws`, `aws-g4dn`, `g4dn.xlarge` or `all`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pricing.book import PURCHASE_OPTIONS, Offer, PriceBook
from pricing.errors import PriceError, nearest_names

EVERYTHING = "all"
# Where a price list is usually quoted. Clouds that are not here are not asked for a region.
DEFAULT_REGIONS = {"aws": "us-east-1", "gcp": "us-central1", "azure": "eastus"}
# What people call the clouds after their companies.
_COMPANIES = {"amazon": "aws", "google": "gcp", "microsoft": "azure"}
# More names than this in one error line help nobody.
_NAMES_TOLD = 30
# Of an offer's names, the first three say the cloud; the others may mean a machine of several clouds.
_LONG_NAMES = 3


def select(
    book: PriceBook, cloud: str = "aws-g4dn", region: str | None = None, purchase_option: str = "on-demand"
) -> list[Offer]:
    """The price rows meant by `cloud`, cheapest first, then by name.

    `cloud` is a cloud (`aws`), a family (`aws-g4dn`, or `g4dn` where one cloud has it), an instance type
    (`g4dn.xlarge`, `aws-g4dn.xlarge`), `all`, or several of these between commas; case does not matter. `region` may be
    `all` too. Without it, each cloud's usual one is taken (`DEFAULT_REGIONS`), and any region of the clouds that have
    none.

    Raises:
        PriceError: a name, region or purchase option is unknown (with the nearest ones), or no price is known for what
            was named (with where there is one).
    """
    if purchase_option not in PURCHASE_OPTIONS:
        known = ", ".join(PURCHASE_OPTIONS)
        hint = nearest_names(purchase_option, PURCHASE_OPTIONS)
        raise PriceError(f"unknown purchase option {purchase_option!r}{hint}; known: {known}")
    regions = {offer.region for offer in book.offers}
    if region not in (None, EVERYTHING, *regions):
        raise PriceError(f"unknown region {region!r}{nearest_names(region, regions)}; known: {_listed(regions)}")
    names = [name.strip() for name in cloud.split(",")]
    if not all(names):
        raise PriceError(f"empty name in --cloud {cloud!r}: expected names such as aws, aws-g4dn, g4dn.xlarge or all")
    found = {offer.key: offer for name in names for offer in _matching(book, name, region, purchase_option)}
    return sorted(found.values(), key=lambda offer: (offer.effective_usd_per_hour, offer.key))


def _matching(book: PriceBook, name: str, region: str | None, purchase_option: str) -> list[Offer]:
    named = _named(book, name)
    with_option = [offer for offer in named if offer.purchase_option == purchase_option]
    if not with_option:
        there = _listed({offer.purchase_option for offer in named})
        # No reservation is shipped: no dated source of one was found.
        hint = "; fetch them with 'deploycost prices refresh', or add your own with 'deploycost prices add'"
        hint = hint if purchase_option.startswith("reserved") else ""
        raise PriceError(f"no {purchase_option} price is known for {name!r}; known for it: {there}{hint}")
    if region == EVERYTHING:
        return with_option
    here = [
        offer for offer in with_option if offer.region == (region or DEFAULT_REGIONS.get(offer.cloud, offer.region))
    ]
    if not here:
        where = region or "/".join(sorted({DEFAULT_REGIONS[offer.cloud] for offer in with_option}))
        elsewhere = _listed({offer.region for offer in with_option})
        raise PriceError(
            f"no {purchase_option} price is known for {name!r} in {where}; there is one in {elsewhere}: "
            "choose with --region"
        )
    return here


def _named(book: PriceBook, name: str) -> Sequence[Offer]:
    """The rows that a name means, in all regions and purchase options."""
    wanted = name.lower()
    if wanted == EVERYTHING:
        return book.offers
    exact = [offer for offer in book.offers if wanted in offer.names[:_LONG_NAMES]]
    if exact:
        return exact
    short = [offer for offer in book.offers if wanted in offer.names[_LONG_NAMES:]]
    clouds = sorted({offer.cloud for offer in short})
    if len(clouds) > 1:
        choices = " or ".join(f"{cloud}-{wanted}" for cloud in clouds)
        raise PriceError(f"{name!r} is on several clouds: say {choices}")
    if not short:
        clouds = sorted({offer.cloud for offer in book.offers})
        raise PriceError(
            f"unknown cloud, machine family or instance type {name!r}{_hint(book, wanted)}; "
            f"clouds: {', '.join(clouds)}; or {EVERYTHING}"
        )
    return short


def _hint(book: PriceBook, wanted: str) -> str:
    """What may have been meant: a cloud by its company's name, the machines with an accelerator, or a near name."""
    if cloud := nearest_names(wanted, _COMPANIES):
        company = cloud.split("'")[1]
        return f" (did you mean {_COMPANIES[company]!r}?)"
    families = {offer.family for offer in book.offers if (offer.accelerator_name or "").lower() == wanted}
    if families:
        return f" (an accelerator, of {_listed(families)})"
    return nearest_names(wanted, {each for offer in book.offers for each in offer.names})


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = len(ordered) - _NAMES_TOLD
    return ", ".join(ordered[:_NAMES_TOLD]) + (f" and {more} more" if more > 0 else "")
