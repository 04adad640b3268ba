"""What the benchmark of artifacts found, as tables for people: against its targets, on the terminal and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.console import Console

from benchmarks.artifact_rounds import LENGTHS, Measured, cost_ratio, operations
from benchmarks.artifact_subject import BASELINE, Subjects
from benchmarks.medians import with_interval
from benchmarks.serving_report import Section, Verdict
from deploycost.exporting.artifacts import ARTIFACTS
from deploycost.units import MIB, percent

MOST_COST_RATIO = 0.15
MOST_MEMORY_RATIO = 1 / 3
MOST_POINTS_LOST = 0.01
_UNKNOWN = "?"
# In which precision an artifact multiplies, where it is not that of its name.
_MULTIPLIES_IN = {"nf4": "bf16"}


@dataclass(frozen=True)
class Findings:
    """All that was measured; `peaks` are operations per second of a core in each precision."""

    subjects: Subjects
    measured: list[Measured]
    peaks: dict[str, float]
    mean_tokens: float

    @property
    def present(self) -> list[Measured]:
        """Those that ran."""
        return [one for one in self.measured if not one.failure]

    @property
    def baseline(self) -> Measured:
        """What the others are held against."""
        return next(one for one in self.measured if one.name == BASELINE)

    def accuracy(self, name: str) -> float | None:
        """Of the artifact on the whole test split, where it was judged."""
        record = next(subject.record for subject in self.subjects.artifacts if subject.name == name)
        return None if record is None else record.scores.accuracy

    def share_of_peak(self, one: Measured, tokens: int) -> float | None:
        """Of the arithmetic that a core can do in the artifact's precision, one text of so many tokens at a time."""
        precision = ARTIFACTS[one.name].precision  # pyright: ignore[reportArgumentType] - a name of the table
        peak = self.peaks.get(_MULTIPLIES_IN.get(precision, precision))
        return operations(self.subjects.shape, tokens) * median(one.by_length[tokens]) / peak if peak else None


def verdicts(found: Findings) -> list[Verdict]:
    """Every target beside what was measured."""
    base = found.baseline
    told = []
    candidates = [one for one in found.present if one.name != BASELINE and _is_accurate(found, one)]
    if candidates:
        best = min(candidates, key=lambda one: cost_ratio(one, base, batched=False)["value"] or 0)
        ratio = cost_ratio(best, base, batched=False)
        claim = f"cost per prediction of the best artifact ({best.name}) over {BASELINE}'s, one by one"
        met = (ratio["value"] or 1) <= MOST_COST_RATIO
        told.append(Verdict(claim, f"<= {MOST_COST_RATIO:g}", with_interval(ratio), met))
    int8 = next((one for one in found.present if one.name == "onnx-int8"), None)
    if int8 is not None:
        ratio = int8.memory_bytes / base.memory_bytes
        claim = f"memory of onnx-int8 over {BASELINE}'s"
        told.append(Verdict(claim, "<= 1/3", f"{ratio:.2f}", ratio <= MOST_MEMORY_RATIO))
    return told


def sections(found: Findings) -> list[Section]:
    """All tables, the verdicts first."""
    return [_verdict_section(found), _cost_section(found), _length_section(found)]


def show(found: Findings, console: Console) -> None:
    """Print all tables."""
    for section in sections(found):
        console.print(section.as_table())


def page(found: Findings, told: dict[str, Any]) -> str:
    """All tables as a page in Markdown; `told` is the benchmark's line of JSON."""
    machine, settings = told["machine"], told["settings"]
    head = (
        "# What each artifact costs on one core",
        f"Written by `python -m benchmarks.artifacts --page FILE` on {told['at'][:10]}, with texts of "
        f"`{settings['dataset']}`: {found.subjects.description}. [How it is measured](../../benchmarks/README.md).",
        f"{machine['cpu_model']}, one of {machine['cpu_cores']} cores. Load average before: {told['load_before']:.1f}. "
        f"{_versions(machine)}Python {machine['python']}. {settings['rounds']} rounds of {settings['texts']} texts of "
        f"{found.mean_tokens:.1f} tokens in the mean. A ratio is the median over the rounds, in brackets its 95 % "
        "interval (order statistics, from 6 rounds on).",
    )
    return "\n\n".join((*head, *(section.as_markdown() for section in sections(found)))) + "\n"


def _versions(machine: dict[str, Any]) -> str:
    return "".join(f"{name} {version}, " for name, version in machine["packages"].items() if name != "locust")


def _is_accurate(found: Findings, one: Measured) -> bool:
    """Whether an artifact is within a point of the baseline; of a shape without a model all are, as none was judged."""
    accuracy, base = found.accuracy(one.name), found.accuracy(BASELINE)
    return accuracy is None or base is None or accuracy >= base - MOST_POINTS_LOST


def _verdict_section(found: Findings) -> Section:
    rows = [(each.claim, each.target, each.value, "met" if each.met else "missed") for each in verdicts(found)]
    return Section("Targets", ("what", "target", "measured", "verdict"), rows)


def _cost_section(found: Findings) -> Section:
    base, rows = found.baseline, []
    for one in found.present:
        accuracy = found.accuracy(one.name)
        subject = next(subject for subject in found.subjects.artifacts if subject.name == one.name)
        rows.append(
            (
                one.name,
                _UNKNOWN if accuracy is None else percent(accuracy, 2),
                f"{median(one.one_by_one):.0f}",
                with_interval(cost_ratio(one, base, batched=False)),
                f"{median(one.batched):.0f} ({one.best_batch})",
                with_interval(cost_ratio(one, base, batched=True)),
                f"{one.memory_bytes / MIB:.0f}",
                f"{one.memory_bytes / base.memory_bytes:.2f}",
                f"{subject.size_bytes / MIB:.0f}",
            )
        )
    notes = (
        f"cost: time per prediction over {BASELINE}'s, tokenising included; one by one, and each in its best batch. "
        "memory: PSS of a process that serves it, alone, after all texts; size: of the bundle's files.",
        *(f"{one.name} was left out: {one.failure}" for one in found.measured if one.failure),
    )
    columns = (
        "artifact", "accuracy", "texts/s, one by one", "cost", "texts/s, best batch", "cost at best batch",
        "memory MiB", "memory ratio", "size MiB",
    )  # fmt: skip
    return Section("On the real distribution of lengths", columns, rows, notes)


def _length_section(found: Findings) -> Section:
    rows = []
    for one in found.present:
        rates = [f"{median(one.by_length[tokens]):.0f}" for tokens in LENGTHS]
        shares = [found.share_of_peak(one, tokens) for tokens in (LENGTHS[0], LENGTHS[-1])]
        rows.append((one.name, *rates, *(_UNKNOWN if share is None else percent(share, 0) for share in shares)))
    peaks = ", ".join(f"{name} {rate / 1e9:.0f} GOP/s" for name, rate in found.peaks.items())
    notes = (
        f"Share of peak: operations of the encoder's matrices and attention over what one core reached in square "
        f"products of 1024 in the precision that the artifact multiplies in, measured beside it: {peaks}. nf4 is "
        "multiplied in bf16. Operations are those of the encoder as it was trained, though graphs of onnx and openvino "
        "leave out what of the last layer nobody reads.",
    )
    columns = (
        "artifact", *(f"texts/s of {tokens} tokens" for tokens in LENGTHS),
        *(f"of peak at {tokens}" for tokens in _ends(LENGTHS)),
    )  # fmt: skip
    return Section("By length, one text at a time, without tokenising", columns, rows, notes)


def _ends(lengths: Sequence[int]) -> tuple[int, int]:
    return lengths[0], lengths[-1]
