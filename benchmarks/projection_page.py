"""The page of projection's errors, from the document that `benchmarks.projection` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_KINDS = {"gpu": "GPUs", "cpu": "CPUs", "accelerator": "Inferentia, Trainium"}
_WAYS = {
    "device": "a device that was never measured",
    "runtime": "a known device with a runtime that was not measured on it",
    "length": "a known device and runtime at a length, batch or model that was not measured",
}
_HALVES = {
    "device": _WAYS["device"],
    "known device": "a known device with a runtime, length, batch or model that was not measured",
}
_LEFT_OUT = {
    "device": "the device",
    "runtime": "the class of runtimes on the device",
    "source": "all of one source",
    "length": "one token length of a runtime on a device",
    "shape": "one model shape of a runtime on a device",
    "precision": "one precision of a runtime on a device, on so many cores",
}
_TARGETS = {"device": 0.35, "known device": 0.15, "runtime": 0.15, "length": 0.15}
_WORST = 8


def page(document: dict[str, Any]) -> str:
    """The page as Markdown."""
    parts = [
        "# What projections are worth",
        _opening(document),
        "## By what is new about a target",
        "First over all chips, as the target has it: a median of at most 35 % for a device that was never measured, "
        "and of at most 15 % within a known device in other runtimes or lengths. Then the same rows by kind of chip "
        "and by what was new. A row counts once for each way in which it was left out.",
        _kinds(document["by_half"], document["by_kind"]),
        "## By what was left out",
        "The same rows by the group that was taken away, under the shipped intervals. What is new about a row depends "
        "on what is left: a row without the only runtime of its device is of a device that was never measured.",
        _ways(document["by_way"]),
        "## By who measured",
        "Everything of one source left out at once, with its runtimes and often the only measurements of a device. "
        "This is the hardest of the four, and the nearest to a question that nobody in the evidence has asked.",
        _rows("source", document["by_source"]),
        "## The worst groups",
        "Devices left out:",
        _rows("device", document["by_device"][:_WORST]),
        "Runtimes left out on a device that others were measured on:",
        _rows("runtime", document["by_runtime"][:_WORST]),
        _here(document["here"]),
        _reading(),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _opening(document: dict[str, Any]) -> str:
    groups = document["groups"]
    return (
        "`deploycost project`, and `deploycost quote` for machines that nobody load-tested, predict the time of a "
        f"batch. Here that is held against the {document['observations']:,} measurements in the package "
        f"({document['settings']} settings, some by several metrics), each predicted with its whole group left out: "
        f"{groups['device']} devices, {groups['runtime']} pairs of device and runtime, one token length, shape or "
        "precision of such a pair, or all of one source.\n\n"
        "    python -m benchmarks.projection --page docs/results/projection.md\n\n"
        "The error of a row is |projected / measured - 1|. Its 90 % interval is as wide as all rows *outside its "
        "group* made it, so no row has a part in its own. The shipped interval takes all in. Groups are different sets "
        "of rows that were left out together; of fewer than five the worst one decides how wide an interval is."
    )


def _kinds(halves: Sequence[dict[str, Any]], kinds: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| new about the target | chips | rows | groups | median error | target | p90 error | in the 90 % interval | "
        "shipped |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    named = [(each, _HALVES[each["new"]], "all") for each in halves]
    named += [(each, _WAYS[each["new"]], _KINDS[each["kind"]]) for each in kinds]
    for each, new, chips in named:
        errors, shipped = each["other_groups"], each["shipped"]
        lines.append(
            f"| {new} | {chips} | {errors['rows']} | {each['groups']} | "
            f"{_percent(errors['median'])} | "
            f"{_percent(_TARGETS[each['new']], 0)} | {_percent(errors['p90'])} | {_percent(errors['covered'])} | "
            f"{_percent(shipped['covered'])} |"
        )
    return "\n".join(lines)


def _ways(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| left out | chips | rows | median error | p90 error | in the 90 % interval | rows of a device still known | "
        "their median error |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for each in rows:
        figures = " | ".join(_percent(each[column]) for column in ("median", "p90", "covered"))
        known = each["known_device"]
        rest = f"{known['rows']} | {_percent(known['median'])}" if known else "0 | -"
        lines.append(
            f"| {_LEFT_OUT[each['left_out']]} | {_KINDS[each['kind']]} | {each['rows']} | {figures} | {rest} |"
        )
    return "\n".join(lines)


def _rows(name: str, rows: Sequence[dict[str, Any]]) -> str:
    lines = [f"| {name} | rows | median error | p90 error | in the 90 % interval |", "|---|---:|---:|---:|---:|"]
    for each in rows:
        figures = " | ".join(_percent(each[column]) for column in ("median", "p90", "covered"))
        lines.append(f"| {each[name]} | {each['rows']} | {figures} |")
    return "\n".join(lines)


def _here(checks: Sequence[dict[str, Any]]) -> str:
    if not checks:
        return ""
    lines = [
        "## Predicted and measured on one machine",
        "Two cores of an AMD EPYC (family 26 model 2, Turin) in a virtual machine; reference encoders with random "
        "weights in ONNX Runtime, as the endpoint runs them. What is said to be known is all that was known of this "
        "machine; the published rows were known besides. A row during which other processes ran is timed again or left "
        "out; of those on two cores that leaves some shapes without.",
        "| known | asked | rows | median error | p90 error | in the 90 % interval |\n|---|---|---:|---:|---:|---:|",
    ]
    for check in checks:
        errors = check["errors"]
        figures = " | ".join(_percent(errors[column]) for column in ("median", "p90", "covered"))
        lines[-1] += f"\n| {check['known']} | {check['asked']} | {errors['rows']} | {figures} |"
    named = ("two cores", "DistilBERT's shape", "DistilBERT's shape on two cores", "the int8 artifact")
    table = [
        "| asked | model | precision | texts x tokens | cores | projected ms | 90 % interval | measured ms | error |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for check in checks:
        if check["asked"] not in named:
            continue
        for row in check["rows"]:
            error = row["projected_ms"] / row["measured_ms"] - 1
            table.append(
                f"| {check['asked']} | {row['model']} | {row['precision']} | {row['batch']} x {row['tokens']} | "
                f"{row['threads']} | {row['projected_ms']:.3g} | {row['low_ms']:.3g} to {row['high_ms']:.3g} | "
                f"{row['measured_ms']:.3g} | {100 * error:+.0f} % |"
            )
    return "\n\n".join([*lines, "Some of them row by row:", "\n".join(table)])


def _reading() -> str:
    return """## How to read this

- **Rows are not draws.** Nine rows in ten are of eight GPUs, and half of those of T4, A100 and V100. A device that is
  like none of them may be off by more than the table says; an interval of 90 % means that over such *rows* nine in ten
  were held, and a whole device can lie outside (see the worst groups).
- **What was tuned on these rows:** the 28 parameters of the Gaussian process were searched for on the score of what was
  left out (of the published rows), the costs per layer and two deviations (of runtime classes and names) then set by
  hand where errors were lower at nearly the same score. Three more are of CPUs, set to round figures by the same score
  over all rows: they keep up 0.9 of their peak, what is elementwise runs at a twelfth of it, and m cores do the work of
  m to the 0.9 on one request. So the errors are somewhat better than a stranger's. Widths of intervals come from the
  other groups only.
- **CPU rows are of OpenVINO**, int8 and fp32, whole sockets or one, but for what this project measured on one CPU. ONNX
  Runtime on other CPUs than that one rests on how OpenVINO's times differ between them.
- **The targets** are 35 % for a device never measured and 15 % within a device seen in other runtimes or lengths. Over
  all chips both are met. The second pools what is easy with what is hard: more than half of its rows are of another
  length, batch or model alone. By themselves, runtimes that were not measured on a known GPU are half a point over the
  target. GPUs and CPUs meet both over devices, lengths, shapes and precisions left out; where a whole class of runtimes
  or a whole source is left out, some groups do not (see the tables). Inferentia and Trainium miss the second: three
  chips, five tables, of which one contradicts itself.
- **A class of runtimes left out on CPUs:** more than half of these rows are of the one CPU that was measured here, in
  the one runtime it was measured with. Without it nothing is known of that CPU, nor of that runtime on any, so they are
  rows of a device that was never measured and miss the 15 % of one that was; those of a device still known are in the
  last two columns. What was tried and did not help: int8 artifacts that leave the products of attention in fp32 (the
  errors of lengths left out grew).
- **Two groups are no test:** of accelerators with a runtime that was not measured there are two tables of one chip, of
  different versions of its runtime, that differ by a factor of two where they should agree. An interval made from one
  as from many groups held half of the other. One alone now reaches as far as any row of a new accelerator needed, and
  the shipped one as far as the worse of the two, and in deviations no less far than where the runtime was measured.
- **CPU peaks are derived**: clock times operations per cycle times cores, most from memory of data sheets. A wrong
  clock is a wrong projection; the interval of a device that was never measured has met such mistakes.
- Left out of the evidence are rows that contradict their doubles by more than 10 % (one table of BERT-base fp32 on
  V100 is there twice, once with what looks like another model's times)."""


def _percent(ratio: float, digits: int = 1) -> str:
    return f"{100 * ratio:.{digits}f} %"
