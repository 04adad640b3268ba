"""`deploycost serve` hands over to the endpoint with the endpoint's own options."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from deploycost.commands import serve as command
from deploycost.commands.options import Place
from deploycost.commands.serve import Doors, Pressure, serve
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
    pressure = Pressure(workers=2, threads=3, max_batch=4, batch_window_ms=1.5, deadline_ms=250)
    place = Place(runs_dir=runs, run="demo")
    assert serve("full.onnx-int8", place=place, port=0, pressure=pressure, doors=doors) == 0
    (program,) = started
    assert program[1:3] == ["-m", "serving"]
    options = _parser().parse_args(program[3:])  # what the endpoint itself makes of them
    assert options.bundle == runs / "demo" / "full" / "onnx-int8" / "bundle"
    assert (options.host, options.port, options.workers, options.threads) == ("127.0.0.1", 0, 2, 3)
    assert (options.max_batch, options.batch_window_ms, options.deadline_ms) == (4, 1.5, 250)
    assert (options.tls_cert is None, options.api_key_file) == (doors is None, None)


def test_the_defaults_are_the_endpoints_own(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(command, "_become", started.append)
    serve("full.onnx-int8", place=Place(runs_dir=runs, run="demo"))
    told = _parser().parse_args(started[0][3:])
    assert told == _parser().parse_args(["--bundle", str(told.bundle)])


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
        told = _parser().parse_args(started[-1][3:])
        return told.workers, told.max_batch, told.batch_window_ms

    record = make_load(server=chosen, tuned=True)
    assert served(record) == (2, 32, 5)
    assert served(record, tuned=False) == (1, 8, 0)
    assert served(record, pressure=Pressure(max_batch=4)) == (2, 4, 5)
    assert served(record.model_copy(update={"tuned": False})) == (1, 8, 0)
    # Of an earlier bundle: nothing is known of this one.
    assert served(record.model_copy(update={"bundle_digest": "e" * 64})) == (1, 8, 0)
