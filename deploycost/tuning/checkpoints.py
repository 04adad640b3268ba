"""Checkpoints of a training: what is trained and all that decides how it goes on, never the frozen base.

A checkpoint is one folder, `checkpoints/step-N`, that takes its place whole or not at all: tensors in safetensors,
all else in JSON, so that nothing is unpickled. It bears the mark of the experiment that it belongs to.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from deploycost.errors import UserError
from deploycost.workspace import staged_folder, sync, write_text

_FORMAT = 2
_STATE, _TENSORS = "checkpoint.json", "tensors.safetensors"


class Stateful(Protocol):
    """A part of a training that a checkpoint keeps."""

    def state_dict(self) -> dict[str, Any]:
        """All that exact resumption needs: numbers, texts, tensors, and lists and mappings of these."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from such a state."""
        ...


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint as it was read."""

    folder: Path
    step: int
    state: dict[str, Any]


class CheckpointFolder:
    """Where the checkpoints of one training lie.

    `mark` is the fingerprint of what it was given, `arithmetic` what it computes on and in, as in `cuda in bf16`.
    """

    def __init__(self, place: Path, mark: str, arithmetic: str = "") -> None:
        self._place = place
        self._mark = mark
        self._arithmetic = arithmetic

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole, or None.

        Raises:
            UserError: it is of another experiment, or was made on another kind of device or in another precision.
        """
        steps = {_step_of(path): path for path in self._place.glob("step-*")}
        for step in sorted(steps, reverse=True):
            content = _read(steps[step])
            if content is None:
                continue  # damaged: an older one, or the beginning, will do
            if content["mark"] != self._mark:
                raise UserError(
                    f"{self._place} holds a checkpoint (step {step}) of another experiment: give the model, data set "
                    "and training settings of then to go on from it, delete the folder to start anew, "
                    "or start another run with --run NAME"
                )
            if content["arithmetic"] != self._arithmetic:
                raise UserError(
                    f"{self._place} holds a checkpoint (step {step}) of a training on {content['arithmetic']}, which "
                    f"would not end alike on {self._arithmetic}, as here: go on where it was begun, "
                    "or delete the folder to start anew"
                )
            return Checkpoint(steps[step], step, content["state"])
        return None

    def write(self, step: int, state: dict[str, Any], beside: Mapping[str, str]) -> None:
        """Keeps a state, and the texts of further files by name; then lets go of older checkpoints.

        Raises:
            OSError: the disk is full; the older checkpoint is then untouched.
        """
        place = self._place / f"step-{step}"
        tensors: dict[str, Tensor] = {}
        packed = _pack(state, "", tensors)
        content = {"format": _FORMAT, "mark": self._mark, "arithmetic": self._arithmetic, "state": packed}
        with staged_folder(place) as staging:
            save_file(tensors, staging / _TENSORS)
            sync(staging / _TENSORS)
            for name, text in beside.items():
                write_text(staging / name, text)
            write_text(staging / _STATE, json.dumps(content))
        # The new one must outlast a loss of power before the older are gone.
        sync(place)
        sync(self._place)
        for older in self._place.glob("step-*"):
            if older != place:
                shutil.rmtree(older, ignore_errors=True)

    def clear(self) -> None:
        """Lets go of all of them."""
        shutil.rmtree(self._place, ignore_errors=True)


def _step_of(path: Path) -> int:
    number = path.name.removeprefix("step-")
    return int(number) if number.isdecimal() else -1


def _read(folder: Path) -> dict[str, Any] | None:
    """A checkpoint's `mark`, `arithmetic` and `state`, or None where it is damaged or of another format."""
    try:
        content = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            return None
        tensors = load_file(folder / _TENSORS)
        return content | {"state": _unpack(content["state"], tensors)}
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None


def _pack(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:  # noqa: ANN401 - any tree of a state
    """A tree as JSON: tensors are laid aside by their path, and mappings become pairs, as their keys may be numbers."""
    if isinstance(value, Tensor):
        tensors[path] = value.detach().contiguous()
        return {"tensor": path}
    if isinstance(value, Mapping):
        return {"pairs": [[key, _pack(item, f"{path}/{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_pack(item, f"{path}/{place}", tensors) for place, item in enumerate(value)]
    return value


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:  # noqa: ANN401
    if isinstance(value, list):
        return [_unpack(item, tensors) for item in value]
    if isinstance(value, dict):
        if "tensor" in value:
            return tensors[value["tensor"]]
        return {key: _unpack(item, tensors) for key, item in value["pairs"]}
    return value
