"""How long the texts in hand will take, so that a request whose deadline is out of reach is refused at once.

Work is counted in characters that the model can read, plus a fixed share per text and a small one for characters that
are only tokenised. Tokens would be closer, but a text is tokenised by the engine, and a refusal must not cost engine
time. What a unit of work takes is learnt from every batch, so the forecast follows the machine, the model and the
batching as they are.
"""

from collections.abc import Sequence
from typing import Final

# What a text costs beside its characters, in characters: special tokens, and a run of the engine's own overhead.
TEXT_WORK: Final = 24
# Characters of one token where text is dense; what is beyond max_tokens of them is tokenised and cut off.
CHARS_PER_TOKEN: Final = 5
# So many of those take as long as one that is read: 100,000 took 25 to 35 ms where the 600 that a 6-layer int8 encoder
# read took 10 to 12, on one core. A larger model takes longer for what it reads, and no longer for the rest.
CHARS_BEYOND: Final = 64
# Share of the newest batch in what a unit of work is thought to take: ten batches forget nine tenths of the past.
NEWEST_SHARE: Final = 0.2
# An answer that is promised is to be kept: batches differ, and the machine is not ours alone.
PROMISE_FACTOR: Final = 1.25


def work_of(texts: Sequence[str], max_tokens: int) -> int:
    """Units of work in `texts`, for a model that reads `max_tokens` tokens of each."""
    most = CHARS_PER_TOKEN * max_tokens
    beyond = sum([max(0, len(text) - most) // CHARS_BEYOND for text in texts])
    return beyond + sum([min(len(text), most) + TEXT_WORK for text in texts])


class Forecast:
    """Seconds per unit of work: an exponentially weighted mean over batches; 0 until the first is known."""

    def __init__(self) -> None:
        self.seconds_per_unit = 0.0

    def learn(self, work: int, seconds: float) -> None:
        """Take in what a batch of `work` units took."""
        newest = seconds / work
        known = self.seconds_per_unit
        self.seconds_per_unit = known + NEWEST_SHARE * (newest - known) if known else newest

    def seconds(self, work: int) -> float:
        """What `work` units are expected to take."""
        return work * self.seconds_per_unit

    def in_reach(self, work: int, left_s: float) -> bool:
        """Whether `work` units can be promised within `left_s` seconds."""
        return PROMISE_FACTOR * self.seconds(work) <= left_s
