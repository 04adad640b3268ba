"""The table of artifacts against this machine: each that it can build is built, sealed and served."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from deploycost.environment import machine_facts
from deploycost.errors import NoAnswer, UserError
from deploycost.experiment import ARTIFACT_NAMES, FAST_ARTIFACTS, USUAL_ARTIFACTS, ArtifactName, ExportSpec
from deploycost.exporting.artifacts import ARTIFACTS, buildable, standing
from deploycost.exporting.export import Refused, export
from deploycost.exporting.writers import WRITERS
from serving.bundle import EngineName, open_bundle
from serving.classifier import Classifier
from serving.engines import ENGINES

HERE = buildable(ARTIFACT_NAMES)[0]


def test_every_artifact_has_a_row_a_writer_and_an_engine() -> None:
    assert tuple(ARTIFACTS) == ARTIFACT_NAMES == get_args(ArtifactName)
    assert set(WRITERS) == set(ARTIFACTS)
    assert {artifact.engine for artifact in ARTIFACTS.values()} == set(get_args(EngineName)) == set(ENGINES)


def test_the_table_is_honest_about_this_machine() -> None:
    pytest.importorskip("openvino")
    gpu = machine_facts().gpu_model is not None
    assert set(HERE) >= set(ARTIFACT_NAMES) - {"onnx-fp16", "openvino-bf16"}
    assert standing("onnx-fp16").ok <= gpu
    if not gpu:
        assert "an NVIDIA GPU" in standing("onnx-fp16").missing


@pytest.mark.parametrize("name", HERE)
def test_each_is_built_sealed_and_served(opened: Callable[..., Any], tmp_path: Path, name: Any) -> None:
    trained = opened("bert", "full")
    # Four bits are too few for so small a network: what it gives up is told, not refused.
    record = export(trained, name, tmp_path, "mark", max_accuracy_drop=1.0)
    artifact, bundle = ARTIFACTS[name], open_bundle(tmp_path)
    assert (record.engine, record.precision) == (artifact.engine, artifact.precision)
    assert (bundle.manifest.engine, bundle.manifest.precision) == (artifact.engine, artifact.precision)
    assert record.parity.ok
    assert record.accuracy_drop is not None
    assert record.accuracy_drop.lost_rows - record.accuracy_drop.won_rows == pytest.approx(
        61 * record.accuracy_drop.value
    )
    assert 0 <= (record.calibration_error or 0) <= 1
    assert bool(record.calibration) == artifact.calibrated
    if artifact.precision == "fp32":
        assert np.abs(Classifier(tmp_path).logits(trained.test.texts) - trained.logits).max() < 1e-4
    else:
        assert record.parity.relative_error > 1e-5
    if artifact.engine == "openvino":
        assert bundle.manifest.token_buckets[-1] == 48


METHODS = [("distilbert", "adapter"), ("roberta", "prefix"), ("distilbert", "stacked")]


@pytest.mark.parametrize(("family", "method"), METHODS)
@pytest.mark.parametrize("name", ["torch-fp32", "torch-nf4", "openvino-fp32", "onnx-int8-static"])
def test_what_methods_add_is_served(
    opened: Callable[..., Any], tmp_path: Path, family: str, method: str, name: Any
) -> None:
    if name not in HERE:
        pytest.skip(standing(name).missing)
    trained = opened(family, method)
    record = export(trained, name, tmp_path, "mark", max_accuracy_drop=1.0)
    assert record.parity.ok
    if record.precision == "fp32":
        assert np.abs(Classifier(tmp_path).logits(trained.test.texts) - trained.logits).max() < 2e-4


def test_torch_bundles_are_served_without_the_framework_that_trained(
    opened: Callable[..., Any], tmp_path: Path
) -> None:
    export(opened("bert", "stacked"), "torch-nf4", tmp_path, "mark", max_accuracy_drop=1.0)
    program = (
        "import sys; from serving.classifier import Classifier; Classifier(sys.argv[1]).predict(['goal']); "
        "print([name for name in ('transformers', 'peft', 'datasets', 'deploycost') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}


def test_matrices_of_quantised_bundles_are_kept_in_few_bits(opened: Callable[..., Any], tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    kept: dict[str, dict[str, Any]] = {}
    for name in ("torch-fp32", "torch-nf4", "torch-int8"):
        (tmp_path / name).mkdir()
        export(opened("bert", "full"), name, tmp_path / name, "mark", max_accuracy_drop=1.0)  # pyright: ignore[reportArgumentType]
        kept[name] = load_file(tmp_path / name / "weights.safetensors")
    # Six matrices a layer; those of the head, once a text, stay in fp32.
    packed = [name for name in kept["torch-nf4"] if name.endswith("bitsandbytes__nf4")]
    scales = [name for name in kept["torch-int8"] if name.endswith(".SCB")]
    assert (len(packed), len(scales)) == (12, 12)
    for name in scales:
        matrix = name.removesuffix(".SCB")
        assert kept["torch-int8"][matrix].dtype == np.int8
        assert kept["torch-nf4"][matrix].nbytes * 8 == kept["torch-fp32"][matrix].nbytes


def test_a_model_that_came_as_a_graph_has_no_torch_artifact(opened: Callable[..., Any], tmp_path: Path) -> None:
    from dataclasses import replace

    trained = replace(opened("bert", "full"), network=None, train=None)
    (tmp_path / "onnx").mkdir()
    (tmp_path / "torch").mkdir()
    assert export(trained, "onnx-int8", tmp_path / "onnx", "mark").parity.ok
    with pytest.raises(NoAnswer, match=r"refused full\.torch-fp32: .* brought as a graph; choose onnx or openvino"):
        export(trained, "torch-fp32", tmp_path / "torch", "mark")
    with pytest.raises(NoAnswer, match=r"refused full\.onnx-int8-static: .* none came with this model"):
        export(trained, "onnx-int8-static", tmp_path / "torch", "mark")


def test_accuracy_that_is_surely_given_up_is_refused(opened: Callable[..., Any], tmp_path: Path) -> None:
    from dataclasses import replace

    trained = opened("bert", "full")
    # Labels that the trained model gets all right, and answers that differ from them on the rows where int8 differs.
    labels = tuple(int(label) for label in trained.logits.argmax(axis=1))
    right = replace(trained, test=replace(trained.test, labels=labels))
    with pytest.raises(NoAnswer, match="--max-accuracy-drop") as refusal:
        export(right, "onnx-int8", tmp_path, "mark", max_accuracy_drop=-0.5)
    assert str(refusal.value).startswith("refused full.onnx-int8: it gives up ")
    assert isinstance(refusal.value, Refused)
    assert refusal.value.accuracy_drop is not None
    assert refusal.value.accuracy_drop.limit == -0.5
    assert "\n" not in str(refusal.value)


def test_files_that_are_alike_are_kept_once(opened: Callable[..., Any], tmp_path: Path) -> None:
    if "openvino-bf16" not in HERE:
        pytest.skip(standing("openvino-bf16").missing)
    first, second = tmp_path / "openvino-fp32", tmp_path / "openvino-bf16"
    first.mkdir()
    second.mkdir()
    alone = export(opened("bert", "full"), "openvino-fp32", first, "mark")
    beside = export(opened("bert", "full"), "openvino-bf16", second, "mark", neighbours=[first, tmp_path / "none"])
    assert alone.shared_bytes == 0
    names = ("model.bin", "tokenizer.json")
    assert all((first / name).samefile(second / name) for name in names)
    assert beside.shared_bytes >= sum((second / name).stat().st_size for name in names)
    assert open_bundle(second).digest == beside.bundle_digest


def test_asked_by_name_what_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from deploycost.exporting import artifacts

    absent = {"openvino", "nncf", "bitsandbytes"}
    monkeypatch.setattr(artifacts, "_is_installed", lambda package: package not in absent)
    with pytest.raises(UserError) as refusal:
        buildable(("openvino-int8", "torch-nf4", "onnx-int8"))
    told = str(refusal.value)
    assert "openvino-int8: not installed: openvino, nncf; pip install 'deploycost[openvino]'" in told
    assert "torch-nf4: not installed: bitsandbytes; pip install bitsandbytes" in told
    assert "\n" not in told
    names, left_out = buildable(FAST_ARTIFACTS)
    assert names == ("onnx-int8",)
    assert len(left_out) == 2
    names, left_out = buildable(ARTIFACT_NAMES)
    assert set(USUAL_ARTIFACTS) < set(names)
    assert len(names) + len(left_out) == len(ARTIFACT_NAMES)


def test_accuracy_aware_quantisation_is_asked_for(opened: Callable[..., Any], tmp_path: Path) -> None:
    if "openvino-int8" not in HERE:
        pytest.skip(standing("openvino-int8").missing)
    record = export(opened("bert", "full"), "openvino-int8", tmp_path, "mark", ExportSpec(accuracy_aware=True))
    assert record.parity.ok
    assert record.calibration.startswith("180 texts of the training split, seed 42, sha256 ")


def test_the_command_tells_as_people_and_scripts_read(tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "deploycost", "artifacts", *arguments],
            capture_output=True, text=True, timeout=60, cwd=tmp_path, check=True,
        )  # fmt: skip
        return done.stdout

    told = run()
    assert max(map(len, told.splitlines())) <= 80
    assert all(name in told for name in ARTIFACT_NAMES)
    rows = json.loads(run("--json"))["artifacts"]
    assert [row["artifact"] for row in rows] == list(ARTIFACT_NAMES)
    assert [row["artifact"] for row in rows if row["runs_here"]] == list(HERE)
