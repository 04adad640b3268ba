"""Where labelled rows come from: a folder or file, the model hub, or the embedded generator. Reads, judges nothing."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploycost.demo_news import generate_news
from deploycost.errors import UserError, nearest
from deploycost.experiment import EMBEDDED_DATASET, DatasetSpec
from deploycost.hub import is_offline, unreachable_reason
from deploycost.user_path import user_path

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

# Names of a test split in order of preference; one whose labels are withheld (as GLUE's test) is passed over.
TEST_SPLITS = ("test", "validation", "dev")
# Names under which the literature knows data sets: their ids on the hub, and the column of their texts there.
HUB_ALIASES = {"ag_news": ("fancyzhx/ag_news", "text"), "sst2": ("stanfordnlp/sst2", "sentence")}

_SUFFIXES = (".parquet", ".csv", ".jsonl")
# A source that ends like this is meant as a file, whether or not it can be read.
_FILE_LIKE = (*_SUFFIXES, ".json", ".tsv", ".txt")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
# What the hub's data sets put where a label is not published.
_WITHHELD = -1
# A name such as `007` is no number.
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?")
# Of columns, in a message: characters of one, and how many.
_LONGEST_NAME, _MOST_NAMES = 40, 12
# What else than commas a file may have between its columns, in words.
_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True, slots=True)
class FoundSplit:
    """One split as found, its cells unchecked. `place` is the file or split it came from, for messages.

    Where there was no column of labels, all are None and `unlabelled` is the sentence that says so.
    """

    place: str
    texts: list[Any]
    labels: list[Any]
    unlabelled: str = ""


@dataclass(frozen=True, slots=True)
class FoundDataset:
    """What a source holds. `label_names`, in id order, only where the source names them."""

    name: str
    train: FoundSplit
    test: FoundSplit | None = None
    label_names: tuple[str, ...] | None = None
    generated: bool = False

    @property
    def labelled(self) -> bool:
        """Whether there was a column of labels."""
        return not self.train.unlabelled


def find_dataset(spec: DatasetSpec, *, labels_needed: bool = True) -> FoundDataset:
    """The rows behind `spec.source`: `demo`, an existing folder or file, else a hub id.

    Unless `labels_needed`, a source without a column of the usual name for labels is taken as one of texts alone.

    Raises:
        UserError: the source is missing, out of reach or unreadable, or a column is missing; one line.
    """
    found = _find(spec)
    if labels_needed and found.train.unlabelled:
        raise UserError(found.train.unlabelled)
    return found


def _find(spec: DatasetSpec) -> FoundDataset:
    if spec.source == EMBEDDED_DATASET:
        texts, labels, names = generate_news()
        return FoundDataset(EMBEDDED_DATASET, FoundSplit("generated", texts, labels), label_names=names, generated=True)
    path = user_path(spec.source)
    if path.is_dir():
        return _from_folder(path, spec)
    if path.is_file():
        return FoundDataset(path.stem, _read_split(path, spec))
    if _looks_like_path(spec.source, path):
        raise UserError(_missing(path))
    hub_id, text_column = HUB_ALIASES.get(spec.source, (spec.source, spec.text_column))
    if spec.text_column != DatasetSpec().text_column:
        text_column = spec.text_column  # the user's word goes over the alias's
    return _from_hub(hub_id, spec.model_copy(update={"text_column": text_column}))


def _looks_like_path(source: str, path: Path) -> bool:
    if path.suffix.lower() in _FILE_LIKE or not _HUB_ID.fullmatch(source):
        return True
    return len(path.parts) > 1 and path.parent.is_dir()


def _missing(path: Path) -> str:
    """Names the first part of the path that does not exist, and its nearest neighbour."""
    gone = path
    while not gone.parent.is_dir():
        gone = gone.parent
    if gone.is_symlink():
        return f"data set {path}: {gone} is a link to nothing (or to itself)"
    beside = sorted(entry.name for entry in gone.parent.iterdir())
    return (
        f"no such data set file or folder: {gone}{nearest(gone.name, beside)}; expected a folder with train.parquet, "
        f"train.csv or train.jsonl, such a file, a hub id, or {EMBEDDED_DATASET!r}"
    )


def _from_folder(folder: Path, spec: DatasetSpec) -> FoundDataset:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and path.is_file())
    train = [path for path in files if path.stem == "train"]
    if not train and len(files) == 1:
        train = files
    if len(train) != 1:
        listed = ", ".join(path.name for path in train or files) or "none"
        raise UserError(f"{folder}: expected one train.parquet, train.csv or train.jsonl; data files found: {listed}")
    tests = [path for name in TEST_SPLITS for path in files if path.stem == name and path not in train]
    learnt_from = _read_split(train[0], spec)
    return FoundDataset(
        folder.resolve().name,
        learnt_from,
        _first_labelled((_read_split(path, spec) for path in tests), learnt_from),
        _read_label_names(folder / "labels.json"),
    )


def _first_labelled(splits: Iterable[FoundSplit], train: FoundSplit) -> FoundSplit | None:
    for split in splits:
        if split.unlabelled and not train.unlabelled:
            raise UserError(split.unlabelled)
        if train.unlabelled or any(label is not None and label != _WITHHELD for label in split.labels):
            return split
    return None


def _read_label_names(path: Path) -> tuple[str, ...] | None:
    if not path.is_file():
        return None
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {_one_line(error)}") from None
    named = isinstance(names, list) and all(isinstance(name, str) and name for name in names)
    if not named or len(set(names)) != len(names):
        raise UserError(f'{path}: expected a list of distinct label names in id order, such as ["World", "Sports"]')
    return tuple(names)


def _read_split(path: Path, spec: DatasetSpec) -> FoundSplit:
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise UserError(f"{path}: expected a file that ends in {', '.join(_SUFFIXES)}")
    import pyarrow as pa

    try:
        _require_utf8(path)
        table = _read_table(path, spec)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"cannot read {path} as {suffix[1:]}: {_one_line(error)}") from None
    split = _columns(table, path.name, spec)
    return replace(split, labels=_typed_labels(split.labels)) if suffix == ".csv" and not split.unlabelled else split


def _require_utf8(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise UserError(f"{path} is in UTF-16; save it in UTF-8")


def _typed_labels(cells: list[str]) -> list[Any]:
    """The labels of a CSV file: numbers where all cells are written as numbers are, else names, as they are written.

    None stands for a cell that says that nothing is known: of numbers all that Arrow takes for it, of names `nan`.
    """
    from pyarrow import csv

    absent = {*csv.ConvertOptions().null_values, ""}
    bare = [cell.strip() for cell in cells]
    if all(cell in absent or _NUMBER.fullmatch(cell) for cell in bare):
        return [None if cell in absent else float(cell) if "." in cell else int(cell) for cell in bare]
    return [None if cell.strip().lower() == "nan" else cell for cell in cells]


def _read_table(path: Path, spec: DatasetSpec) -> pa.Table:
    if path.suffix.lower() == ".parquet":
        from pyarrow import parquet

        return parquet.read_table(path)
    # One block holds the whole file, so that a column's type is inferred from all of its rows.
    block_bytes = min(path.stat().st_size + 1, 2**31 - 1)
    if path.suffix.lower() == ".jsonl":
        from pyarrow import json as arrow_json

        return arrow_json.read_json(path, read_options=arrow_json.ReadOptions(block_size=block_bytes))
    import pyarrow as pa
    from pyarrow import csv

    return csv.read_csv(
        path,
        read_options=csv.ReadOptions(block_size=block_bytes),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        # Left to itself the reader would make numbers and dates of names such as `true`, `007` and `2024-01-01`.
        convert_options=csv.ConvertOptions(
            column_types={spec.text_column: pa.string(), spec.label_column: pa.string()}
        ),
    )


def _columns(table: pa.Table, place: str, spec: DatasetSpec) -> FoundSplit:
    found: list[str] = table.column_names
    asked = {"--text-column": spec.text_column, "--label-column": spec.label_column}
    other = next((told for sign, told in _OTHER_SEPARATORS.items() if len(found) == 1 and sign in found[0]), None)
    near = [] if other else found
    wrong = [
        f"{f'no column {name!r}{nearest(name, near)}' if name not in found else f'more than one column {name!r}'}, "
        f"see {option}"
        for option, name in asked.items()
        if found.count(name) != 1
    ]
    if wrong:
        sentence = f"{place} has {' and '.join(wrong)}; columns found: {_told_columns(found)}"
        sentence += f"; they seem to be separated by {other}: save the file with commas" if other else ""
        usual = spec.label_column == DatasetSpec().label_column
        if usual and found.count(spec.label_column) == 0 and found.count(spec.text_column) == 1:
            texts = table.column(spec.text_column).to_pylist()
            return FoundSplit(place, texts, [None] * len(texts), unlabelled=sentence)
        raise UserError(sentence)
    return FoundSplit(place, table.column(spec.text_column).to_pylist(), table.column(spec.label_column).to_pylist())


def _told_columns(names: Sequence[str]) -> str:
    """The names of columns; where a file has no header they are its first row, which may be long."""
    told = [name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..." for name in names[:_MOST_NAMES]]
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"{', '.join(told)}{more}" if told else "none"


def _from_hub(hub_id: str, spec: DatasetSpec) -> FoundDataset:
    from datasets import DatasetDict, load_dataset
    from datasets.exceptions import DatasetsError

    _require_hub(hub_id)
    try:
        splits = load_dataset(hub_id)
    except ConnectionError as error:
        raise UserError(_out_of_reach(hub_id, error)) from None
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        raise UserError(f"cannot load data set {hub_id!r} from the hub: {_one_line(error)}") from None
    if not isinstance(splits, DatasetDict) or "train" not in splits:
        raise UserError(
            f"data set {hub_id!r} on the hub has no 'train' split; splits found: {', '.join(map(str, splits))}"
        )
    return _from_splits(hub_id, splits, spec)


def _require_hub(hub_id: str) -> None:
    reason = None if is_offline() else unreachable_reason(f"api/datasets/{hub_id}")
    if reason is not None:
        raise UserError(_out_of_reach(hub_id, reason))


def _out_of_reach(hub_id: str, reason: object) -> str:
    return (
        f"cannot reach the model hub for data set {hub_id!r} ({_one_line(reason)}); use --dataset {EMBEDDED_DATASET} "
        "(embedded, generated), a folder or file of your own, or HF_HUB_OFFLINE=1 for a copy downloaded before"
    )


def _from_splits(hub_id: str, splits: datasets.DatasetDict, spec: DatasetSpec) -> FoundDataset:
    def read(name: str) -> FoundSplit:
        return _columns(splits[name].with_format("arrow")[:], f"{hub_id} {name}", spec)

    train = read("train")
    names = getattr(splits["train"].features.get(spec.label_column), "names", None)
    return FoundDataset(
        hub_id,
        train,
        _first_labelled((read(name) for name in TEST_SPLITS if name in splits), train),
        tuple(names) if names else None,
    )


def _one_line(error: object) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 240 else f"{text[:237]}..."
