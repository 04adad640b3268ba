import hashlib
import json
import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from serving.bundle import Bundle, EngineName, Manifest, bundle_digest, open_bundle, seal_bundle
from serving.classifier import Classifier
from serving.engines import ENGINES
from serving.errors import BundleError


def edit(bundle: Bundle, **changes: object) -> None:
    """Change fields of a manifest on disk, as somebody with an editor would."""
    path = bundle.folder / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def json_files(bundle: Bundle) -> dict[str, object]:
    """The seals of a manifest on disk."""
    return json.loads((bundle.folder / "bundle.json").read_text())["files"]


def test_what_was_sealed_is_what_is_opened(bundle: Bundle) -> None:
    assert open_bundle(bundle.folder) == bundle
    assert bundle.model_path == bundle.folder / "model.onnx"
    assert bundle.tokenizer_path == bundle.folder / "tokenizer.json"
    assert bundle.digest == hashlib.sha256((bundle.folder / "bundle.json").read_bytes()).hexdigest()
    assert bundle.digest == bundle_digest(bundle.folder)
    assert bundle.manifest.provenance == {"method": "by hand"}
    assert set(bundle.manifest.files) == {"model.onnx", "tokenizer.json"}
    sizes = [(bundle.folder / name).stat().st_size for name in bundle.manifest.files]
    assert bundle.size_bytes == sum(sizes)
    model = bundle.manifest.files["model.onnx"]
    assert model.sha256 == hashlib.sha256(bundle.model_path.read_bytes()).hexdigest()


def test_sealing_covers_every_file_that_lies_in_the_folder(bundle: Bundle, manifest: Callable[..., Manifest]) -> None:
    (bundle.folder / "model.onnx.data").write_bytes(b"weights")
    assert seal_bundle(bundle.folder, manifest()).manifest.files["model.onnx.data"].size_bytes == 7
    (bundle.folder / "model.onnx.data").write_bytes(b"Weights")
    with pytest.raises(BundleError, match=r"model\.onnx\.data was changed"):
        open_bundle(bundle.folder)


@pytest.mark.parametrize("name", ["model.bin", ".hidden", "below/weights"])
def test_a_file_that_nobody_sealed(bundle: Bundle, name: str) -> None:
    (bundle.folder / "below").mkdir()
    assert open_bundle(bundle.folder) == bundle
    (bundle.folder / name).write_bytes(b"weights")
    entry = re.escape(name.partition("/")[0])
    with pytest.raises(
        BundleError, match=rf"cannot be trusted: {entry} lies in it and is not sealed in files; move that out"
    ):
        open_bundle(bundle.folder)


@pytest.fixture
def apart(bundle: Bundle) -> Bundle:
    """A bundle whose model keeps its weights in `model.bin`."""
    import onnx

    model = onnx.load(str(bundle.model_path))
    onnx.save(model, str(bundle.model_path), save_as_external_data=True, location="model.bin", size_threshold=50)
    return seal_bundle(bundle.folder, bundle.manifest)


def test_weights_taken_out_of_the_manifest(apart: Bundle) -> None:
    """An engine reads a graph's weights from the file that the graph names, whoever vouches for it."""
    assert Classifier(apart.folder).predict(["red"])
    edit(apart, files={name: seal for name, seal in json_files(apart).items() if name != "model.bin"})
    with pytest.raises(BundleError, match=r"model\.bin lies in it and is not sealed"):
        Classifier(apart.folder)


def test_weights_outside_the_folder_are_not_followed(apart: Bundle) -> None:
    import onnx

    (apart.folder / "model.bin").rename(apart.folder.parent / "model.bin")
    model = onnx.load(str(apart.model_path), load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../model.bin"
    apart.model_path.write_bytes(model.SerializeToString())
    seal_bundle(apart.folder, apart.manifest)
    with pytest.raises(BundleError, match=r"onnxruntime cannot load .*\.\./model\.bin"):
        Classifier(apart.folder)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"there is no such folder; build one with `deploycost build`"):
        open_bundle(tmp_path / "nowhere")


def test_a_file_instead_of_a_folder(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="expected a folder"):
        open_bundle(bundle.model_path)


@pytest.mark.parametrize("name", ["a" * 300, "loop"])
def test_a_name_that_cannot_be_one(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for read in (open_bundle, bundle_digest):
        with pytest.raises(BundleError, match=r"cannot be read: (File name too long|Too many levels)"):
            read(tmp_path / name)


def test_half_written(bundle: Bundle) -> None:
    (bundle.folder / "bundle.json").unlink()
    with pytest.raises(BundleError, match=r"half-written .* has no bundle\.json; rebuild it with `deploycost build`"):
        open_bundle(bundle.folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"variant": "x"}', b'{"format_version": "1"}'])
def test_a_manifest_that_is_no_manifest(bundle: Bundle, content: bytes) -> None:
    (bundle.folder / "bundle.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"is not a valid manifest: .*rebuild"):
        open_bundle(bundle.folder)


def test_a_newer_format_is_named_although_its_fields_are_unknown(bundle: Bundle) -> None:
    edit(bundle, format_version=2, shards=4)
    with pytest.raises(BundleError, match="has format 2, expected 1; upgrade"):
        open_bundle(bundle.folder)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"labels": []}, "labels: expected at least 2, got 0"),
        ({"labels": ["red"]}, "labels: expected at least 2, got 1"),
        ({"labels": ["red", "blue", "red"]}, "labels: one is listed twice"),
        ({"labels": ["red", ""]}, r"length >= 1 - at `\$\.labels"),
        ({"precision": "fp8"}, r"Invalid enum value 'fp8' - at `\$\.precision`"),
        ({"engine": "abacus"}, r"Invalid enum value 'abacus' - at `\$\.engine`"),
        ({"max_tokens": 0}, r"at `\$\.max_tokens`"),
        ({"pad_token_id": -1}, r"at `\$\.pad_token_id`"),
        ({"extra": 1}, "unknown field `extra`"),
        ({"files": {}}, r"model\.onnx is named but not sealed in files; tokenizer\.json is named"),
        ({"model_file": "other.onnx"}, r"other\.onnx is named but not sealed"),
    ],
)
def test_a_manifest_that_contradicts_itself(bundle: Bundle, changes: dict[str, object], complaint: str) -> None:
    edit(bundle, **changes)
    with pytest.raises(BundleError, match=complaint) as caught:
        open_bundle(bundle.folder)
    assert "\n" not in str(caught.value)
    assert "`deploycost build`" in str(caught.value)


@pytest.mark.parametrize("name", ["../tokenizer.json", "/etc/hostname", "a/b", "a\\b", "..", "C:x", ""])
def test_a_name_that_escapes_the_folder(bundle: Bundle, name: str) -> None:
    seal = {"sha256": "0" * 64, "size_bytes": 1}
    files = json.loads((bundle.folder / "bundle.json").read_text())["files"]
    edit(bundle, files=files | {name: seal})
    with pytest.raises(BundleError, match=re.escape(f"{name!r} escapes the folder")):
        open_bundle(bundle.folder)


def test_a_link_that_escapes_the_folder(bundle: Bundle, tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere.onnx"
    bundle.model_path.rename(outside)
    bundle.model_path.symlink_to(outside)
    with pytest.raises(BundleError, match=r"'model\.onnx' escapes the folder"):
        open_bundle(bundle.folder)


@pytest.mark.parametrize("position", [0, 100, -1])
def test_one_changed_byte(bundle: Bundle, position: int) -> None:
    content = bytearray(bundle.model_path.read_bytes())
    content[position] ^= 1
    bundle.model_path.write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.onnx was changed since it was sealed .*; rebuild"):
        open_bundle(bundle.folder)


def test_all_problems_of_the_files_at_once(bundle: Bundle) -> None:
    bundle.model_path.write_bytes(b"")
    bundle.tokenizer_path.unlink()
    with pytest.raises(BundleError, match=r"model\.onnx was changed .*; tokenizer\.json is missing; rebuild"):
        open_bundle(bundle.folder)


def test_sealing_refuses_what_could_not_be_opened(
    bundle: Bundle, manifest: Callable[..., Manifest], tmp_path: Path
) -> None:
    before = (bundle.folder / "bundle.json").read_bytes()
    with pytest.raises(BundleError, match="labels: expected at least 2"):
        seal_bundle(bundle.folder, manifest(labels=()))
    with pytest.raises(BundleError, match="fp8"):
        seal_bundle(bundle.folder, manifest(precision="fp8"))
    with pytest.raises(BundleError, match=r"other\.onnx is named but not sealed"):
        seal_bundle(bundle.folder, manifest(model_file="other.onnx"))
    (bundle.folder / "extra").mkdir()
    with pytest.raises(BundleError, match="extra is not a plain file"):
        seal_bundle(bundle.folder, manifest())
    with pytest.raises(BundleError, match="No such file"):
        seal_bundle(tmp_path / "nowhere", manifest())
    assert (bundle.folder / "bundle.json").read_bytes() == before


def test_a_full_disk_leaves_the_earlier_manifest(bundle: Bundle, manifest: Callable[..., Manifest]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))  # bytes that a file may hold
    try:
        with pytest.raises(BundleError, match=r"cannot seal .*: File too large; make room") as caught:
            seal_bundle(bundle.folder, manifest(variant="other"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert open_bundle(bundle.folder) == bundle
    assert sorted(path.name for path in bundle.folder.iterdir()) == ["bundle.json", "model.onnx", "tokenizer.json"]


def test_every_engine_of_the_format_can_be_loaded() -> None:
    assert set(get_args(EngineName)) == set(ENGINES)
