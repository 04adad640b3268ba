"""News that the project writes itself, so that a demonstration needs no download and gives nobody's text away.

A seeded grammar over `demo_vocabulary` makes four-class wire stories with the length distribution of AG News
(mean 38 words, standard deviation 10, a long right tail). Three things keep the task from being solved: stories
between two classes, round-ups that tell two stories of different classes (the first decides, as an editor would
file them), and swapped labels. Accuracy on it compares methods with one another and says nothing about real text.
"""

import re
from collections.abc import Iterable, Sequence
from random import Random
from typing import TypeVar

from deploycost.demo_vocabulary import (
    BEATS,
    CONFUSABLE,
    CROSSOVER_BEATS,
    ENTITIES,
    JOINTS,
    LABEL_NAMES,
    NEUTRAL_FOLLOWS,
    NEUTRAL_HEADLINES,
    NUMBERS,
    Beat,
)

DEFAULT_ROWS = 2400
DEFAULT_SEED = 0
# Share of rows whose label is not that of the story.
NOISE_RATIO = 0.04

_CROSSOVER_RATIO = 0.30
_ROUND_UP_RATIO = 0.18
_NEUTRAL_HEADLINE_RATIO = {False: 0.30, True: 0.80}
_NEUTRAL_FOLLOW_RATIO = 0.50
_DATELINE_RATIO = 0.35
_CUT_RATIO = 0.10
# Share and range of words of the short items, of the long ones, and of the rest (triangular: the mean of two draws).
_SHORT_RATIO, _SHORT_WORDS = 0.02, (10, 18)
_LONG_RATIO, _LONG_WORDS = 0.015, (70, 125)
_USUAL_WORDS = (18, 51)

_T = TypeVar("_T")

_ALTERNATIVES = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{([a-z]+)(\d?)\}")


def generate_news(
    rows: int = DEFAULT_ROWS, seed: int = DEFAULT_SEED, noise_ratio: float = NOISE_RATIO
) -> tuple[list[str], list[int], tuple[str, ...]]:
    """Distinct texts, their labels (ids 0..3) and the label names in id order.

    Classes differ by one row at most, with noise too: labels are swapped between two stories of different
    classes. Texts and their order depend on `rows` and `seed` only, so `noise_ratio=0` gives the true labels
    of the same texts. Draws use nothing but `Random.random()`, the one method that Python promises to keep.
    """
    draw = _Draw(seed)
    stories: dict[str, int] = {}
    while len(stories) < rows:
        label = len(stories) % len(LABEL_NAMES)
        stories.setdefault(_story(draw, label), label)
    order = draw.shuffled(stories)
    labels = [stories[text] for text in order]
    _swap_labels(labels, noise_ratio, draw)
    return order, labels, LABEL_NAMES


class _Draw:
    """Choices made from `Random.random()` alone."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def chance(self, ratio: float) -> bool:
        return self._random.random() < ratio

    def whole(self, low: int, high: int) -> int:
        return low + int(self._random.random() * (high - low + 1))

    def one(self, items: Sequence[_T]) -> _T:
        return items[self.whole(0, len(items) - 1)]

    def shuffled(self, items: Iterable[_T]) -> list[_T]:
        return [item for _, _, item in sorted((self._random.random(), at, item) for at, item in enumerate(items))]


class _Names:
    """The names of one story: each slot keeps its first draw, and `{city2}` is never `{city}`."""

    def __init__(self, draw: _Draw) -> None:
        self._draw = draw
        self._chosen: dict[str, str] = {}

    def fill(self, template: str) -> str:
        text = _ALTERNATIVES.sub(lambda match: self._draw.one(match[1].split("|")), template)
        text = " ".join(_SLOT.sub(self._value, text).split())
        return text[0].upper() + text[1:]

    def _value(self, match: re.Match[str]) -> str:
        kind, slot = match[1], match[0]
        if kind in NUMBERS:
            return str(self._draw.whole(*NUMBERS[kind]))
        while slot not in self._chosen:
            name = self._draw.one(ENTITIES[kind])
            if name not in self._chosen.values():
                self._chosen[slot] = name
        return self._chosen[slot]


def _story(draw: _Draw, label: int) -> str:
    names = _Names(draw)
    beat = draw.one(_beats(draw, of=label))
    round_up = draw.chance(_ROUND_UP_RATIO)
    neutral = draw.chance(_NEUTRAL_HEADLINE_RATIO[round_up])
    headline = draw.one(NEUTRAL_HEADLINES if neutral else beat.headlines)
    words = names.fill(headline).split() + _dateline(draw, names) + names.fill(draw.one(beat.leads)).split()
    if round_up:
        words += _other_item(draw, label)
    target = _target_words(draw)
    for template in _follows(draw, () if round_up else beat.follows):
        sentence = names.fill(template).split()
        if len(words) + len(sentence) // 2 > target:
            break
        words += sentence
    if len(words) > target and (target <= _SHORT_WORDS[1] or draw.chance(_CUT_RATIO)):
        return " ".join(words[:target]).rstrip(".,:") + "..."
    return " ".join(words)


def _beats(draw: _Draw, of: int) -> list[Beat]:
    beats = CROSSOVER_BEATS if draw.chance(_CROSSOVER_RATIO) else BEATS
    return [beat for beat in beats if beat.label == of]


def _other_item(draw: _Draw, label: int) -> list[str]:
    """The second item of a round-up: a lead of another class, with names of its own."""
    other = draw.one([other for other in range(len(LABEL_NAMES)) if other != label])
    names = _Names(draw)
    return names.fill(f"{draw.one(JOINTS)}: {draw.one(draw.one(_beats(draw, of=other)).leads)}").split()


def _dateline(draw: _Draw, names: _Names) -> list[str]:
    if not draw.chance(_DATELINE_RATIO):
        return []
    return [*names.fill("{city}").upper().split(), *names.fill("({agency}) -").split()]


def _target_words(draw: _Draw) -> int:
    if draw.chance(_SHORT_RATIO):
        return draw.whole(*_SHORT_WORDS)
    if draw.chance(_LONG_RATIO):
        return draw.whole(*_LONG_WORDS)
    return (draw.whole(*_USUAL_WORDS) + draw.whole(*_USUAL_WORDS)) // 2


def _follows(draw: _Draw, of_beat: Sequence[str]) -> list[str]:
    """Templates of the sentences after the lead, in order: those of the beat and neutral ones, mixed."""
    own, neutral = draw.shuffled(of_beat), draw.shuffled(NEUTRAL_FOLLOWS)
    follows = []
    while own or neutral:
        source = neutral if not own or (neutral and draw.chance(_NEUTRAL_FOLLOW_RATIO)) else own
        follows.append(source.pop(0))
    return follows


def _swap_labels(labels: list[int], noise_ratio: float, draw: _Draw) -> None:
    """Swaps labels in place between stories of confusable classes, no story twice."""
    left = [[at for at, label in enumerate(labels) if label == wanted] for wanted in range(len(LABEL_NAMES))]
    for turn in range(int(noise_ratio * len(labels) / 2)):
        first, second = CONFUSABLE[turn % len(CONFUSABLE)]
        one, other = (left[label].pop(draw.whole(0, len(left[label]) - 1)) for label in (first, second))
        labels[one], labels[other] = second, first
