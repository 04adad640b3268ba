"""What a quote can be made for: all that is known of a variant made here, or of a service that runs elsewhere."""

from __future__ import annotations

from deploycost.records.base import Record
from deploycost.records.export import ExportRecord
from deploycost.records.load import LoadRecord
from deploycost.records.tuning import ModelRecord


class Variant(Record):
    """All that is known of one variant; `load` is None until it was load-tested.

    `elsewhere` holds load tests of the same artifact that were made on other machines; `tuning` is of the model it was
    made of, which may have been brought.
    """

    tuning: ModelRecord
    export: ExportRecord
    load: LoadRecord | None = None
    elsewhere: tuple[LoadRecord, ...] = ()

    @property
    def name(self) -> str:
        """Method and artifact, as in `qlora-r8.onnx-int8`."""
        return self.export.variant

    @property
    def loads(self) -> tuple[LoadRecord, ...]:
        """All load tests, that of this machine first."""
        return ((self.load,) if self.load else ()) + self.elsewhere


class Service(Record):
    """A service of the user's own, known by its load tests alone: what it answers was never judged here."""

    name: str
    elsewhere: tuple[LoadRecord, ...]
    load: None = None

    @property
    def loads(self) -> tuple[LoadRecord, ...]:
        """All load tests."""
        return self.elsewhere


# What a quote can be made for.
Subject = Variant | Service
