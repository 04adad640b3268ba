"""Load tests as measurements of settings: what a lone request took in the model, where it is known what it computed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from math import exp, log
from statistics import fmean

from deploycost.errors import UserError
from deploycost.projecting.evidence import with_records
from deploycost.projecting.hardware import Device, Place, find_place
from deploycost.projecting.observations import Setting
from deploycost.projecting.projection import Recorded
from deploycost.projecting.request_times import ENDPOINT_S, model_s, seen_in
from deploycost.projecting.variant_work import request_of
from deploycost.records import LoadRecord, Variant
from deploycost.units import milliseconds

# What the endpoint adds was measured on one CPU: elsewhere it may be half as much again, or half of it.
_ENDPOINT_DEVIATION = 0.5


def recorded_in(
    records: Sequence[LoadRecord], variants: Sequence[Variant], here: Device | None = None
) -> tuple[Recorded, ...]:
    """What load tests say of settings, once for each setting: of several tests of one, their geometric mean.

    The variants tell what was computed; `here` is a machine that was calibrated.

    Raises:
        UserError: every record that tells nothing, and why.
    """
    told: dict[Setting, list[Recorded]] = defaultdict(list)
    mistakes = []
    for record in records:
        try:
            found = _recorded(record, variants, here)
        except UserError as error:
            mistakes.append(str(error))
        else:
            told[found.setting].append(found)
    if mistakes:
        raise UserError("; ".join(mistakes))
    return tuple(_together(same) for same in told.values())


def _recorded(record: LoadRecord, variants: Sequence[Variant], here: Device | None) -> Recorded:
    named = f"the load record of {record.variant}"
    if record.url:
        raise UserError(
            f"{named} is of a service, and what that computes is not known: nothing can be projected from it; "
            "'deploycost quote --record' prices it"
        )
    variant = _variant_of(record, variants)
    if record.texts_per_request != 1:
        raise UserError(
            f"{named} is of requests with {record.texts_per_request} texts each; load-test it with one text each"
        )
    setting = _setting(record, variant, _device(record, variant, here))
    seen = seen_in(record)
    if seen.alone_ms is None:
        raise UserError(f"{named} holds no latency of answers; load-test it again")
    seconds = model_s(seen)
    doubt = "" if record.certificate.certified else ", not certified"
    return Recorded(
        setting=setting,
        seconds=seconds,
        deviation=_ENDPOINT_DEVIATION * ENDPOINT_S / seconds,
        name=f"{record.variant} on {setting.place.device.name}{doubt}",
        told=f"{milliseconds(seen.alone_ms)} for a lone request, less {milliseconds(seen.alone_ms - 1000 * seconds)} "
        "that the endpoint adds",
    )


def _variant_of(record: LoadRecord, variants: Sequence[Variant]) -> Variant:
    try:
        with_records(variants, [record])
    except UserError as error:
        raise UserError(f"{error} (--run and --runs-dir name the run that it was built in)") from None
    return next(each for each in variants if each.name == record.variant)


def _setting(record: LoadRecord, variant: Variant, device: Device) -> Setting:
    """What a lone request is: the texts that were sent, on as many cores as one request is given."""
    request = request_of(variant)
    if request is None:
        raise UserError(
            f"the load record of {record.variant} is of a model whose shape is not known: its base model "
            f"{variant.tuning.base_model!r} is no known name and no folder here with a config.json"
        )
    if record.mean_tokens is not None:
        request = request.of_length(record.mean_tokens)
    place = Place(device)
    if device.kind == "cpu":
        threads = record.server.threads if record.server else record.server_cores
        place = Place(device, 1, float(min(threads, device.cores)))
    setting = request.on(place)
    if setting is None:
        raise UserError(
            f"the load record of {record.variant} is of {variant.export.engine} in {variant.export.precision}, which "
            "is of no class that is projected"
        )
    return setting


def _device(record: LoadRecord, variant: Variant, here: Device | None) -> Device:
    """The chip that computed: half precision is for GPUs, all else is served by CPUs, also on a machine with a GPU."""
    machine = record.environment
    name = (machine.gpu_model if record.on_gpu else None) or machine.cpu_model
    if here is not None and here.name == name:
        return here
    try:
        return find_place(name).device
    except UserError:
        raise UserError(
            f"the load record of {record.variant} was made on {name!r}, which is in no table; run 'deploycost "
            "calibrate --output FILE' on that machine and give FILE with --calibration"
        ) from None


def _together(same: Sequence[Recorded]) -> Recorded:
    """Several tests of one setting as one."""
    first = same[0]
    if len(same) == 1:
        return first
    return first._replace(
        seconds=exp(fmean(log(each.seconds) for each in same)),
        deviation=fmean(each.deviation for each in same),
        name=" and ".join(dict.fromkeys(each.name for each in same)),
        told=f"the mean of {len(same)}: {'; '.join(each.told for each in same)}",
    )
