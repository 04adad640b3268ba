"""Load tests from other machines, matched to the variants that they measured."""

from __future__ import annotations

from collections.abc import Sequence

from deploycost.errors import UserError, unknown_name
from deploycost.records import LoadRecord, Service, Variant


def with_records(variants: Sequence[Variant], records: Sequence[LoadRecord]) -> list[Variant]:
    """The variants, each with those of `records` that measured its very bundle.

    Raises:
        UserError: a record is of a variant that is not here, or of another bundle of the same name.
    """
    by_name = {variant.name: variant for variant in variants}
    for record in records:
        variant = by_name.get(record.variant)
        if variant is None:
            raise unknown_name("variant of a load record", record.variant, by_name)
        if record.bundle_digest != variant.export.bundle_digest:
            raise UserError(
                f"the load record of {record.variant} measured another bundle ({record.bundle_digest[:12]}, here "
                f"{variant.export.bundle_digest[:12]}); copy this run's bundle to that machine and load-test it there"
            )
        by_name[variant.name] = variant.model_copy(update={"elsewhere": (*variant.elsewhere, record)})
    return [by_name[variant.name] for variant in variants]


def services_in(records: Sequence[LoadRecord]) -> list[Service]:
    """The services that were tested where they ran, each with all of its records."""
    names = dict.fromkeys(record.variant for record in records if record.url)
    return [
        Service(name=name, elsewhere=tuple(record for record in records if record.url and record.variant == name))
        for name in names
    ]
