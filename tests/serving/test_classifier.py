from collections.abc import Callable
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.bundle import Bundle, seal_bundle
from serving.classifier import MAX_PADDING_RATIO, Classifier, length_groups
from serving.engines import ENGINES
from serving.errors import BundleError, EngineError
from serving.predictions import softmax

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=60)  # lone surrogates, NUL and all
WORDS = st.lists(st.sampled_from(["red", "green", "blue", "grey"]), max_size=12).map(" ".join)


def test_one_text_by_hand(classifier: Classifier) -> None:
    (prediction,) = classifier.predict(["red"])
    # [CLS] red [SEP]: logits (4/3, 0, 0)
    sure, other = exp(4 / 3), 1.0
    assert prediction.label == "red"
    assert prediction.score == pytest.approx(sure / (sure + 2 * other), abs=1e-6)
    assert prediction.scores == pytest.approx(
        {"red": prediction.score, "green": other / (sure + 2), "blue": other / (sure + 2)}, abs=1e-6
    )
    assert (prediction.tokens, prediction.truncated) == (3, False)


def test_logits_by_hand_in_the_order_asked(classifier: Classifier) -> None:
    logits = classifier.logits(["blue blue grey", "red", "", "green red"])
    expected = [[0, 0, 8 / 5], [4 / 3, 0, 0], [0, 0, 0], [1, 1, 0]]
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, atol=1e-6)


def test_no_texts(classifier: Classifier) -> None:
    assert classifier.predict([]) == []
    assert classifier.logits([]).shape == (0, 3)


@pytest.mark.parametrize(("words", "tokens", "truncated"), [(5, 7, False), (6, 8, False), (7, 8, True), (9, 8, True)])
def test_truncated_only_where_tokens_were_dropped(
    classifier: Classifier, words: int, tokens: int, truncated: bool
) -> None:
    (prediction,) = classifier.predict([" ".join(["red"] * words)])
    assert (prediction.tokens, prediction.truncated) == (tokens, truncated)


def test_truncation_drops_the_end_of_the_text_and_keeps_the_special_tokens(classifier: Classifier) -> None:
    encoded = classifier.encode("red red red red red red blue")
    assert encoded.token_ids == [2, 4, 4, 4, 4, 4, 4, 3]


@given(st.lists(WORDS, min_size=1, max_size=20), st.integers(1, 9))
def test_company_changes_no_answer(classifier: Classifier, texts: list[str], batch_size: int) -> None:
    alone = np.concatenate([classifier.logits([text]) for text in texts])
    np.testing.assert_allclose(classifier.logits(texts, batch_size), alone, atol=1e-5)


@given(ANY_TEXT)
def test_any_text_has_a_prediction(classifier: Classifier, text: str) -> None:
    (prediction,) = classifier.predict([text])
    assert sum(prediction.scores.values()) == pytest.approx(1)
    assert prediction.score == max(prediction.scores.values()) == prediction.scores[prediction.label]
    assert 2 <= prediction.tokens <= 8


def test_half_a_surrogate_pair_is_an_unknown_word(classifier: Classifier) -> None:
    assert classifier.encode("red \ud800 blue").token_ids == [2, 4, 1, 6, 3]


def test_a_string_or_a_path_will_do(shared_bundle: Bundle) -> None:
    assert Classifier(str(shared_bundle.folder)).bundle == Classifier(shared_bundle.folder, threads=2).bundle


def test_softmax_of_scores_too_large_for_an_exponential() -> None:
    np.testing.assert_allclose(softmax(np.array([[1000.0, 1000.0], [-1000.0, 0.0]], np.float32)), [[0.5, 0.5], [0, 1]])


@given(st.lists(st.integers(1, 512), max_size=60), st.integers(1, 16))
def test_groups_hold_each_text_once_and_waste_little(lengths: list[int], max_batch: int) -> None:
    groups = list(length_groups(lengths, max_batch))
    assert sorted(position for group in groups for position in group) == list(range(len(lengths)))
    for group in groups:
        own = sum(lengths[position] for position in group)
        padded = len(group) * max(lengths[position] for position in group)
        assert 1 <= len(group) <= max_batch
        assert padded <= (1 + MAX_PADDING_RATIO) * own + 1e-9


def test_groups_by_hand() -> None:
    # 10 11 11 fits: 33 tokens padded from 32; 20 would pad 3 x 9 and more; 20 20 20 is cut at three
    assert list(length_groups([20, 10, 20, 11, 20, 11, 20], 3)) == [[1, 3, 5], [0, 2, 4], [6]]


def test_labels_that_do_not_match_the_width(make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b", labels=("red", "green"))
    with pytest.raises(BundleError, match=r"expected logits of shape \(2, 2\) for 2 texts and 2 labels, got \(2, 3\)"):
        Classifier(bundle)


def test_a_model_with_fewer_positions_than_max_tokens(bundle: Bundle, manifest: Any) -> None:
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(bundle.model_path)
    nodes = list(model.graph.node)
    nodes[3].input[1] = "placed"  # embedded x mask3, of which positions now have a say
    nodes[3:3] = [
        helper.make_node("CumSum", ["attention_mask", "tokens_axis"], ["places"]),
        helper.make_node("Gather", ["positions", "places"], ["ones"]),
        helper.make_node("Mul", ["mask3", "ones"], ["placed"]),
    ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.append(numpy_helper.from_array(np.ones((7, 1), dtype=np.float32), "positions"))  # 0 to 6
    onnx.save(model, bundle.model_path)
    assert Classifier(seal_bundle(bundle.folder, manifest(max_tokens=6))).predict(["red " * 9])[0].label == "red"
    with pytest.raises(BundleError, match=r"fails on a text of 8 tokens: .*; build it with a smaller --max-tokens"):
        Classifier(seal_bundle(bundle.folder, manifest(max_tokens=8)))


def test_every_bucket_is_tried(
    make_bundle: Callable[..., Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []

    class Watched:
        def logits(self, input_ids: Any, attention_mask: Any) -> Any:
            assert input_ids.min() >= 1  # real ones
            shapes.append((*input_ids.shape, int(attention_mask[-1].sum())))
            return np.zeros((len(input_ids), 3), dtype=np.float32)

    monkeypatch.setitem(ENGINES, "onnxruntime", lambda *_: Watched())  # pyright: ignore[reportArgumentType]
    Classifier(make_bundle(tmp_path / "bundle", token_buckets=(4, 6, 8), pad_token_id=1))
    assert shapes == [(2, 4, 4), (1, 4, 4), (1, 6, 6), (1, 8, 8)]
    shapes.clear()
    Classifier(make_bundle(tmp_path / "long", max_tokens=10**12, pad_token_id=1))
    assert shapes == [(2, 4, 4), (1, 1025, 1025)]  # attention over more would take more memory than it is worth


@pytest.mark.parametrize("sizes", [(1, "tokens"), ("batch", 8)])
def test_a_graph_of_fixed_size(bundle: Bundle, write_model: Any, manifest: Any, sizes: tuple[Any, Any]) -> None:
    write_model(bundle.model_path, sizes=sizes)
    with pytest.raises(BundleError, match="fails on two short texts: onnxruntime failed") as caught:
        Classifier(seal_bundle(bundle.folder, manifest()))
    assert "\n" not in str(caught.value)


def test_a_model_that_is_not_one(bundle: Bundle, manifest: Any) -> None:
    bundle.model_path.write_bytes(b"not a graph")
    with pytest.raises(BundleError, match=r"onnxruntime cannot load .*model\.onnx") as caught:
        Classifier(seal_bundle(bundle.folder, manifest()))
    assert "\n" not in str(caught.value)


def test_a_graph_with_other_inputs(bundle: Bundle, manifest: Any) -> None:
    import onnx

    model = onnx.load(bundle.model_path)
    for node in model.graph.node:
        node.input[:] = ["mask_of_attention" if name == "attention_mask" else name for name in node.input]
    model.graph.input[1].name = "mask_of_attention"
    onnx.save(model, bundle.model_path)
    with pytest.raises(
        BundleError, match=r"inputs input_ids and attention_mask and the output logits, got .*mask_of_attention"
    ):
        Classifier(seal_bundle(bundle.folder, manifest()))


def test_a_tokenizer_that_is_not_one(bundle: Bundle, manifest: Any) -> None:
    bundle.tokenizer_path.write_text("{}")
    with pytest.raises(BundleError, match=r"tokenizer\.json is not a tokenizer"):
        Classifier(seal_bundle(bundle.folder, manifest()))


def test_a_tokenizer_without_special_tokens(bundle: Bundle, write_tokenizer: Any, manifest: Any) -> None:
    write_tokenizer(bundle.tokenizer_path, special_tokens=False)
    with pytest.raises(BundleError, match="adds no special tokens"):
        Classifier(seal_bundle(bundle.folder, manifest()))


def test_no_room_for_text(bundle: Bundle, manifest: Any) -> None:
    with pytest.raises(BundleError, match="max_tokens 2 leaves no room for text"):
        Classifier(seal_bundle(bundle.folder, manifest(max_tokens=2)))


def test_a_model_that_answers_nan(braked: Any) -> None:
    classifier, engine = braked

    class Nan:
        def logits(self, input_ids: Any, attention_mask: Any) -> Any:
            return engine.logits(input_ids, attention_mask) * np.float32("nan")

    classifier._engine = Nan()
    with pytest.raises(EngineError, match="not a finite number"):
        classifier.predict(["red"])
