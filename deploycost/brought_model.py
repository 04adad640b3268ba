"""Where a trained model that is brought lies, what it is, and what marks it: known without loading any framework.

Pickled weights are never read and code that comes with a model is never run: both are refused here, before anything
else looks at the files.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from deploycost.base_model import LocatedModel, locate_model
from deploycost.errors import UserError, nearest
from deploycost.experiment import BroughtSpec
from deploycost.hub import is_offline, unreachable_reason
from deploycost.user_path import user_path
from serving.bundle import Task

Kind = Literal["classifier", "adapter", "onnx"]
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")
# Any of them lets transformers make a fast tokenizer.
_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "spm.model", "tokenizer.model", "sentencepiece*.model")
# What a model is read from, wherever it lies; nothing else is downloaded.
_READ = ("*.json", "*.safetensors", "*.txt", "*.model", "*.onnx", "*.onnx_data", "*.onnx.data", "onnx/*")
_HEAD = "ForSequenceClassification"
_PROBLEM_TASKS: dict[str, Task] = {
    "single_label_classification": "single-label",
    "multi_label_classification": "multi-label",
    "regression": "regression",
}


@dataclass(frozen=True)
class BroughtModel:
    """A brought model that was found: `place` is its folder, or its ONNX file; `config` its config.json, or empty.

    `tokenizer_place` is where its tokenizer is read from, `base` what an adapter sits on, `digest` marks the content of
    all of them.
    """

    spec: BroughtSpec
    kind: Kind
    place: Path
    tokenizer_place: Path | None
    config: dict[str, Any]
    base: LocatedModel | None
    digest: str

    @property
    def folder(self) -> Path:
        """The folder that its files lie in."""
        return self.place.parent if self.kind == "onnx" else self.place

    @property
    def task(self) -> Task:
        """What was asked for, else what its config says, else a choice of one label."""
        return self.spec.task or task_of(self.config) or "single-label"


def task_of(config: dict[str, Any]) -> Task | None:
    """The task that a config.json of transformers names, or None: one label only is what it takes for a regression."""
    named = config.get("problem_type")
    if isinstance(named, str) and named in _PROBLEM_TASKS:
        return _PROBLEM_TASKS[named]
    labels = config.get("id2label")
    return "regression" if isinstance(labels, dict) and len(labels) == 1 else None


def label_names_of(config: dict[str, Any]) -> tuple[str, ...] | None:
    """The names of the labels in id order, as a config.json of transformers has them; None where it has none."""
    labels = config.get("id2label")
    if not isinstance(labels, dict) or sorted(map(str, labels)) != sorted(map(str, range(len(labels)))):
        return None
    return tuple(str(labels[number]) for number in sorted(labels, key=int))


def find_brought(spec: BroughtSpec) -> BroughtModel:
    """The model that `spec.source` names: a folder, an ONNX file, or a hub id, whose files are then downloaded.

    Raises:
        UserError: there is none, it is not a classifier's, only pickled, or a part of it is missing; one line.
    """
    place = _place(spec.source)
    kind, place = _kind(spec, place)
    folder = place.parent if kind == "onnx" else place
    config_path = _config_path(kind, folder)
    config = _read_json(config_path) if config_path.is_file() else {}
    _require_numbered_labels(spec.source, config)
    base = None
    if kind == "classifier":
        _require_head(spec.source, config)
    elif kind == "adapter":
        base = _base_of(spec, _read_json(folder / "adapter_config.json"))
    for name in ("base", "bits"):
        if kind != "adapter" and getattr(spec, name) is not None:
            flag = {"base": "--model", "bits": "--bits"}[name]
            raise UserError(f"{flag} tells what an adapter sits on, and {spec.source!r} is none; leave it out")
    _refuse_escapes(folder)
    tokenizer = _tokenizer_place(spec, folder, base)
    digest = _digest(kind, place, config_path, tokenizer, base)
    return BroughtModel(spec, kind, place, tokenizer, config, base, digest)


def _place(source: str) -> Path:
    path = user_path(source)
    if path.exists():
        return path
    if source.startswith((".", "/", "~")) or source.count("/") > 1 or path.suffix.lower() in (".onnx", *_PICKLES):
        beside = sorted(entry.name for entry in path.parent.iterdir()) if path.parent.is_dir() else []
        raise UserError(
            f"no such model to bring: {path}{nearest(path.name, beside)}; expected a folder with config.json and "
            "*.safetensors, an adapter folder, an .onnx file, or a hub id"
        )
    return _from_hub(source)


def _from_hub(source: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    reason = None if is_offline() else unreachable_reason(f"api/models/{source}")
    try:
        if reason is None:
            return Path(snapshot_download(source, allow_patterns=list(_READ), local_files_only=is_offline()))
    except LocalEntryNotFoundError:
        reason = "HF_HUB_OFFLINE is set and it was not downloaded before"
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
    raise UserError(f"cannot have model {source!r} from the model hub ({reason}); give a local folder or .onnx file")


def _kind(spec: BroughtSpec, place: Path) -> tuple[Kind, Path]:
    """What lies at a place, and the folder or ONNX file that it is."""
    if place.is_file():
        if place.suffix.lower() in _PICKLES:
            raise _pickled(spec.source, place.name)
        if place.suffix.lower() != ".onnx":
            raise UserError(f"{place} is a file; expected an .onnx file, or the folder that the model was saved in")
        return "onnx", place
    if (place / "adapter_config.json").is_file():
        _require_safetensors(spec.source, place, "adapter_model")
        return "adapter", place
    if any(place.glob("*.safetensors")) and (place / "config.json").is_file():
        return "classifier", place
    graphs = sorted([*place.glob("*.onnx"), *place.glob("onnx/*.onnx")])
    named = [path for path in graphs if path.name == "model.onnx"]
    if len(named or graphs) == 1:
        return "onnx", (named or graphs)[0]
    if graphs:
        listed = ", ".join(str(path.relative_to(place)) for path in graphs)
        raise UserError(f"{spec.source!r} holds {len(graphs)} ONNX files ({listed}); name one of them with --from")
    if (place / "config.json").is_file():
        _require_safetensors(spec.source, place, "")
    raise UserError(
        f"{spec.source!r} holds no model: expected config.json with *.safetensors, adapter_config.json with "
        "adapter_model.safetensors, or an .onnx file"
    )


def _require_safetensors(source: str, folder: Path, stem: str) -> None:
    if any(folder.glob(f"{stem}*.safetensors")):
        return
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in _PICKLES)
    if pickles:
        raise _pickled(source, pickles[0])
    raise UserError(f"{source!r} holds no weights: expected {stem or ''}*.safetensors in it")


def _pickled(source: str, name: str) -> UserError:
    return UserError(
        f"{source!r} holds pickled weights ({name}), which can run code and are never loaded; convert them to "
        "safetensors where you trust them: load the model with transformers and call save_pretrained(folder)"
    )


def _require_head(source: str, config: dict[str, Any]) -> None:
    if "auto_map" in config:
        raise UserError(f"{source!r} comes with code of its own (auto_map in config.json), which is never run here")
    named = config.get("architectures")
    architecture = named[0] if isinstance(named, list) and named else None
    if isinstance(architecture, str) and not architecture.endswith(_HEAD):
        raise UserError(
            f"{source!r} is a {architecture}, not a trained sequence classifier (…{_HEAD}); "
            f"to train one from it: deploycost build --model {source} --method lora"
        )


def _require_numbered_labels(source: str, config: dict[str, Any]) -> None:
    labels = config.get("id2label")
    if labels is not None and label_names_of(config) is None:
        told = ", ".join(map(str, labels)) if isinstance(labels, dict) else repr(labels)
        raise UserError(
            f"{source!r} numbers its labels {told[:100]} (id2label in its config.json); expected 0, 1 and so on, in "
            "the order of what it answers"
        )


def _base_of(spec: BroughtSpec, adapter: dict[str, Any]) -> LocatedModel:
    task = adapter.get("task_type")
    if task not in (None, "SEQ_CLS"):
        raise UserError(f"the adapter {spec.source!r} is for {task}; expected one for classifying texts (SEQ_CLS)")
    if adapter.get("megatron_config") or adapter.get("auto_mapping"):
        raise UserError(f"the adapter {spec.source!r} asks for modules of its own to be imported, which is never done")
    name = spec.base or adapter.get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise UserError(f"the adapter {spec.source!r} does not say what it was trained on; name its base with --model")
    try:
        return locate_model(name)
    except UserError as error:
        advice = "" if spec.base else f"; the adapter {spec.source!r} names it as its base: give yours with --model"
        raise UserError(f"{error}{advice}") from None


def _tokenizer_place(spec: BroughtSpec, folder: Path, base: LocatedModel | None) -> Path | None:
    """The folder or file of the tokenizer; None where it is the base model's on the hub."""
    if spec.tokenizer is not None:
        place = user_path(spec.tokenizer)
        if not place.exists() or (place.is_dir() and not _has_tokenizer(place)):
            raise UserError(f"--tokenizer {spec.tokenizer}: expected a tokenizer.json, or a folder with one")
        return place
    for place in _shelves(folder):
        if _has_tokenizer(place):
            return place
    if base is not None:
        return Path(base.place) if base.is_local else None
    raise UserError(f"{spec.source!r} has no tokenizer beside it: expected tokenizer.json, or give it with --tokenizer")


def _config_path(kind: Kind, folder: Path) -> Path:
    """Where the config.json that belongs to a model lies, or would lie."""
    places = _shelves(folder) if kind == "onnx" else (folder,)
    return next((path for place in places if (path := place / "config.json").is_file()), folder / "config.json")


def _shelves(folder: Path) -> tuple[Path, ...]:
    """Where what belongs to an ONNX file may lie: the hub's repositories keep it above a folder `onnx`."""
    return (folder, whole.parent) if (whole := folder.absolute()).name == "onnx" else (folder,)


def _has_tokenizer(folder: Path) -> bool:
    return any(True for pattern in _TOKENIZER_FILES for _ in folder.glob(pattern))


def _refuse_escapes(folder: Path) -> None:
    """Refuses an index of weights that names files outside the folder."""
    for path in folder.glob("*.safetensors.index.json"):
        named = set(map(str, dict(_read_json(path).get("weight_map") or {}).values()))
        outside = sorted(name for name in named if Path(name).name != name)
        if outside:
            raise UserError(f"{path} names weights outside its folder ({outside[0]}); that is never followed")


def _digest(kind: Kind, place: Path, config: Path, tokenizer: Path | None, base: LocatedModel | None) -> str:
    """A digest of the content of every file that the model is read from."""
    folder = place.parent if kind == "onnx" else place
    files = {place} if kind == "onnx" else set(folder.glob("*.safetensors"))
    files |= {config, folder / "adapter_config.json", folder / "recipe.json"}
    files |= {path for path in folder.iterdir() if kind == "onnx" and path.name.startswith(place.stem)}
    if tokenizer is not None:
        files |= {tokenizer} if tokenizer.is_file() else {p for each in _TOKENIZER_FILES for p in tokenizer.glob(each)}
        files |= set() if tokenizer.is_file() else set(tokenizer.glob("*token*.json"))
    digest = hashlib.sha256(f"{kind} {base.digest if base else ''}".encode())
    for path in sorted(path for path in files if path.is_file()):
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"cannot read {path}: expected an object")
    return content
