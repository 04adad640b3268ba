"""OpenVINO behind the endpoint: the same answers, texts padded to few lengths, nothing reported home."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from serving.bundle import Bundle, seal_bundle
from serving.classifier import Classifier
from serving.errors import BundleError
from serving.openvino_engine import import_openvino


@pytest.fixture
def make_openvino(make_bundle: Callable[..., Bundle], manifest: Callable[..., Any]) -> Callable[..., Bundle]:
    """The tiny bundle for OpenVINO."""

    def make(folder: Path, **changes: Any) -> Bundle:
        openvino = import_openvino()
        make_bundle(folder)
        openvino.save_model(openvino.Core().read_model(folder / "model.onnx"), folder / "model.xml", False)
        (folder / "model.onnx").unlink()
        return seal_bundle(folder, manifest(**({"engine": "openvino", "model_file": "model.xml"} | changes)))

    return make


@pytest.mark.parametrize("buckets", [(), (4, 8), (8,)])
def test_answers_do_not_depend_on_padding(
    make_openvino: Callable[..., Bundle], tmp_path: Path, buckets: tuple[int, ...]
) -> None:
    served = Classifier(make_openvino(tmp_path / "bundle", token_buckets=buckets))
    logits = served.logits(["red", "green blue", "", "blue " * 20])
    assert_allclose(logits, [[4 / 3, 0, 0], [0, 1, 1], [0, 0, 0], [0, 0, 3]], atol=1e-6)


def test_texts_are_padded_to_the_bucket_above(make_openvino: Callable[..., Bundle], tmp_path: Path) -> None:
    served: Any = Classifier(make_openvino(tmp_path / "bundle", token_buckets=(4, 6, 8)))
    widths = []
    engine = served._engine

    class Watched:
        def logits(self, input_ids: Any, attention_mask: Any) -> Any:
            widths.append(input_ids.shape)
            return engine.logits(input_ids, attention_mask)

    served._engine = Watched()
    served.logits(["red", "red red", "red red red", "red red red red red"])
    # 3, 4, 5 and 7 tokens: two to 4, one to 6, one to 8.
    assert widths == [(2, 4), (1, 6), (1, 8)]
    assert [served.padded_tokens(tokens) for tokens in (1, 4, 5, 8)] == [4, 4, 6, 8]


def test_what_is_computed_for_a_batch_is_counted(
    make_openvino: Callable[..., Bundle], make_bundle: Callable[..., Bundle], tmp_path: Path
) -> None:
    # Texts of 3, 5 and 7 tokens: each in its own bucket, 4 + 6 + 8; without buckets all as long as the longest, 3 x 7.
    bucketed = Classifier(make_openvino(tmp_path / "openvino", token_buckets=(4, 6, 8)))
    assert bucketed.computed_tokens([3, 5, 7]) == 18
    assert Classifier(make_bundle(tmp_path / "onnx")).computed_tokens([3, 5, 7]) == 21


@pytest.mark.parametrize("buckets", [(8, 4), (4,), (4, 4, 8), (4, 16)])
def test_buckets_rise_to_the_longest_text(
    make_openvino: Callable[..., Bundle], tmp_path: Path, buckets: tuple[int, ...]
) -> None:
    with pytest.raises(BundleError, match="token_buckets: expected to rise to max_tokens 8"):
        make_openvino(tmp_path / "bundle", token_buckets=buckets)


def test_a_model_that_is_none_is_told_in_a_line(
    make_openvino: Callable[..., Bundle], manifest: Callable[..., Any], tmp_path: Path
) -> None:
    folder = make_openvino(tmp_path / "bundle").folder
    (folder / "model.xml").write_text("<net>")
    with pytest.raises(BundleError, match="openvino cannot load") as refusal:
        Classifier(seal_bundle(folder, manifest(engine="openvino", model_file="model.xml")))
    assert "\n" not in str(refusal.value)


def test_without_openvino_the_line_names_the_extra(
    make_openvino: Callable[..., Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_openvino(tmp_path / "bundle")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BundleError, match=r"is not installed; install it with: pip install 'deploycost\[openvino\]'"):
        Classifier(bundle)


_LOADED = """
import sys
from serving.classifier import Classifier
assert Classifier(sys.argv[1]).predict(["red"])[0].label == "red"
heavy = ("torch", "openvino", "openvino_telemetry", "nncf", "bitsandbytes", "onnxruntime", "transformers", "peft",
         "datasets", "deploycost", "openvino.tools.ovc.telemetry")
print(",".join(name for name in heavy if name in sys.modules))
"""


def _loaded(bundle: Bundle) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _LOADED, str(bundle.folder)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_only_the_library_that_is_asked_for_is_loaded(
    make_bundle: Callable[..., Bundle], make_openvino: Callable[..., Bundle], tmp_path: Path
) -> None:
    assert _loaded(make_bundle(tmp_path / "onnx")) == "onnxruntime"
    assert _loaded(make_openvino(tmp_path / "openvino")) == "openvino"


def test_scores_are_float32(make_openvino: Callable[..., Bundle], tmp_path: Path) -> None:
    assert Classifier(make_openvino(tmp_path / "bundle")).logits(["red"]).dtype == np.float32
