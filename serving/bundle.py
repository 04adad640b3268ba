"""The bundle on disk: a folder with a model, its tokenizer, and a manifest that seals both.

The endpoint reads bundles, so the endpoint owns the format; whoever builds a bundle calls `seal_bundle`. The manifest
is written last and atomically: a folder with a `bundle.json` is complete, and every byte in it is accounted for.
"""

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from serving.errors import BundleError

FORMAT_VERSION: Final = 1
MANIFEST_FILE: Final = "bundle.json"
_UNSEALED_FILE: Final = ".bundle.json.tmp"
_REBUILD: Final = "rebuild it with `deploycost build`"

EngineName = Literal["onnxruntime", "openvino", "torch"]
DeviceName = Literal["cpu", "cuda"]
Precision = Literal["fp32", "bf16", "fp16", "int8", "nf4"]
# One label of several (softmax), each label for itself (sigmoid), or one number.
Task = Literal["single-label", "multi-label", "regression"]
_Name = Annotated[str, msgspec.Meta(min_length=1)]
# Of each task, the fewest and the most labels; None is any number.
_LABELS_OF: Final[dict[Task, tuple[int, int | None]]] = {
    "single-label": (2, None),
    "multi-label": (1, None),
    "regression": (1, 1),
}


class FileSeal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a file of the bundle must look like: SHA-256 in lower-case hex, and its size."""

    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    size_bytes: Annotated[int, msgspec.Meta(ge=0)]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`bundle.json`: all that the endpoint has to know of a model.

    `labels` stand in the order of the model's outputs; that of a regression is the name of its number. `threshold` is
    the score from which a label is given, where each is judged for itself; None otherwise. `max_tokens` is the longest
    sequence fed to the model, special tokens included. `provenance` is free text for people (base model, method, data
    set). `files` is filled by `seal_bundle`.
    """

    format_version: int = FORMAT_VERSION
    variant: _Name
    task: Task = "single-label"
    labels: tuple[_Name, ...]
    threshold: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None
    engine: EngineName
    precision: Precision
    model_file: _Name = "model.onnx"
    tokenizer_file: _Name = "tokenizer.json"
    max_tokens: Annotated[int, msgspec.Meta(ge=1)]
    pad_token_id: Annotated[int, msgspec.Meta(ge=0)]
    token_buckets: tuple[Annotated[int, msgspec.Meta(ge=1)], ...] = ()
    device: DeviceName = "cpu"
    provenance: dict[str, str] = {}
    files: dict[str, FileSeal] = {}


class _Header(msgspec.Struct):
    """The one field that every format has, read first so that a newer format is named and not half-read."""

    format_version: int


@dataclass(frozen=True, slots=True)
class Bundle:
    """A sealed and verified bundle. `digest` is the SHA-256 of its `bundle.json`, and so names all of its bytes."""

    folder: Path
    manifest: Manifest
    digest: str

    @property
    def model_path(self) -> Path:
        """Where the model file lies."""
        return self.folder / self.manifest.model_file

    @property
    def tokenizer_path(self) -> Path:
        """Where the tokenizer file lies."""
        return self.folder / self.manifest.tokenizer_file

    @property
    def size_bytes(self) -> int:
        """Bytes of all sealed files together, the manifest itself not counted."""
        return sum(seal.size_bytes for seal in self.manifest.files.values())


def seal_bundle(folder: Path, manifest: Manifest) -> Bundle:
    """Hash every file that lies in `folder` and write `bundle.json` last; returns the sealed bundle.

    `manifest.files` and `manifest.format_version` are set here, whatever they held. Raises `BundleError` where the
    manifest contradicts itself, a file that it names is missing, the folder holds something that is not a plain file,
    or the disk refuses.
    """
    try:
        entries = sorted(path for path in folder.iterdir() if path.name not in (MANIFEST_FILE, _UNSEALED_FILE))
        strangers = [path.name for path in entries if path.is_symlink() or not path.is_file()]
        if strangers:
            raise BundleError(f"cannot seal {folder}: {', '.join(strangers)} is not a plain file; move it out")
        files = {path.name: _seal_file(path) for path in entries}
        sealed = msgspec.structs.replace(manifest, files=files, format_version=FORMAT_VERSION)
        content = msgspec.json.format(msgspec.json.encode(sealed), indent=2) + b"\n"
        problems = _contradictions(_decode(content))
        if problems:
            raise BundleError(f"cannot seal {folder}: {'; '.join(problems)}")
        _write_manifest(folder, content)
    except msgspec.ValidationError as error:
        raise BundleError(f"cannot seal {folder}: {error}") from None
    except OSError as error:
        raise BundleError(f"cannot seal {folder}: {error.strerror}; make room or access, then build again") from None
    return Bundle(folder=folder, manifest=sealed, digest=hashlib.sha256(content).hexdigest())


def open_bundle(folder: Path) -> Bundle:
    """Read `bundle.json` in `folder` and verify every byte that it vouches for; returns the verified bundle.

    Raises `BundleError`, one line with all problems of the files at once: no folder, no manifest (half-written), a
    manifest that is malformed or of a newer format, a file that is missing, changed, outside the folder, or beside the
    sealed ones.
    """
    content = _manifest_bytes(folder)
    manifest = _read_manifest(folder, content)
    problems, stray = _contradictions(manifest) or _damages(folder, manifest), _unsealed(folder, manifest)
    if problems or stray:
        advice = _REBUILD if problems else "move that out"
        raise BundleError(f"the bundle in {folder} cannot be trusted: {'; '.join([*problems, *stray])}; {advice}")
    return Bundle(folder=folder, manifest=manifest, digest=hashlib.sha256(content).hexdigest())


def bundle_digest(folder: Path) -> str:
    """The digest of the bundle in `folder`, as it lies there: no file is verified. Raises `BundleError`."""
    return hashlib.sha256(_manifest_bytes(folder)).hexdigest()


def _manifest_bytes(folder: Path) -> bytes:
    try:
        return (folder / MANIFEST_FILE).read_bytes()
    except OSError as error:
        raise BundleError(_why_unreadable(folder, error)) from None


def _write_manifest(folder: Path, content: bytes) -> None:
    """Put the manifest in place whole or not at all."""
    unsealed = folder / _UNSEALED_FILE
    try:
        with unsealed.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unsealed.replace(folder / MANIFEST_FILE)
    except OSError:
        with contextlib.suppress(OSError):  # what matters is why the first write failed
            unsealed.unlink(missing_ok=True)
        raise


def _why_unreadable(folder: Path, error: OSError) -> str:
    """The line for a manifest that cannot be read."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        return f"the bundle in {folder} cannot be read: {error.strerror}"
    if not folder.exists():
        return f"no bundle at {folder}: there is no such folder; build one with `deploycost build`"
    if not folder.is_dir():
        return f"no bundle at {folder}: expected a folder with a {MANIFEST_FILE}, this is a file"
    return f"the bundle in {folder} is half-written or not a bundle: it has no {MANIFEST_FILE}; {_REBUILD}"


def _read_manifest(folder: Path, content: bytes) -> Manifest:
    """The manifest in `content`; `BundleError` where it is malformed or of another format."""
    try:
        version = msgspec.json.decode(content, type=_Header).format_version
        if version != FORMAT_VERSION:
            remedy = "upgrade deploycost or rebuild it" if version > FORMAT_VERSION else _REBUILD
            raise BundleError(f"the bundle in {folder} has format {version}, expected {FORMAT_VERSION}; {remedy}")
        return _decode(content)
    except (ValueError, RecursionError) as error:  # msgspec's errors, broken UTF-8, and nesting without end
        raise BundleError(f"{folder / MANIFEST_FILE} is not a valid manifest: {error}; {_REBUILD}") from None


def _decode(content: bytes) -> Manifest:
    return msgspec.json.decode(content, type=Manifest)


def _contradictions(manifest: Manifest) -> list[str]:
    """What is wrong with a manifest in itself, before any file is looked at."""
    problems: list[str] = []
    least, most = _LABELS_OF[manifest.task]
    if not least <= len(manifest.labels) <= (most or len(manifest.labels)):
        expected = f"{least}" if most == least else f"at least {least}"
        problems.append(f"labels: expected {expected}, got {len(manifest.labels)}")
    if (manifest.threshold is not None) != (manifest.task == "multi-label"):
        problems.append(f"threshold: {manifest.threshold}, but the task is {manifest.task}")
    if len(set(manifest.labels)) < len(manifest.labels):
        problems.append("labels: one is listed twice")
    buckets = manifest.token_buckets
    if buckets and (list(buckets) != sorted(set(buckets)) or buckets[-1] != manifest.max_tokens):
        problems.append(f"token_buckets: expected to rise to max_tokens {manifest.max_tokens}, got {buckets}")
    problems += [f"{name!r} escapes the folder" for name in manifest.files if not _is_plain_name(name)]
    named = dict.fromkeys((manifest.model_file, manifest.tokenizer_file))
    problems += [f"{name} is named but not sealed in files" for name in named if name not in manifest.files]
    return problems


def _is_plain_name(name: str) -> bool:
    """Whether `name` is a file name and nothing else, on any system."""
    return name not in ("", ".", "..") and not set(name) & set("/\\:\0")


def _damages(folder: Path, manifest: Manifest) -> list[str]:
    """Every sealed file that is not what the manifest vouches for."""
    problems: list[str] = []
    home = folder.resolve()
    for name, seal in manifest.files.items():
        path = folder / name
        try:
            if path.resolve().parent != home:
                problems.append(f"{name!r} escapes the folder")
            elif not path.is_file():
                problems.append(f"{name} is missing")
            elif _seal_file(path) != seal:
                problems.append(f"{name} was changed since it was sealed (sha256 differs)")
        except OSError as error:
            problems.append(f"{name} cannot be read ({error.strerror})")
    return problems


def _unsealed(folder: Path, manifest: Manifest) -> list[str]:
    """Every entry that the manifest does not vouch for: engines read weights from whatever file their model names."""
    try:
        entries = sorted(path for path in folder.iterdir() if path.name not in (MANIFEST_FILE, *manifest.files))
    except OSError as error:
        return [f"what lies in it cannot be listed ({error.strerror})"]
    # A folder without a file, as a disk of its own may have one at its root, holds nothing that could be read.
    full = [path for path in entries if path.is_symlink() or not path.is_dir() or any(path.rglob("*"))]
    return [f"{path.name} lies in it and is not sealed in files" for path in full]


def _seal_file(path: Path) -> FileSeal:
    """SHA-256 and size of the file at `path`, read once in blocks."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return FileSeal(sha256=sha256, size_bytes=file.tell())
