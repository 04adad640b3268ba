"""What is due when only the limit of what may be given up has changed: told from records, nothing is built."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploycost.experiment import Experiment, make_experiment
from deploycost.pipeline import export_fingerprint, export_is_done, tell_limit
from deploycost.records import AccuracyDrop, ExportRecord, Variant, read_record, write_record
from deploycost.workspace import Run, write_text
from serving.bundle import Manifest, seal_bundle


def asked(limit: float, *, aware: bool = False) -> Experiment:
    export, artifacts = {"accuracy_aware": aware}, "onnx-int8,openvino-int8"
    return make_experiment(
        {"methods": "full", "artifacts": artifacts, "export": export, "quote": {"max_accuracy_drop": limit}}
    )


@pytest.fixture
def kept(make_variant: Callable[..., Variant], tmp_path: Path) -> tuple[Run, Any]:
    """A run with an artifact that gives up 0.9 points, 0.2 to 1.6, where 1 point might be given up."""
    run, variant = Run(tmp_path), make_variant()
    folder = run.artifact_folder("full", "onnx-int8")
    (folder / "bundle").mkdir(parents=True)
    for name in ("model.onnx", "tokenizer.json"):
        (folder / "bundle" / name).write_bytes(b"x")
    bundle = seal_bundle(
        folder / "bundle",
        Manifest(
            variant="full.onnx-int8", labels=("a", "b"), engine="onnxruntime", precision="int8", max_tokens=8,
            pad_token_id=0,
        ),
    )  # fmt: skip
    changes = {
        "fingerprint": export_fingerprint(variant.tuning, "onnx-int8", asked(0.01)),
        "accuracy_drop": AccuracyDrop(value=0.009, low=0.002, high=0.016, lost_rows=12, won_rows=3, limit=0.01),
        "bundle_digest": bundle.digest,
    }
    write_text(folder / "export.json", write_record(variant.export.model_copy(update=changes)))
    return run, variant.tuning


@pytest.mark.parametrize(
    ("limit", "done", "flagged", "refused"),
    [(0.02, True, False, False), (0.01, True, False, False), (0.005, True, True, False), (0.001, False, False, True)],
)
def test_an_artifact_is_judged_by_the_limit_that_is_asked_for_now(
    kept: tuple[Run, Any], limit: float, done: bool, flagged: bool, refused: bool
) -> None:
    run, tuning = kept
    assert export_is_done(run, tuning, "onnx-int8", asked(limit)) == done
    before = read_record(run.artifact_folder("full", "onnx-int8") / "export.json", ExportRecord)
    tell_limit(run, "full", asked(limit))
    after = read_record(run.artifact_folder("full", "onnx-int8") / "export.json", ExportRecord)
    assert after.accuracy_drop is not None
    assert (after.accuracy_drop.limit, after.accuracy_drop.flagged, after.accuracy_drop.refused) == (
        limit,
        flagged,
        refused,
    )
    assert after.model_copy(update={"accuracy_drop": before.accuracy_drop}) == before
    assert export_is_done(run, tuning, "onnx-int8", asked(limit)) == done


def test_a_record_that_is_damaged_or_was_never_judged_stays(kept: tuple[Run, Any]) -> None:
    run, _ = kept
    path = run.artifact_folder("full", "onnx-int8") / "export.json"
    unjudged = read_record(path, ExportRecord).model_copy(update={"accuracy_drop": None})
    for content in (write_record(unjudged), "{"):
        path.write_text(content)
        tell_limit(run, "full", asked(0.005))
        assert path.read_text() == content


def test_only_what_is_built_by_the_limit_is_built_anew(make_variant: Callable[..., Variant]) -> None:
    tuning = make_variant().tuning

    def mark(artifact: Any, limit: float, *, aware: bool) -> str:
        return export_fingerprint(tuning, artifact, asked(limit, aware=aware))

    assert mark("openvino-int8", 0.01, aware=True) != mark("openvino-int8", 0.005, aware=True)
    assert mark("openvino-int8", 0.01, aware=False) == mark("openvino-int8", 0.005, aware=False)
    assert mark("onnx-int8", 0.01, aware=True) == mark("onnx-int8", 0.005, aware=True)
