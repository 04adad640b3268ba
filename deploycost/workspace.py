"""Runs on disk: where each stage's results lie, written atomically, one writer at a time.

`runs/NAME/experiment.yaml`, `runs/NAME/METHOD/{tuning.json,adapter/,profile/,tracking/}`, for a model that was brought
`runs/NAME/MODEL/{brought.json,answers/}`,
`runs/NAME/METHOD/ARTIFACT/{bundle/,export.json,load.json}`, `runs/NAME/{quotes/,report.html,report.md,report.json}`.
A stage writes its record last, so a record that exists means that the stage finished. `runs/NAME/METHOD/checkpoints/`
is there while a training is not, and `runs/.cache/` holds what can be made again from the same inputs.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploycost.errors import UserError, nearest
from deploycost.experiment import Experiment, read_experiment, write_experiment
from deploycost.units import bytes_text

DEFAULT_RUNS_DIR = Path("runs")
DEFAULT_RUN_NAME = "default"
_STAGING_PREFIX = ".unfinished-"
_STALE_S = 3600.0
_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Only these decide what a trained model is; the load and price questions may change between commands of one run.
_CONDITIONS = ("model", "dataset", "training")
# All that a model which was only brought depends on.
_CONDITIONS_OF_TEXTS = ("dataset", "training.seed")


@dataclass(frozen=True)
class Run:
    """The folder of one run and the places in it."""

    folder: Path

    @property
    def name(self) -> str:
        """The run's name: that of its folder."""
        return self.folder.name

    @property
    def experiment_path(self) -> Path:
        """Where the run keeps what was asked."""
        return self.folder / "experiment.yaml"

    def method_folder(self, slug: str) -> Path:
        """Where one method's results lie, as in `runs/NAME/qlora-r8`."""
        return self.folder / slug

    def checkpoints_folder(self, slug: str) -> Path:
        """Where the training of one method keeps what it needs to go on from, until it is done."""
        return self.folder / slug / "checkpoints"

    @property
    def cache_folder(self) -> Path:
        """Where all runs beside this one keep what can be made again."""
        return self.folder.parent / ".cache"

    def artifact_folder(self, slug: str, artifact: str) -> Path:
        """Where one artifact's results lie, as in `runs/NAME/qlora-r8/onnx-int8`."""
        return self.folder / slug / artifact

    def record_paths(self, file_name: str) -> list[Path]:
        """All records of one kind (`tuning.json`, `export.json`, `refused.json` and so on) in the run, sorted."""
        pattern = f"*/{file_name}" if file_name in ("tuning.json", "brought.json") else f"*/*/{file_name}"
        found = self.folder.glob(pattern)
        return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(self.folder).parts))

    @property
    def has_results(self) -> bool:
        """Whether a stage finished here: until one did, nothing binds the run to what was asked of it."""
        made = self.record_paths("tuning.json") or self.record_paths("brought.json")
        return self.experiment_path.exists() and bool(made)

    def experiment(self) -> Experiment:
        """What was asked of this run.

        Raises:
            UserError: the run has no experiment, or it was edited into something else.
        """
        return read_experiment(self.experiment_path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the run for one writer and clears what a killed writer left unfinished.

        The operating system drops the lock when its holder dies, however it dies.

        Raises:
            UserError: another process holds the run, or the folder cannot be made.
        """
        from filelock import FileLock, Timeout

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / ".lock")
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"run {self.name!r} is in use by another deploycost process; wait for it, or choose another with --run"
            ) from None
        except OSError as error:
            raise UserError(f"cannot write to {self.folder}: {error.strerror or error}") from None
        try:
            _clear_leftovers(self.folder)
            # Runs beside this one write there too; none of them takes an hour over one file.
            _clear_leftovers(self.cache_folder, older_than_s=_STALE_S)
            yield
        finally:
            lock.release()

    def adopt(self, experiment: Experiment) -> Experiment:
        """Joins what is asked now to what the run holds, and returns the whole; writes `experiment.yaml`.

        Methods and artifacts add up; the load and price questions are replaced.

        Raises:
            UserError: the model, the data set or the training differ from those the run was made with.
        """
        whole = experiment
        if self.has_results:
            before = self.experiment()
            tuned = bool(self.record_paths("tuning.json"))
            parts = _CONDITIONS if tuned else _CONDITIONS_OF_TEXTS
            differing = [path for part in parts for path in _differences(before, experiment, part)]
            if differing:
                raise UserError(
                    f"run {self.name!r} was made under other conditions ({'; '.join(differing)}); "
                    "give the same ones, or start another run with --run NAME"
                )
            whole = experiment.model_copy(
                update={
                    "methods": tuple(dict.fromkeys(before.methods + experiment.methods)),
                    "brought": tuple({spec.name: spec for spec in (*before.brought, *experiment.brought)}.values()),
                    "artifacts": tuple(dict.fromkeys(before.artifacts + experiment.artifacts)),
                }
            )
        write_text(self.experiment_path, write_experiment(whole))
        return whole


def open_run(runs_dir: Path, name: str | None) -> Run:
    """An existing run: the one named, or the one changed last.

    Raises:
        UserError: there is no such run; says which there are.
    """
    there = {path.parent.name: path for path in runs_dir.glob("*/experiment.yaml")}
    if not there:
        raise UserError(f"no runs in {runs_dir}: make one with 'deploycost run' or 'deploycost build --method lora'")
    if name is None:
        name = max(there, key=lambda key: there[key].stat().st_mtime_ns)
    if name not in there:
        raise UserError(
            f"no run {name!r} in {runs_dir}{nearest(name, sorted(there))}; runs: {', '.join(sorted(there))}"
        )
    return Run(runs_dir / name)


def new_run(runs_dir: Path, name: str) -> Run:
    """The run of that name, there or not.

    Raises:
        UserError: the name would not be a plain folder name.
    """
    if not _RUN_NAME.fullmatch(name):
        raise UserError(
            f"run name {name!r}: expected letters, digits, '.', '_' or '-', beginning with a letter or digit"
        )
    return Run(runs_dir / name)


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all.

    Raises:
        OSError: the disk is full or the folder cannot be written; the earlier file is then untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=_STAGING_PREFIX)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)  # a temporary file is its maker's alone; results are for all to read
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Waits until a file's content, or which files a folder holds, is on the disk and not only on its way there."""
    if path.is_dir() and os.name == "nt":
        return  # folders cannot be opened there, and need not be
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def staged_folder(place: Path) -> Iterator[Path]:
    """A folder to fill, which takes its place only if the block ends well; the earlier one stays until then."""
    place.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=place.parent, prefix=_STAGING_PREFIX))
    try:
        yield staging
        if place.exists():
            discarded = Path(tempfile.mkdtemp(dir=place.parent, prefix=_STAGING_PREFIX))
            place.rename(discarded / place.name)
            staging.rename(place)
            shutil.rmtree(discarded, ignore_errors=True)
        else:
            staging.rename(place)
        place.chmod(0o755)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def require_space(folder: Path, needed_bytes: int) -> None:
    """Refuses to start what the disk cannot hold.

    Raises:
        UserError: with what is free and what is needed.
    """
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise UserError(
            f"not enough disk space in {folder}: {bytes_text(free)} free, about {bytes_text(needed_bytes)} needed; "
            "free some, or choose another place with --runs-dir"
        )


def fingerprint(*parts: Any) -> str:  # noqa: ANN401 - anything that JSON can hold
    """A short digest of what a stage was given, equal for equal inputs."""
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _clear_leftovers(folder: Path, older_than_s: float = 0.0) -> None:
    for leftover in list(folder.rglob(f"{_STAGING_PREFIX}*")):
        if not _is_older(leftover, older_than_s):
            continue
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _is_older(path: Path, seconds: float) -> bool:
    try:
        return time.time() - path.stat().st_mtime >= seconds
    except FileNotFoundError:
        return False  # its writer has put it in its place


def _differences(before: Experiment, now: Experiment, part: str) -> list[str]:
    return _compare(part, _at(before.model_dump(mode="json"), part), _at(now.model_dump(mode="json"), part))


def _at(content: Any, path: str) -> Any:  # noqa: ANN401 - JSON
    for part in path.split("."):
        content = content[part]
    return content


def _compare(place: str, before: Any, now: Any) -> list[str]:  # noqa: ANN401 - JSON
    if isinstance(before, dict) and isinstance(now, dict):
        return [line for key in before for line in _compare(f"{place}.{key}", before[key], now.get(key))]
    return [] if before == now else [f"{place} was {before!r}, now {now!r}"]
