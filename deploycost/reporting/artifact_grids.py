"""Tables about artifacts: what there is and what it takes, and what each did to the answers of one model."""

from __future__ import annotations

from collections.abc import Sequence

from deploycost.records import ExportRecord, ExportRefusal, Scores, Variant
from deploycost.reporting.grid import Column, Grid
from deploycost.reporting.wording import UNKNOWN_MARK, number, percent_number
from deploycost.units import MIB, percent
from deploycost.verdicts import ArtifactFacts

_FACT_COLUMNS = (
    Column("artifact", text=True),
    Column("engine", text=True),
    Column("precision", text=True, below=True),
    Column("what it is", text=True),
    Column("here"),
)
_FIDELITY_COLUMNS = (
    Column("variant", text=True),
    Column("accuracy %", "acc. %"),
    Column("F1 %", below=True),
    Column("points lost", "lost"),
    Column("interval", below=True),
    Column("agreement %", "agree %"),
    Column("parity error", "parity", below=True),
    Column("ECE %"),
    Column("size MiB", "MiB"),
    Column("shared MiB", "shared", below=True),
    Column("verdict", text=True),
)


# What is lost, besides one label of several that was right.
_LOST = "Of several labels: whole answers; of a number: points of explained variance (R2)."
_FLAGGED = "more than the limit seems to be given up, which chance may account for; more test rows would tell"
_DOUBTFUL_COLUMNS = (
    Column("variant", text=True),
    Column("verdict", text=True),
    Column("points lost", "lost"),
    Column("interval", below=True),
    Column("limit", below=True),
    Column("agreement %", "agree %"),
    Column("parity error", "parity", below=True),
    Column("why", text=True),
)


def facts(artifacts: Sequence[ArtifactFacts]) -> Grid:
    """Every artifact: its engine and precision, and whether this machine can build and serve it."""
    rows = tuple(
        (each.artifact, each.engine, each.precision, each.summary, "no" if each.missing else "yes")
        for each in artifacts
    )
    usual = ", ".join(each.artifact for each in artifacts if each.usual)
    fast = ", ".join(each.artifact for each in artifacts if each.fast)
    notes = (
        "here: whether this machine can build and serve it; --artifacts all takes those that it can.",
        *(f"{each.artifact}: {each.missing}." for each in artifacts if each.missing),
        f"Without --artifacts: {usual}. --artifacts fast: {fast}.",
    )
    return Grid("Artifacts", _FACT_COLUMNS, rows, notes)


def fidelity(variants: Sequence[Variant]) -> Grid:
    """What serving a model as each artifact did to its answers, on the whole test split."""
    notes = [
        "lost: accuracy of the trained model less the artifact's, in points, with its 95 % interval (paired rows). "
        + _LOST,
        "ECE: expected calibration error of the scores, 15 bins; shared: in files that another artifact holds too.",
        *dict.fromkeys(
            f"{each.export.artifact}: calibrated on {told}." for each in variants if (told := each.export.calibration)
        ),
        *(_trimmed(each) for each in variants if each.export.vocabulary is not None),
    ]
    return Grid(
        "Artifacts, judged by what they answer", _FIDELITY_COLUMNS, tuple(map(_fidelity_row, variants)), tuple(notes)
    )


def doubtful(variants: Sequence[Variant], refusals: Sequence[ExportRefusal]) -> Grid | None:
    """The artifacts that were refused, and those that are kept but flagged, with why; None where there are none."""
    flagged = [each for each in variants if (drop := each.export.accuracy_drop) is not None and drop.flagged]
    rows = (
        *(_doubtful_row(each.variant, "refused", each, _why(each)) for each in refusals),
        *(_doubtful_row(each.name, "flagged, kept", each.export, _FLAGGED) for each in flagged),
    )
    notes = (
        "lost: accuracy of the trained model less the artifact's on the same test rows, in points, with its 95 % "
        f"interval; limit: what --max-accuracy-drop allows. {_LOST}",
        "parity: RMS difference of logits from the trained model over their spread; agree: share of equal labels.",
    )
    return Grid("Artifacts refused or flagged", _DOUBTFUL_COLUMNS, rows, notes) if rows else None


def _doubtful_row(name: str, verdict: str, judged: ExportRefusal | ExportRecord, why: str) -> tuple[str, ...]:
    drop, parity = judged.accuracy_drop, judged.parity
    return (
        name,
        verdict,
        UNKNOWN_MARK if drop is None else f"{100 * drop.value:.2f}",
        "" if drop is None else f"{100 * drop.low:.2f} to {100 * drop.high:.2f}",
        "" if drop is None else f"{100 * drop.limit:g}",
        UNKNOWN_MARK if parity is None else percent_number(parity.agreement_ratio, 2),
        "" if parity is None else number(parity.relative_error, 2),
        why,
    )


def _why(refusal: ExportRefusal) -> str:
    """The line that was told, without the name that stands beside it."""
    return refusal.reason.removeprefix(f"refused {refusal.variant}: ")


def _fidelity_row(variant: Variant) -> tuple[str, ...]:
    export, drop = variant.export, variant.export.accuracy_drop
    lost, interval, verdict = UNKNOWN_MARK, "", "kept"
    if drop is not None:
        lost, interval = f"{100 * drop.value:.2f}", f"{100 * drop.low:.2f} to {100 * drop.high:.2f}"
        above = f"above {100 * drop.limit:g}"
        verdict = f"REFUSED NOW: {above}" if drop.refused else f"FLAGGED: {above}" if drop.flagged else "kept"
    return (
        variant.name,
        percent_number(export.accuracy, 2),
        percent_number(export.scores.macro_f1 if isinstance(export.scores, Scores) else None, 2),
        lost,
        interval,
        percent_number(export.parity.agreement_ratio, 2),
        number(export.parity.relative_error, 2),
        UNKNOWN_MARK if export.calibration_error is None else percent_number(export.calibration_error, 2),
        number(export.size_bytes / MIB),
        number(export.shared_bytes / MIB),
        verdict,
    )


def _trimmed(variant: Variant) -> str:
    trim = variant.export.vocabulary
    assert trim is not None, "asked for only where there is one"  # noqa: S101 - for the types
    told = (
        f"{variant.name}: {trim.tokens_kept:,} of {trim.tokens_before:,} tokens kept, {trim.saved_bytes / MIB:.0f} MiB "
        f"of embeddings saved; {trim.unseen_texts} test texts have words that are split otherwise"
    )
    if trim.unseen_accuracy is None or trim.unseen_trained_accuracy is None:
        return told + "."
    return (
        f"{told}: on these it is right for {percent(trim.unseen_accuracy)}, the trained model for "
        f"{percent(trim.unseen_trained_accuracy)}; texts have {percent(trim.mean_tokens_ratio - 1)} more tokens."
    )
