"""Flags that several commands share, and how they become an `Experiment`."""

from deploycost.commands.options.building import BringFlags, BuildFlags, ExportFlags
from deploycost.commands.options.flag import asked_field, flag_name
from deploycost.commands.options.load import LoadFlags, SloFlags
from deploycost.commands.options.place import Place
from deploycost.commands.options.price import ChoiceFlags, PriceFlags, refuse_unread
from deploycost.commands.options.request import asked, require_readers, with_flags

__all__ = [
    "BringFlags",
    "BuildFlags",
    "ChoiceFlags",
    "ExportFlags",
    "LoadFlags",
    "Place",
    "PriceFlags",
    "SloFlags",
    "asked",
    "asked_field",
    "flag_name",
    "refuse_unread",
    "require_readers",
    "with_flags",
]
