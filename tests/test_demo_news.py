"""The generated news is distinct, balanced, as long as the real thing, noisy, and neither trivial nor hopeless."""

import hashlib
import json
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit

from deploycost.demo_news import NOISE_RATIO, generate_news
from deploycost.demo_vocabulary import (
    BEATS,
    CROSSOVER_BEATS,
    ENTITIES,
    JOINTS,
    LABEL_NAMES,
    NEUTRAL_FOLLOWS,
    NEUTRAL_HEADLINES,
    NUMBERS,
)


def _templates() -> list[str]:
    beats = [line for beat in (*BEATS, *CROSSOVER_BEATS) for part in beat[1:] for line in part]
    return [*beats, *NEUTRAL_HEADLINES, *NEUTRAL_FOLLOWS, *JOINTS]


def _accuracy(texts: list[str], labels: np.ndarray, train_rows: int) -> float:
    """Mean test accuracy of TF-IDF and logistic regression over three splits that keep 480 rows for the test."""
    split = StratifiedShuffleSplit(3, train_size=train_rows, test_size=480, random_state=0)
    scores = []
    for train, test in split.split(np.zeros(len(labels)), labels):
        vectorizer = TfidfVectorizer(sublinear_tf=True)
        model = LogisticRegression(C=10, max_iter=1000)
        model.fit(vectorizer.fit_transform([texts[row] for row in train]), labels[train])
        scores.append(model.score(vectorizer.transform([texts[row] for row in test]), labels[test]))
    return float(np.mean(scores))


def test_default_is_distinct_and_balanced() -> None:
    texts, labels, names = generate_news()
    assert names == LABEL_NAMES == ("World", "Sports", "Business", "Sci/Tech")
    assert len(texts) == len(set(texts)) == 2400
    assert Counter(labels) == {0: 600, 1: 600, 2: 600, 3: 600}


def test_default_is_the_same_everywhere() -> None:
    texts, labels, _ = generate_news()
    digest = hashlib.sha256(json.dumps([texts, labels]).encode()).hexdigest()
    assert digest == "85b70a6e637d360c145fe6394382823b9d991dd0bf706fff9abcbe77ec136874"


def test_lengths_are_those_of_news() -> None:
    # AG News: mean 38, standard deviation 10.5, 1st percentile 18, median 37, 99th percentile 73, longest 171.
    words = np.array([len(text.split()) for text in generate_news()[0]])
    assert 36 <= words.mean() <= 40
    assert 9 <= words.std() <= 13
    assert 35 <= np.median(words) <= 39
    assert words.min() >= 8
    assert np.quantile(words, 0.01) <= 18
    assert np.quantile(words, 0.99) >= 70
    assert 90 <= words.max() <= 171


def test_noise_is_the_share_it_says_and_changes_labels_only() -> None:
    texts, labels, _ = generate_news()
    clean_texts, clean_labels, _ = generate_news(noise_ratio=0)
    assert texts == clean_texts
    changed = [(true, given_) for true, given_ in zip(clean_labels, labels, strict=True) if true != given_]
    assert len(changed) == NOISE_RATIO * len(texts) == 96
    # World is confused with each of the others, Sports never with Sci/Tech.
    assert (0, 2) in changed
    assert (1, 3) not in changed
    assert (3, 1) not in changed


def test_bag_of_words_is_good_but_not_perfect_and_needs_data() -> None:
    texts, labels, _ = generate_news()
    many = _accuracy(texts, np.array(labels), train_rows=1920)
    few = _accuracy(texts, np.array(labels), train_rows=60)
    assert 0.85 <= many <= 0.93
    assert few <= many - 0.10


def test_no_single_word_gives_a_class_away() -> None:
    texts, labels, _ = generate_news(noise_ratio=0)
    spread: dict[str, Counter[int]] = {}
    for text, label in zip(texts, labels, strict=True):
        for word in set(re.findall(r"[a-z]+", text.lower())):
            spread.setdefault(word, Counter())[label] += 1
    for word in ("rally", "strike", "record", "court", "field", "board", "shot", "launch", "talks", "chip"):
        assert sum(count > 0 for count in spread[word].values()) >= 2, word
    frequent = {word: counts for word, counts in spread.items() if counts.total() >= 100}
    assert len(frequent) > 50
    assert all(max(counts.values()) / counts.total() < 0.97 for counts in frequent.values())


def test_every_template_can_be_filled() -> None:
    templates = _templates()
    assert len(templates) > 130
    for template in templates:
        slots = re.findall(r"\{([a-z]+)\d?\}", template)
        assert set(slots) <= ENTITIES.keys() | NUMBERS.keys(), template
        assert template.count("[") == template.count("]"), template
        assert template.count("{") == template.count("}") == len(slots), template


def test_text_has_no_leftover_markup() -> None:
    assert not [text for text in generate_news()[0] if re.search(r"[\[\]{}|]|  | / ", text)]


@pytest.mark.parametrize("label", range(4))
def test_every_class_has_beats_of_both_kinds(label: int) -> None:
    assert sum(beat.label == label for beat in BEATS) >= 4
    assert sum(beat.label == label for beat in CROSSOVER_BEATS) >= 1


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 120), seed=st.integers(0, 2**32))
def test_any_size_and_seed_is_distinct_balanced_and_repeatable(rows: int, seed: int) -> None:
    texts, labels, _ = generate_news(rows, seed)
    assert len(set(texts)) == len(labels) == rows
    counts = [labels.count(label) for label in range(4)]
    assert max(counts) - min(counts) <= 1
    assert generate_news(rows, seed) == (texts, labels, LABEL_NAMES)
