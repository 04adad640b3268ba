"""`deploycost serve` hands over to the endpoint with the endpoint's own options."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from deploycost.commands import serve as command
from deploycost.commands.options import Place
from deploycost.commands.serve import Doors, Pressure, Sizes, serve
from deploycost.records import LoadRecord, ServerSettings, write_record
from serving.__main__ import _parser


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder of runs with one run, which holds one finished variant."""
    artifact = tmp_path / "demo" / "full" / "onnx-int8"
    artifact.mkdir(parents=True)
    (artifact / "export.json").write_text("{}")
    (tmp_path / "demo" / "experiment.yaml").write_text("")
    return tmp_path


@pytest.mark.parametrize("doors", [None, Doors(tls_cert=Path("cert.pem"), tls_key=Path("key.pem"))])
def test_every_option_reaches_the_endpoint(runs: Path, monkeypatch: pytest.MonkeyPatch, doors: Doors | None) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(command, "_become", started.append)
    pressure = Pressure(workers=2, threads=3, max_batch=4, max_queue=90, batch_window_ms=1.5, deadline_ms=250)
    sizes = Sizes(max_texts=5, max_text_chars=60, max_body_bytes=700, max_connections=8)
    place = Place(runs_dir=runs, run="demo")
    assert serve("full.onnx-int8", place=place, port=0, pressure=pressure, sizes=sizes, doors=doors) == 0
    (program,) = started
    assert program[1:4] == ["-P", "-m", "serving"]
    options = _parser().parse_args(program[4:])  # what the endpoint itself makes of them
    assert options.bundle == runs / "demo" / "full" / "onnx-int8" / "bundle"
    assert (options.host, options.port, options.workers, options.threads) == ("127.0.0.1", 0, 2, 3)
    assert (options.max_batch, options.batch_window_ms, options.deadline_ms) == (4, 1.5, 250)
    assert (options.max_queue, options.max_texts, options.max_text_chars) == (90, 5, 60)
    assert (options.max_body_bytes, options.max_connections) == (700, 8)
    assert (options.tls_cert is None, options.api_key_file) == (doors is None, None)


def test_the_defaults_are_the_endpoints_own(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(command, "_become", started.append)
    serve("full.onnx-int8", place=Place(runs_dir=runs, run="demo"))
    told = _parser().parse_args(started[0][4:])
    assert told == _parser().parse_args(["--bundle", str(told.bundle)])


def test_a_folder_of_the_users_is_not_taken_for_the_endpoint(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "serving").mkdir()
    (tmp_path / "serving" / "__init__.py").write_text("raise SystemExit('not the endpoint')")
    command = [sys.executable, "-P", "-m", "deploycost", "serve", "full.onnx-int8", "--runs-dir", str(runs)]
    done = subprocess.run(
        [*command, "--run", "demo"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: no bundle at ")


def test_settings_that_a_load_test_chose_are_used_unless_told_otherwise(
    runs: Path, monkeypatch: pytest.MonkeyPatch, make_load: Callable[..., LoadRecord]
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(command, "_become", started.append)
    monkeypatch.setattr(command, "open_bundle", lambda _: SimpleNamespace(digest="d" * 64))
    chosen = ServerSettings(workers=2, max_batch=32, batch_window_ms=5)
    path, place = runs / "demo" / "full" / "onnx-int8" / "load.json", Place(runs_dir=runs, run="demo")

    def served(load: LoadRecord, *, tuned: bool = True, pressure: Pressure | None = None) -> tuple[int, int, float]:
        path.write_text(write_record(load), encoding="utf-8")
        serve("full.onnx-int8", place=place, pressure=pressure, tuned=tuned)
        told = _parser().parse_args(started[-1][4:])
        return told.workers, told.max_batch, told.batch_window_ms

    record = make_load(server=chosen, tuned=True)
    assert served(record) == (2, 32, 5)
    assert served(record, tuned=False) == (1, 8, 0)
    assert served(record, pressure=Pressure(max_batch=4)) == (2, 4, 5)
    assert served(record.model_copy(update={"tuned": False})) == (1, 8, 0)
    # Of an earlier bundle: nothing is known of this one.
    assert served(record.model_copy(update={"bundle_digest": "e" * 64})) == (1, 8, 0)
