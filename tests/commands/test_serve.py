"""`deploycost serve` hands over to the endpoint with the endpoint's own options."""

from pathlib import Path

import pytest

from deploycost.commands import serve as command
from deploycost.commands.options import Place
from deploycost.commands.serve import Doors, Pressure, Sizes, serve
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
    assert program[1:3] == ["-m", "serving"]
    options = _parser().parse_args(program[3:])  # what the endpoint itself makes of them
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
    told = _parser().parse_args(started[0][3:])
    assert told == _parser().parse_args(["--bundle", str(told.bundle)])
