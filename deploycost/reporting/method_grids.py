"""Tables about methods before anything is trained: what each is, and which fits a memory budget."""

from __future__ import annotations

from collections.abc import Sequence

from deploycost.records import Figure
from deploycost.reporting.grid import Column, Grid
from deploycost.reporting.wording import LEGEND, UNKNOWN_MARK, interval, marked, yes_no
from deploycost.units import MIB, bytes_text
from deploycost.verdicts import MethodAdvice, MethodFacts, MethodOutlook

_FACT_COLUMNS = (
    Column("method", text=True),
    Column("base", text=True, below=True),
    Column("what is trained", text=True),
    Column("its flags", text=True, below=True),
    Column("cost of serving", text=True, below=True),
    Column("batch"),
    Column("rate", below=True),
    Column("trained"),
    Column("and head", below=True),
    Column("memory MiB", "MiB"),
)
_OUTLOOK_COLUMNS = (
    Column("method", text=True),
    Column("settings", text=True, below=True),
    Column("memory MiB", "memory MiB"),
    Column("interval", below=True),
    Column("fits"),
    Column("accuracy lost, points", "points lost"),
    Column("interval", below=True),
    Column("training speed x full", "training\nx full"),
    Column("serving cost x full", "serving\nx full"),
    Column("evidence", text=True),
)


def facts(methods: Sequence[MethodFacts], model: str, device: str) -> Grid:
    """Every method: what it trains, its flags and their values, and what it takes to train and to serve."""
    rows = tuple(_facts_row(method) for method in methods)
    own = {
        "virtual tokens": [method.prompt_learning_rate for method in methods],
        "singular values": [method.singular_value_learning_rate for method in methods],
    }
    own_rates = " and ".join(f"{what} learn at {_listed(rates)}" for what, rates in own.items() if any(rates))
    notes = (
        f"On {model}, device {device}. MiB: peak of training by the memory model, over what Python and torch hold "
        "before the model is loaded.",
        f"batch, rate: as --batch-size and --learning-rate set them; {own_rates}.",
        "A flag without a value is not set: --targets then means query and value, --memory-budget no budget.",
    )
    return Grid("Methods", _FACT_COLUMNS, rows, notes)


def _listed(rates: Sequence[float | None]) -> str:
    return ", ".join(dict.fromkeys(f"{rate:g}" for rate in rates if rate))


def outlooks(advice: MethodAdvice) -> Grid:
    """Every method under a memory budget: whether it fits, what it would lose and save, and how that is known."""
    rows = tuple(_outlook_row(each, chosen=each.slug == advice.choice) for each in advice.outlooks)
    notes = [
        "memory: peak of training over what Python and torch hold before the model is loaded; "
        + "; ".join(dict.fromkeys(each.memory_source for each in advice.outlooks))
        + ".",
        "points lost: accuracy of full less the method's; training: samples per second, at equal batches or each at "
        "the batch shown; serving: work of a request.",
        *(f"Evidence: {line}." for line in advice.evidence),
    ]
    if not advice.evidence:
        notes.append("Evidence: none; 'deploycost study methods' on your own texts would make some.")
    title = f"Methods to train {advice.base_model} within {bytes_text(advice.memory_budget_bytes)} ({advice.device})"
    return Grid(title, _OUTLOOK_COLUMNS, rows, (*notes, f"* the choice; {LEGEND}."))


def settings_text(outlook: MethodOutlook) -> str:
    """The settings it was judged with, as in `batch 8` or `batch 4, checkpointing`."""
    return f"batch {outlook.batch_size}" + (", checkpointing" if outlook.gradient_checkpointing else "")


def _facts_row(method: MethodFacts) -> tuple[str, ...]:
    cost, _, why = method.serving_cost.partition(": ")
    return (
        method.method,
        f"{method.bits} bits" if method.bits else "",
        method.summary,
        ", ".join(f"{flag} {value}".rstrip() for flag, value in method.flags.items()) or "no flags of its own",
        f"serving costs {'nothing more' if cost == 'none' else cost}" + (f" ({why})" if why else ""),
        str(method.batch_size),
        f"{method.learning_rate:g}",
        f"{method.trainable_parameters - method.head_parameters:,}",
        f"{method.head_parameters:,}",
        f"{method.predicted_memory.total / MIB:,.0f}",
    )


def _outlook_row(outlook: MethodOutlook, *, chosen: bool) -> tuple[str, ...]:
    return (
        outlook.slug + (" *" if chosen else ""),
        settings_text(outlook),
        marked(outlook.memory_bytes, 1 / MIB),
        interval(outlook.memory_bytes, 1 / MIB),
        yes_no(outlook.fits),
        _points(outlook.accuracy_drop),
        _points_interval(outlook.accuracy_drop),
        marked(outlook.training_speed_ratio),
        marked(outlook.serving_cost_ratio),
        outlook.accuracy_source.removeprefix(f"{outlook.slug} in ") if outlook.has_evidence else "none",
    )


def _points(figure: Figure) -> str:
    if figure.value is None:
        return UNKNOWN_MARK
    return f"{100 * figure.value:.2f} {marked(figure)[-1]}"


def _points_interval(figure: Figure) -> str:
    if figure.low is None or figure.high is None:
        return ""
    return f"{100 * figure.low:.2f} to {100 * figure.high:.2f}"
