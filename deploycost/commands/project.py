"""`deploycost project`: what a model would take on hardware that was not measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from deploycost.commands.options import Place
from deploycost.commands.options.flag import flag_name
from deploycost.commands.output import say, show, show_json, warn
from deploycost.errors import UserError
from deploycost.projecting.calibration import (
    calibrated_device,
    calibration_file,
    observations_of,
    read_calibration,
)
from deploycost.projecting.hardware import Device, devices, find_place
from deploycost.projecting.projection import Projector, Recorded
from deploycost.projecting.recorded import recorded_in
from deploycost.projecting.runtimes import find_runtime
from deploycost.projecting.table import Answer, answer_questions, answers_csv, read_questions, read_row
from deploycost.records import LoadRecord, Variant, read_record
from deploycost.units import milliseconds, rate
from deploycost.variants import variants_of
from deploycost.workspace import open_run, write_text

# What is asked where a flag is not given: the runtime and precision that this product's own bundles would use there.
_GPU_DEFAULTS = ("ONNX Runtime", "fp16")
_CPU_DEFAULTS = ("ONNX Runtime", "int8")
_LISTS_ALONE = "--list-hardware lists devices and asks nothing else: leave out all other flags but --json"


@Parameter(name="*")
@dataclass(frozen=True)
class Asked:
    """One question: what runs where."""

    hardware: Annotated[
        str | None, Parameter(help="Device or instance: T4, '2x Xeon Platinum 8380', c7i.large; here: calibrated.")
    ] = None
    model: Annotated[str, Parameter(help="Name, size such as 6L-768D, or a config.json.")] = "distilbert"
    tokens: Annotated[int, Parameter(help="Tokens of a text.")] = 64
    batch: Annotated[int, Parameter(help="Texts computed at once.")] = 1
    precision: Annotated[str | None, Parameter(help="fp32, tf32, fp16, bf16 or int8. Default: fp16, on CPUs int8.")] = (
        None
    )
    runtime: Annotated[str | None, Parameter(help="PyTorch, TensorRT, OpenVINO … Default: ONNX Runtime.")] = None
    threads: Annotated[
        int | None, Parameter(help="Cores of a CPU to use. Default: the instance's, else one socket.")
    ] = None
    metric: Annotated[str | None, Parameter(help="latency_p99, throughput … Default: the common ones.")] = None


def project(
    *,
    asked: Asked | None = None,
    table: Annotated[Path | None, Parameter(help="CSV of questions, in the columns of published measurements.")] = None,
    output: Annotated[Path | None, Parameter(help="Where to write the rows with their answers.")] = None,
    calibration: Annotated[
        Path | None, Parameter(help="File of 'deploycost calibrate' that 'here' means. Default: this machine's.")
    ] = None,
    record: Annotated[
        tuple[Path, ...],
        Parameter(
            help="load.json of 'deploycost loadtest' of a variant of the run, made on any machine: it joins the "
            "evidence, and decides where its very setting is asked."
        ),
    ] = (),
    place: Place | None = None,
    list_hardware: Annotated[bool, Parameter(negative="", help="List the devices that are known.")] = False,
    json: Annotated[bool, Parameter(negative="", help="Print one JSON document instead of tables.")] = False,
) -> int:
    """Project latency and throughput to hardware that was not measured, with 90 % intervals.

    Example: deploycost project --hardware T4 --model minilm --tokens 64 --batch 8

    Example: deploycost project --table questions.csv --output answers.csv

    Example: deploycost project --hardware c7i --model minilm --tokens 64 --record load.json --run demo
    """
    _refuse_unread(asked, table, output, list_hardware)
    if list_hardware and (record or calibration or place):
        raise UserError(_LISTS_ALONE)
    if list_hardware:
        return _list(json)
    here, projector = _known(calibration, record, place or Place())
    if table is not None:
        return _answer_file(projector, here, table, output, json)
    return _answer_one(projector, here, asked or Asked(), json)


def _known(calibration: Path | None, records: Sequence[Path], place: Place) -> tuple[Device | None, Projector]:
    """What `here` means, None where this machine was not calibrated, and all evidence, the user's own included."""
    if not records and place.run is not None:
        raise UserError("--run tells what a load record is of: give its load.json with --record")
    if calibration is None and not calibration_file().exists():
        return None, Projector(recorded=_recorded(records, place, None))
    found = read_calibration(calibration)
    here = calibrated_device(found)
    return here, Projector(own=tuple(observations_of(found)), recorded=_recorded(records, place, here))


def _recorded(paths: Sequence[Path], place: Place, here: Device | None) -> tuple[Recorded, ...]:
    records = [read_record(path, LoadRecord) for path in paths]
    # Of services no run knows anything.
    return recorded_in(records, _variants(place) if any(not each.url for each in records) else (), here)


def _variants(place: Place) -> list[Variant]:
    try:
        return variants_of(open_run(place.runs_dir, place.run))
    except UserError as error:
        raise UserError(
            "a load record does not tell what it computed, the run that its variant was built in does: name it by "
            f"--run and --runs-dir ({error})"
        ) from None


def _refuse_unread(asked: Asked | None, table: Path | None, output: Path | None, list_hardware: bool) -> None:
    """Refuses flags that would be passed over.

    Raises:
        UserError: one question and a file of them were asked, or nothing that could be written there.
    """
    given = [flag_name(each) for each in fields(Asked) if asked and getattr(asked, each.name) != each.default]
    one = ", ".join(given) or "--model and others"
    if list_hardware and (asked or table or output):
        raise UserError(_LISTS_ALONE)
    if table and asked:
        raise UserError(f"--table asks what its file holds: put {one} into its columns, or leave --table out")
    if output and not table:
        raise UserError(
            "--output takes the answers to a file of questions: give --table too, or leave it out for --json"
        )
    if output and output.is_dir():
        raise UserError(f"--output {output} is a folder: name the file to write")


def _answer_one(projector: Projector, here: Device | None, asked: Asked, json: bool) -> int:
    if asked.hardware is None:
        raise UserError(
            "nothing to project to; give --hardware T4, or --table FILE.csv with --output OUT.csv "
            "('deploycost project --list-hardware' lists the devices)"
        )
    cells = _cells(asked, here)
    runtime = find_runtime(cells["runtime"])
    usual = ["throughput"] if runtime and runtime.streams else ["latency_mean", "latency_p95", "throughput"]
    wanted = [asked.metric] if asked.metric else usual
    answers = answer_questions(projector, [read_row({**cells, "metric": each}, 1, here) for each in wanted])
    wrong = [each for each in answers if each.question.setting is None]
    if wrong:
        raise UserError(wrong[0].question.mistake)
    if json:
        show_json({"question": cells, "answers": [_as_json(each) for each in answers]})
    else:
        show(_answers_table(cells, answers))
        warn([answers[0].evidence])
    return 0 if all(each.is_known for each in answers) else 1


def _cells(asked: Asked, here: Device | None) -> dict[str, str]:
    name = asked.hardware or ""
    is_here = name.casefold() == "here"
    is_cpu = is_here or find_place(name).device.kind == "cpu"
    if not is_cpu and asked.threads is not None:
        raise UserError(f"--threads are of a CPU, and {name} is none: leave it out")
    usual_runtime, usual_precision = _CPU_DEFAULTS if is_cpu else _GPU_DEFAULTS
    return {
        "model": asked.model,
        "hardware": name,
        "precision": asked.precision or usual_precision,
        "runtime": asked.runtime or usual_runtime,
        "batch_size": str(asked.batch),
        "seq_len": str(asked.tokens),
        "threads": "" if asked.threads is None else str(asked.threads),
    }


def _answer_file(projector: Projector, here: Device | None, table: Path, output: Path | None, json: bool) -> int:
    if output is None:
        raise UserError("--table needs --output OUT.csv to write the answers to")
    answers = answer_questions(projector, read_questions(table, here))
    write_text(output, answers_csv(answers))
    unknown = [each for each in answers if not each.is_known]
    if json:
        show_json(
            {
                "output": str(output),
                "rows": len(answers),
                "answered": len(answers) - len(unknown),
                "unknown": [{"line": each.question.line, "reason": each.evidence} for each in unknown],
            }
        )
        return 0
    say(f"{len(answers) - len(unknown)} of {len(answers)} rows answered in {output}")
    warn([f"line {each.question.line}: {each.evidence}" for each in unknown])
    return 0


def _list(json: bool) -> int:
    known = devices()
    if json:
        show_json({"hardware": [{"name": name, "kind": each.kind} for name, each in known.items()]})
        return 0
    table = Table("device", "kind", "fp16/bf16 TFLOP/s", "int8 TOP/s", "GB/s", "cores")
    for name, each in known.items():
        cores = str(each.cores) if each.cores else ""
        rates = (f"{peak / 1e12:.3g}" for peak in (each.rate("fp16"), each.rate("int8")))
        table.add_row(name, each.kind, *rates, f"{each.bytes_per_s / 1e9:.4g}", cores)
    show(table)
    return 0


def _answers_table(cells: dict[str, str], answers: list[Answer]) -> Table:
    title = (
        f"{cells['model']}, {cells['batch_size']} x {cells['seq_len']} tokens, {cells['precision']}, "
        f"{cells['runtime']} on {cells['hardware']}"
    )
    table = Table("metric", "value", "90 % from", "to", "basis", title=title, title_justify="left")
    for each in answers:
        is_rate = each.question.metric == "throughput"
        write = rate if is_rate else milliseconds
        table.add_row(each.question.cells["metric"], write(each.value), write(each.low), write(each.high), each.basis)
    return table


def _as_json(answer: Answer) -> dict[str, object]:
    is_rate = answer.question.metric == "throughput"
    figure = {"value": answer.value, "low": answer.low, "high": answer.high, "basis": answer.basis}
    unit = "texts_per_s" if is_rate else "ms"
    return {"metric": answer.question.metric, unit: figure, "evidence": answer.evidence}
