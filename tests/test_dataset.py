"""Labelled texts from files, folders, a hub and the generator: read right, split right, refused in one clear line."""

import csv
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from deploycost.dataset import Dataset, LabelledTexts, load_dataset
from deploycost.dataset_source import FoundDataset, FoundSplit, find_dataset
from deploycost.errors import UserError
from deploycost.experiment import DatasetSpec

REPOSITORY = Path(__file__).resolve().parents[1]
REAL_DATA = REPOSITORY.parent / "shared" / "data"
needs_real_data = pytest.mark.skipif(not REAL_DATA.is_dir(), reason="real data sets are not beside the repository")


def _load(source: Path | str, seed: int = 0, **spec: Any) -> Dataset:
    return load_dataset(DatasetSpec(source=str(source), **spec), seed)


def _refusal(source: Path | str, **spec: Any) -> str:
    with pytest.raises(UserError) as caught:
        _load(source, **spec)
    message = str(caught.value)
    assert "\n" not in message
    return message


def _write_csv(path: Path, rows: list[tuple[Any, ...]], header: tuple[str, ...] = ("text", "label")) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def _write_parquet(path: Path, texts: list[Any], labels: list[Any]) -> Path:
    parquet.write_table(pa.table({"text": texts, "label": labels}), path)
    return path


def _rows(count: int, labels: tuple[Any, ...]) -> list[tuple[str, Any]]:
    return [(f"text {at}", labels[at % len(labels)]) for at in range(count)]


# --- formats and folders ---


def test_three_formats_give_the_same_rows(tmp_path: Path) -> None:
    rows = [("one, with comma", "b"), ('two "quoted"\nsecond line', "a"), ("3", "b"), ("vier ü", "a")]
    for name in ("csv", "jsonl", "parquet"):
        (tmp_path / name).mkdir()
    _write_csv(tmp_path / "csv" / "train.csv", rows)
    _write_parquet(tmp_path / "parquet" / "train.parquet", [text for text, _ in rows], [label for _, label in rows])
    lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
    (tmp_path / "jsonl" / "train.jsonl").write_text("\n".join(lines), encoding="utf-8")
    for name in ("csv", "jsonl", "parquet"):
        (tmp_path / name / f"test.{name}").write_bytes((tmp_path / name / f"train.{name}").read_bytes())
    loaded = [_load(tmp_path / name) for name in ("csv", "jsonl", "parquet")]
    assert loaded[0].train == LabelledTexts(tuple(text for text, _ in rows), (1, 0, 1, 0))
    assert loaded[0].label_names == ("a", "b")
    assert len({dataset.fingerprint for dataset in loaded}) == 1
    assert [dataset.name for dataset in loaded] == ["csv", "jsonl", "parquet"]


def test_given_test_split_stays_as_it_is_and_its_overlap_is_told(tmp_path: Path) -> None:
    _write_csv(tmp_path / "train.csv", [("a", 0), ("b", 1), ("a", 0), ("c", 0), ("d", 1)])
    _write_csv(tmp_path / "dev.csv", [("d", 1), ("e", 0), ("d", 1)])
    dataset = _load(tmp_path)
    assert dataset.train.texts == ("a", "b", "a", "c", "d")
    assert dataset.test == LabelledTexts(("d", "e", "d"), (1, 0, 1))
    assert dataset.description == (
        f"{tmp_path.name}: 5 training and 3 test rows in 2 classes; test split as given (dev.csv); "
        "1 training rows repeat an earlier text (kept); 2 test rows have a text that training has too (kept)."
    )
    assert not dataset.generated


def test_test_split_is_preferred_unless_its_labels_are_withheld(tmp_path: Path) -> None:
    _write_parquet(tmp_path / "train.parquet", ["a", "b", "c", "d"], [0, 1, 0, 1])
    _write_parquet(tmp_path / "validation.parquet", ["v", "w"], [0, 1])
    _write_parquet(tmp_path / "test.parquet", ["x", "y"], [1, 0])
    assert _load(tmp_path).test.texts == ("x", "y")
    _write_parquet(tmp_path / "test.parquet", ["x", "y"], [-1, -1])
    assert _load(tmp_path).test.texts == ("v", "w")


def test_single_file_of_any_name_in_a_folder_is_the_training_file(tmp_path: Path) -> None:
    path = _write_csv(tmp_path / "Reviews.CSV", _rows(10, ("x", "y")))
    assert _load(tmp_path).train == _load(path).train
    assert _load(path).name == "Reviews"


def test_labels_file_names_ids_and_checks_them(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text('["World", "Sports"]')
    _write_csv(tmp_path / "train.csv", [("a", 0), ("b", 1), ("c", 0), ("d", 1)])
    _write_csv(tmp_path / "test.csv", [("e", "Sports"), ("f", "World")])
    dataset = _load(tmp_path)
    assert dataset.label_names == ("World", "Sports")
    assert dataset.test.labels == (1, 0)
    _write_csv(tmp_path / "test.csv", [("e", 2), ("f", 0)])
    assert "test.csv: 1 x label other than World, Sports (row 1)" in _refusal(tmp_path)
    (tmp_path / "labels.json").write_text('["World", "World"]')
    assert "expected a list of distinct label names" in _refusal(tmp_path)


def test_columns_can_be_named(tmp_path: Path) -> None:
    path = _write_csv(tmp_path / "x.csv", [(1, "a", "p"), (2, "b", "q")] * 5, ("id", "sentence", "label"))
    message = _refusal(path)
    assert "no column 'text'" in message
    assert "--text-column" in message
    assert "columns found: id, sentence, label" in message
    assert "--label-column" not in message
    message = _refusal(path, text_column="sentense", label_column="lable")
    assert "(did you mean 'sentence'?)" in message
    assert "(did you mean 'label'?), see --label-column" in message
    numbers = _write_csv(tmp_path / "y.csv", [(at, at % 2) for at in range(4)], ("sentence", "label"))
    assert set(_load(numbers, text_column="sentence").train.texts) <= {"0", "1", "2", "3"}


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ((3, 10, 7), ("3", "7", "10")),
        ((-1, 1), ("-1", "1")),
        ((0.0, 1.0), ("0", "1")),
        ((True, False), ("0", "1")),
        (("b", "a"), ("a", "b")),
    ],
)
def test_label_values_become_ids_in_sorted_order(tmp_path: Path, labels: tuple[Any, ...], names: tuple[str]) -> None:
    texts = [f"t{at}" for at in range(6 * len(labels))]
    dataset = _load(_write_parquet(tmp_path / "x.parquet", texts, list(labels) * 6))
    assert dataset.label_names == names
    for text, label in zip(dataset.train.texts, dataset.train.labels, strict=True):
        given_ = labels[int(text[1:]) % len(labels)]
        assert names[label] == (given_ if isinstance(given_, str) else str(int(given_)))


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        (("3", "10", "7"), ("3", "7", "10")),
        (("0.0", "1.0"), ("0", "1")),
        (("true", "false"), ("false", "true")),
        (("007", "042"), ("007", "042")),
        ((" 3", "10 ", "7"), ("3", "7", "10")),
        (("2024-01-01", "2024-01-02"), ("2024-01-01", "2024-01-02")),
        (("1", "NA-2"), ("1", "NA-2")),
    ],
)
def test_labels_in_csv_keep_their_names(tmp_path: Path, cells: tuple[str, ...], names: tuple[str, ...]) -> None:
    assert _load(_write_csv(tmp_path / "x.csv", _rows(6 * len(cells), cells))).label_names == names


# --- splits and samples ---


def test_own_split_is_80_20_balanced_and_drops_repeats(tmp_path: Path) -> None:
    # 50 distinct of class a, 20 of class b, and 5 repeats: 20 of each are kept, 4 of each are for the test.
    rows = [(f"a{at}", "a") for at in range(50)] + [(f"b{at}", "b") for at in range(20)] + [("a1", "b")] * 5
    dataset = _load(_write_csv(tmp_path / "x.csv", rows), seed=3)
    assert Counter(dataset.train.labels) == {0: 16, 1: 16}
    assert Counter(dataset.test.labels) == {0: 4, 1: 4}
    assert not set(dataset.train.texts) & set(dataset.test.texts)
    assert "(seed 3; dropped 5 repeated texts and 30 rows of larger classes)" in dataset.description
    assert len(set(dataset.train.labels[:16])) == 2, "classes come mixed"


def test_same_seed_same_split_other_seed_other_split(tmp_path: Path) -> None:
    path = _write_csv(tmp_path / "x.csv", _rows(60, ("a", "b")))
    assert _load(path, seed=1) == _load(path, seed=1)
    assert _load(path, seed=1).fingerprint != _load(path, seed=2).fingerprint


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(2, 40), min_size=2, max_size=5), seed=st.integers(0, 99))
def test_split_law(tmp_path_factory: pytest.TempPathFactory, sizes: list[int], seed: int) -> None:
    rows = [(f"{label}-{at}", label) for label, size in enumerate(sizes) for at in range(size)]
    dataset = _load(_write_csv(tmp_path_factory.mktemp("law") / "x.csv", rows), seed=seed)
    for split in (dataset.train, dataset.test):
        assert len(set(Counter(split.labels).values())) == 1
        assert all(text.startswith(f"{label}-") for text, label in zip(split.texts, split.labels, strict=True))
    assert len(dataset.train) + len(dataset.test) == min(sizes) * len(sizes)
    assert len(set(dataset.train.texts) | set(dataset.test.texts)) == min(sizes) * len(sizes)
    assert set(dataset.test.labels) == set(range(len(sizes)))


def test_samples_are_balanced_and_stratified(tmp_path: Path) -> None:
    _write_csv(tmp_path / "train.csv", [(f"a{at}", "a") for at in range(30)] + [(f"b{at}", "b") for at in range(10)])
    _write_csv(tmp_path / "test.csv", [(f"c{at}", "a") for at in range(30)] + [(f"d{at}", "b") for at in range(10)])
    dataset = _load(tmp_path, train_rows=15, test_rows=20)
    assert Counter(dataset.train.labels) == {0: 8, 1: 7}
    assert Counter(dataset.test.labels) == {0: 15, 1: 5}
    assert list(dataset.test.texts) == sorted(set(dataset.test.texts), key=lambda text: (text[0], int(text[1:])))
    assert "training rows are a class-balanced sample; test rows are a stratified sample" in dataset.description
    assert _load(tmp_path, test_rows=40).test == _load(tmp_path).test


def test_more_rows_than_there_are_is_refused(tmp_path: Path) -> None:
    _write_csv(tmp_path / "train.csv", [(f"a{at}", "a") for at in range(30)] + [(f"b{at}", "b") for at in range(10)])
    _write_csv(tmp_path / "test.csv", [("x", "a"), ("y", "b")])
    message = _refusal(tmp_path, train_rows=21)
    assert message == (
        "--train-rows 21: expected 2 (one per class) to 20 (as many of each of 2 classes; the smallest, 'b', has 10)"
    )
    assert "--test-rows 3: expected 2 (one per class) to 2 (all there are)" in _refusal(tmp_path, test_rows=3)


# --- mistakes ---


def test_all_mistakes_are_told_at_once_with_counts_and_rows(tmp_path: Path) -> None:
    texts = ["ok", "", None, "  ", "five", "six", "seven", "eight"]
    _write_parquet(tmp_path / "train.parquet", texts, [0.0, 1.0, 0.0, 1.0, float("nan"), None, 0.5, 7.0])
    _write_parquet(tmp_path / "test.parquet", ["x", "y", "z"], [0, 9, 1])
    message = _refusal(tmp_path)
    assert "train.parquet: 3 x empty text (rows 2, 3, 4)" in message
    assert "2 x missing label (rows 5, 6)" in message
    assert "1 x label that is neither a whole number nor a name (row 7)" in message
    assert "fewer than 2 rows of a class: '7' has 1" in message
    assert "test.parquet: 1 x label other than 0, 1, 7 (row 2)" in message


def test_many_bad_rows_are_counted_not_listed(tmp_path: Path) -> None:
    path = _write_csv(tmp_path / "x.csv", [("", "a"), ("t", "b")] * 40)
    assert "40 x empty text (rows 1, 3, 5, 7, 9 and 35 more)" in _refusal(path)


@pytest.mark.parametrize(
    ("texts", "labels", "expected"),
    [
        ([1, 2, 3, 4], [0, 1, 0, 1], "4 x text that is not a string (rows 1, 2, 3, 4)"),
        (["a", "b"], ["x", "x"], "one class only ('x'), expected at least 2"),
        (["a", "b", "c", "d"], ["x", "x", "x", "y"], "fewer than 2 rows of a class: 'y' has 1"),
        (["a", "b", "c", "c"], ["x", "x", "y", "y"], "class 'y' has 1 distinct texts"),
        (["a", "b"], [[0], [1]], "2 x label that is neither a whole number nor a name"),
        ([], [], "has no rows"),
    ],
)
def test_unusable_rows(tmp_path: Path, texts: list[Any], labels: list[Any], expected: str) -> None:
    assert expected in _refusal(_write_parquet(tmp_path / "x.parquet", texts, labels))


def test_nan_labels_in_csv(tmp_path: Path) -> None:
    path = _write_csv(tmp_path / "x.csv", [("a", 0), ("b", "nan"), ("c", 1), ("d", ""), ("e", 0), ("f", 1)])
    assert "2 x missing label (rows 2, 4)" in _refusal(path)
    names = _write_csv(tmp_path / "y.csv", [("a", "x"), ("b", "NaN"), ("c", "y"), ("d", ""), ("e", "x"), ("f", "y")])
    assert "2 x missing label (rows 2, 4)" in _refusal(names)


def test_another_separator_than_commas_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("text;label\na;0\nb;1\n", encoding="utf-8")
    (tmp_path / "y.csv").write_text("text\tlabel\na\t0\nb\t1\n", encoding="utf-8")
    assert "they seem to be separated by semicolons: save the file with commas" in _refusal(tmp_path / "x.csv")
    assert "they seem to be separated by tabs" in _refusal(tmp_path / "y.csv")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("x.csv", b"text,label\na,0\nb,1,2\n", "as csv: CSV parse error"),
        ("x.csv", b"", "as csv: Empty CSV file"),
        ("x.csv", b"text,label\n\xff\xfe,0\nb,1\n", "as csv: "),
        ("x.csv", b"text,text,label\na,b,0\n", "more than one column 'text'"),
        ("x.jsonl", b'{"text": "a", "label": 0}\n{"text": ', "as jsonl: JSON parse error"),
        ("x.parquet", b"not parquet", "as parquet: "),
        ("x.tsv", b"text\tlabel\n", "expected a file that ends in .parquet, .csv, .jsonl"),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    (tmp_path / name).write_bytes(content)
    message = _refusal(tmp_path / name)
    assert expected in message
    assert name in message


def test_mistakes_of_spreadsheets(tmp_path: Path) -> None:
    (tmp_path / "wide.csv").write_text("text,label\na,0\n", encoding="utf-16")
    assert "is in UTF-16; save it in UTF-8" in _refusal(tmp_path / "wide.csv")
    blanks = _write_csv(tmp_path / "blanks.csv", _rows(8, ("yes", "no", "yes ")))
    assert "classes that differ in blanks around their names only: 'yes', 'yes '" in _refusal(blanks)
    first_row = ("word " * 1000, *(f"c{at}" for at in range(20)))
    message = _refusal(_write_csv(tmp_path / "headless.csv", [first_row], first_row))
    assert "and 9 more" in message
    assert len(message) < 400


def test_a_link_to_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.csv").symlink_to(tmp_path / "gone.csv")
    assert "x.csv is a link to nothing" in _refusal(tmp_path / "x.csv")


def test_column_type_is_inferred_from_the_whole_file(tmp_path: Path) -> None:
    rows = [(f"{at} " + "x" * 400, at % 2) for at in range(5000)] + [("a", "other"), ("b", "other")]
    path = _write_csv(tmp_path / "big.csv", rows)
    assert path.stat().st_size > 1 << 20
    assert _load(path).label_names == ("0", "1", "other")


def test_missing_paths_name_the_nearest(tmp_path: Path) -> None:
    _write_csv(tmp_path / "reviews.csv", _rows(4, ("a", "b")))
    assert "(did you mean 'reviews.csv'?)" in _refusal(tmp_path / "review.csv")
    message = _refusal(tmp_path / "gone" / "deep.csv")
    assert f"no such data set file or folder: {tmp_path / 'gone'};" in message
    (tmp_path / "empty").mkdir()
    assert "data files found: none" in _refusal(tmp_path / "empty")
    _write_parquet(tmp_path / "train.parquet", ["a"], [0])
    _write_csv(tmp_path / "train.csv", [("a", 0)])
    assert "data files found: train.csv, train.parquet" in _refusal(tmp_path)


# --- demo ---


def test_demo_is_split_by_the_seed_and_says_that_it_is_generated() -> None:
    dataset = _load("demo", seed=42)
    assert dataset.generated
    assert (len(dataset.train), len(dataset.test)) == (1920, 480)
    assert Counter(dataset.test.labels) == dict.fromkeys(range(4), 120)
    assert "generated by a seeded grammar" in dataset.description
    other = _load("demo", seed=43)
    assert other.test != dataset.test
    assert {*other.train.texts, *other.test.texts} == {*dataset.train.texts, *dataset.test.texts}


# --- real data ---


@needs_real_data
def test_ag_news_folder() -> None:
    dataset = _load(REAL_DATA / "ag_news", train_rows=4000)
    assert dataset.label_names == ("World", "Sports", "Business", "Sci/Tech")
    assert Counter(dataset.train.labels) == dict.fromkeys(range(4), 1000)
    assert Counter(dataset.test.labels) == dict.fromkeys(range(4), 1900)
    assert "test rows have a text" not in dataset.description


@needs_real_data
def test_sst2_folder_takes_validation_as_test() -> None:
    dataset = _load(REAL_DATA / "sst2")
    assert dataset.label_names == ("negative", "positive")
    assert (len(dataset.train), len(dataset.test)) == (67349, 872)
    assert "validation.parquet" in dataset.description
    assert "371 training rows repeat an earlier text" in dataset.description


# --- the hub: the real client against a loopback server that answers as the hub does ---

COMMIT = "a" * 40
CARD = """---
configs:
- config_name: default
  data_files:
  - {split: train, path: train.parquet}
  - {split: test, path: test.parquet}
dataset_info:
  features:
  - {name: text, dtype: string}
  - name: label
    dtype: {class_label: {names: {'0': bad, '1': good}}}
---
"""


class _HubHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    files: dict[str, bytes]

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path.startswith("/api/datasets/me/tiny/tree/"):
            self._send(json.dumps([self._entry(name) for name in self.files]).encode())
        elif path.startswith("/api/datasets/me/tiny"):
            siblings = [{"rfilename": name} for name in self.files]
            self._send(json.dumps({"id": "me/tiny", "sha": COMMIT, "siblings": siblings}).encode())
        elif path.startswith("/datasets/me/tiny/resolve/") and path.rsplit("/", 1)[1] in self.files:
            content = self.files[path.rsplit("/", 1)[1]]
            self._send(content, ETag=f'"{hashlib.sha1(content).hexdigest()}"')
        elif path.startswith("/datasets/me/tiny/"):
            self._send(b"", status=404, error="EntryNotFound")
        else:
            self._send(b"", status=404, error="RepoNotFound")

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def log_message(self, format: str, *args: object) -> None: ...

    def _entry(self, name: str) -> dict[str, str | int]:
        content = self.files[name]
        return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}

    def _send(self, body: bytes, status: int = 200, error: str = "", **headers: str) -> None:
        self.send_response(status)
        if error:
            self.send_header("X-Error-Code", error)
        for name, value in {**headers, "X-Repo-Commit": COMMIT, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@pytest.fixture
def hub_url(tmp_path: Path) -> Iterator[str]:
    train = _write_parquet(tmp_path / "train.parquet", ["a", "b", "c", "d"], [0, 1, 0, 1])
    test = _write_parquet(tmp_path / "test.parquet", ["x", "y"], [1, 0])
    files = {"README.md": CARD.encode(), train.name: train.read_bytes(), test.name: test.read_bytes()}
    handler = type("TinyHub", (_HubHandler,), {"files": files})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


LOAD_IN_A_PROCESS = """
import sys
from deploycost.dataset import load_dataset
from deploycost.errors import UserError
from deploycost.experiment import DatasetSpec
try:
    dataset = load_dataset(DatasetSpec(source=sys.argv[1]), 0)
    print(dataset.label_names, dataset.test.texts, dataset.test.labels)
except UserError as error:
    print(error)
"""


def _load_from_hub(source: str, url: str, cache: Path, **environment: str) -> str:
    """Output of a process of its own: the hub's client reads its environment when it is imported."""
    told = ("_proxy", "hf_hub_offline")  # what the test run itself was told is not for this process
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith(told)}
    hub = {"HF_ENDPOINT": url, "HF_HOME": str(cache), "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", LOAD_IN_A_PROCESS, source],
        env={**kept, **hub, **environment},
        cwd=cache.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_hub_data_set_is_loaded_and_then_works_offline(hub_url: str, tmp_path: Path) -> None:
    expected = "('bad', 'good') ('x', 'y') (1, 0)"
    assert _load_from_hub("me/tiny", hub_url, tmp_path / "cache") == expected
    assert _load_from_hub("me/tiny", hub_url, tmp_path / "cache", HF_HUB_OFFLINE="1") == expected
    assert "cannot load data set 'me/other' from the hub" in _load_from_hub("me/other", hub_url, tmp_path / "cache")


@pytest.mark.parametrize(
    ("spec", "asked"),
    [
        (DatasetSpec(source="sst2"), ("stanfordnlp/sst2", "sentence")),
        (DatasetSpec(source="sst2", text_column="phrase"), ("stanfordnlp/sst2", "phrase")),
        (DatasetSpec(source="ag_news"), ("fancyzhx/ag_news", "text")),
        (DatasetSpec(source="me/tiny", text_column="body"), ("me/tiny", "body")),
    ],
)
def test_names_of_the_literature_stand_for_a_hub_id_and_its_column(
    spec: DatasetSpec, asked: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, str]] = []

    def answer(hub_id: str, spec: DatasetSpec) -> FoundDataset:
        seen.append((hub_id, spec.text_column))
        return FoundDataset(hub_id, FoundSplit("train", [], []))

    monkeypatch.setattr("deploycost.dataset_source._from_hub", answer)
    find_dataset(spec)
    assert seen == [asked]


def test_hub_out_of_reach_says_so_at_once_and_names_the_embedded_default(tmp_path: Path) -> None:
    started_s = time.perf_counter()
    # Nothing listens on the discard port, so the connection is refused.
    message = _load_from_hub("ag_news", "http://127.0.0.1:9", tmp_path / "cache")
    assert "cannot reach the model hub for data set 'fancyzhx/ag_news'" in message
    assert "--dataset demo" in message
    assert "\n" not in message
    assert time.perf_counter() - started_s < 15
    assert "--dataset demo" in _load_from_hub("ag_news", "http://127.0.0.1:9", tmp_path / "cache", HF_HUB_OFFLINE="1")


def test_loading_files_imports_no_training_framework(tmp_path: Path) -> None:
    path = _write_csv(tmp_path / "x.csv", _rows(10, ("a", "b")))
    code = f"""
import sys
from deploycost.dataset import load_dataset
from deploycost.experiment import DatasetSpec
assert not {{"torch", "transformers", "datasets", "pyarrow", "numpy"}} & sys.modules.keys()
load_dataset(DatasetSpec(source={str(path)!r}), 0)
assert not {{"torch", "transformers", "datasets"}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY, timeout=60)
