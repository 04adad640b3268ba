"""The main job with real processes on a tiny encoder: `deploycost run`, killed and resumed, damaged and repaired."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

DEADLINE_S = 600  # four load tests, on a slow machine too
METHODS = ("full", "stacked")
SLUGS = ("full", "stacked-r8-p4")
VARIANTS = [f"{slug}.{artifact}" for slug in SLUGS for artifact in ("onnx-fp32", "onnx-int8")]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "deploycost", *arguments]


def call(place: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(*arguments), cwd=place, env=offline_environment(), capture_output=True, text=True,
        timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def offline_environment() -> dict[str, str]:
    return os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def run_arguments(model: Path, name: str = "tiny") -> list[str]:
    return [
        "run", "--run", name, "--model", str(model), "--dataset", "demo", "--method", ",".join(METHODS),
        "--train-rows", "64", "--test-rows", "40", "--epochs", "1", "--max-tokens", "48", "--virtual-tokens", "4",
        "--precision", "quick", "--max-accuracy-drop", "1", "--cloud", "aws-c7i,aws-g4dn",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tiny_bases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `deploycost run` went through."""
    place = tmp_path_factory.mktemp("finished")
    done = call(place, *run_arguments(tiny_bases["bert"]))
    assert "Deploy " in done.stdout
    return place


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be harmed."""
    shutil.copytree(finished / "runs", tmp_path / "runs")
    return tmp_path


def records(place: Path) -> dict[Path, int]:
    return {path.relative_to(place): path.stat().st_mtime_ns for path in (place / "runs").rglob("*.json")}


def test_a_run_leaves_every_record_and_the_report(finished: Path) -> None:
    run = finished / "runs" / "tiny"
    for slug in SLUGS:
        assert (run / slug / "tuning.json").is_file()
        for artifact in ("onnx-fp32", "onnx-int8"):
            for name in ("export.json", "load.json", "bundle/bundle.json", "bundle/model.onnx"):
                assert (run / slug / artifact / name).is_file()
    for name in ("experiment.yaml", "report.html", "report.md", "report.json"):
        assert (run / name).is_file()
    assert "says nothing about your task" in (run / "report.md").read_text(encoding="utf-8")


def test_load_record_has_the_documented_shape(finished: Path) -> None:
    record = json.loads((finished / "runs/tiny/full/onnx-int8/load.json").read_text(encoding="utf-8"))
    assert record["variant"] == "full.onnx-int8"
    assert record["slo"]["p95_ms"] == 100
    capacity = record["capacity_rps"]
    assert capacity["basis"] == "measured"
    assert capacity["value"] > 20  # a network of two layers of width 32
    assert capacity["low"] <= capacity["value"]
    for point in record["curve"]:
        assert {"rate_rps", "achieved_rps", "p50_ms", "p95_ms", "p99_ms", "errors", "requests"} <= set(point)
    memory = record["memory_bytes"]
    assert 10e6 < memory["idle"] <= memory["peak"]
    assert {"name", "ok", "value", "limit"} <= set(record["certificate"]["checks"][0])


def test_quote_answers_from_records_in_the_documented_shape(finished: Path) -> None:
    document = json.loads(call(finished, "quote", "--cloud", "aws-g4dn,aws-c7i", "--json").stdout)
    assert set(document) >= {"quotes", "traffic", "policy", "warnings"}
    by_machine = {(quote["variant"], quote["instance_type"]): quote for quote in document["quotes"]}
    cpu, gpu = by_machine["full.onnx-int8", "c7i.large"], by_machine["full.onnx-int8", "g4dn.xlarge"]
    assert cpu["capacity_rps"]["basis"] in ("assumed", "projected")
    assert gpu["capacity_rps"]["basis"] == "projected", "also where so small an encoder is like none that was measured"
    floor = 1e6 * cpu["usd_per_hour"] / (3600 * cpu["capacity_rps"]["value"])
    assert cpu["usd_per_million"]["floor"]["value"] == pytest.approx(floor)
    assert cpu["monthly_usd"]["value"] == pytest.approx(cpu["replicas"] * cpu["usd_per_hour"] * 730)
    assert cpu["price_source"]
    assert cpu["price_date"] == "2026-07-20"


def test_quote_loads_no_framework(finished: Path) -> None:
    program = "import sys; from deploycost.cli import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", program, "quote", "--cloud", "all"],
        cwd=finished, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "Quotes" in done.stdout
    loaded = set(done.stderr.split())
    assert not loaded & {"torch", "transformers", "onnxruntime", "matplotlib", "locust", "datasets", "sklearn"}


def test_a_record_from_a_rented_machine_makes_its_quote_measured(finished: Path, tmp_path: Path) -> None:
    record = json.loads((finished / "runs/tiny/full/onnx-int8/load.json").read_text(encoding="utf-8"))
    record["environment"]["instance_type"] = "g4dn.xlarge"
    record["capacity_rps"] = {"value": 500.0, "low": 490.0, "high": 510.0, "basis": "measured"}
    path = tmp_path / "load.json"
    path.write_text(json.dumps(record), encoding="utf-8")
    document = json.loads(call(finished, "quote", "--cloud", "aws-g4dn.xlarge", "--record", str(path), "--json").stdout)
    (quote,) = (each for each in document["quotes"] if each["variant"] == "full.onnx-int8")
    assert quote["capacity_rps"] == {"value": 500.0, "low": 490.0, "high": 510.0, "basis": "measured"}


def test_a_second_run_repeats_nothing(copied: Path, tiny_bases: dict[str, Path]) -> None:
    before = records(copied)
    told = call(copied, *run_arguments(tiny_bases["bert"])).stderr
    after = records(copied)
    changed = {path for path in before if before[path] != after.get(path)}
    assert {path.name for path in changed} <= {"report.json"}
    assert told.count("kept") == len(SLUGS) + len(VARIANTS)


def test_report_is_rebuilt_from_records_with_the_prices_of_then(copied: Path) -> None:
    run = copied / "runs" / "tiny"
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    for name in ("report.html", "report.md", "report.json"):
        (run / name).unlink()
    for sheet in (run / "quotes").glob("*.json"):
        pinned = json.loads(sheet.read_text(encoding="utf-8"))
        for quote in pinned["quotes"]:
            quote["price_date"] = "2020-02-02"
        sheet.write_text(json.dumps(pinned), encoding="utf-8")
    call(copied, "report")
    again = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert {quote["price_date"] for quote in again["sheet"]["quotes"]} == {"2020-02-02"}
    assert again["variants"] == report["variants"]


def test_a_changed_byte_is_refused_by_the_load_test_and_mended_by_build(
    copied: Path, tiny_bases: dict[str, Path]
) -> None:
    model = copied / "runs/tiny/full/onnx-int8/bundle/model.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    done = call(copied, "loadtest", "full.onnx-int8", "--again", code=2)
    assert "model.onnx" in done.stderr.splitlines()[-1]
    build = ["build", *run_arguments(tiny_bases["bert"])[1:-6]]
    told = call(copied, *build).stderr
    assert "full: onnx-int8" in told
    assert "stacked-r8-p4: done before, kept" in told


def test_conditions_of_a_run_cannot_change_under_it(copied: Path, tiny_bases: dict[str, Path]) -> None:
    before = records(copied)
    done = call(copied, "build", "--run", "tiny", "--epochs", "2", code=2)
    assert "training.epochs was 1, now 2" in done.stderr
    assert records(copied) == before


def test_unknown_variant_names_the_nearest(copied: Path) -> None:
    done = call(copied, "loadtest", "ful.onnx-int8", code=2)
    assert "did you mean 'full.onnx-int8'?" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_objective_that_nothing_meets_is_exit_code_1(copied: Path) -> None:
    done = call(copied, "loadtest", "full.onnx-int8", "--slo-p95", "0.05", code=1)
    assert "--slo-p95" in done.stderr.splitlines()[-1]
    call(copied, "recommend", code=1)


def test_a_run_that_was_only_trained_is_reported_as_far_as_it_went(copied: Path) -> None:
    run = copied / "runs" / "tiny"
    for slug in SLUGS:
        for artifact in ("onnx-fp32", "onnx-int8"):
            shutil.rmtree(run / slug / artifact)
    done = call(copied, "report")
    assert "deploycost build --run tiny --artifacts all" in " ".join(done.stdout.replace("│", " ").split())
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert [each["slug"] for each in report["unexported"]] == list(SLUGS)
    page = (run / "report.md").read_text(encoding="utf-8")
    assert "## Training" in page
    assert "## What it costs" not in page


def test_two_runs_on_one_folder_at_once(copied: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys, time\nfrom pathlib import Path\nfrom deploycost.workspace import Run\n"
         "with Run(Path(sys.argv[1])).locked():\n    print('held', flush=True)\n    time.sleep(60)", "runs/tiny"],
        cwd=copied, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        done = call(copied, "report", code=2)
        assert "in use by another deploycost process" in done.stderr
        assert done.stderr.count("\n") == 1
    finally:
        holder.kill()
        holder.wait()


@pytest.fixture
def started() -> Iterator[Callable[[Path, list[str]], subprocess.Popen[str]]]:
    """Starts `deploycost` in a session of its own; whatever is left at the end is killed."""
    children = []

    def start(place: Path, arguments: list[str]) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            command(*arguments), cwd=place, env=offline_environment(), stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        children.append(child)
        return child

    yield start
    for child in children:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def await_path(path: Path, child: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not path.exists():
        assert child.poll() is None, child.stderr.read() if child.stderr else ""
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


def await_end(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert not alive, f"left running: {alive}"


def test_a_run_killed_at_any_stage_goes_on(
    tiny_bases: dict[str, Path], tmp_path: Path, started: Callable[[Path, list[str]], subprocess.Popen[str]]
) -> None:
    arguments = [*run_arguments(tiny_bases["bert"], "killed"), "--artifacts", "onnx-int8"]
    run = tmp_path / "runs" / "killed"
    kept: dict[Path, int] = {}
    stages = ("full/tuning.json", "full/onnx-int8/export.json", "stacked-r8-p4/tuning.json", "full/onnx-int8/load.json")
    for stage in stages:
        child = started(tmp_path, arguments)
        await_path(run / stage, child)
        family = psutil.Process(child.pid).children(recursive=True)
        child.kill()
        child.wait()
        await_end(family)
        now = records(tmp_path)
        assert all(now[path] == written for path, written in kept.items()), "a finished stage was repeated"
        kept = now
    call(tmp_path, *arguments)
    now = records(tmp_path)
    assert all(now[path] == written for path, written in kept.items()), "a finished stage was repeated"
    assert not list(run.rglob(".unfinished-*"))
    assert (run / "report.html").is_file()


def test_ctrl_c_leaves_no_process_and_no_half_record(
    copied: Path, started: Callable[[Path, list[str]], subprocess.Popen[str]]
) -> None:
    before = records(copied)
    child = started(copied, ["loadtest", "full.onnx-int8", "--again", "--precision", "normal"])
    assert child.stderr is not None
    told = [child.stderr.readline(), child.stderr.readline()]
    family = psutil.Process(child.pid).children(recursive=True)
    assert family, "the endpoint and the client run"
    os.killpg(child.pid, signal.SIGINT)
    rest = child.stderr.read()
    assert child.wait(30) == 130, told
    assert "Traceback" not in rest
    assert "interrupted" in rest
    await_end(family)
    left = records(copied)
    failure = Path("runs/tiny/full/onnx-int8/load-failure.json")
    assert left.pop(failure), "what happened is kept"
    assert left == before
    assert "interrupted" in (copied / failure).read_text()
