"""How much one endpoint takes on at a time."""

from dataclasses import dataclass
from typing import Final

# On one core 4 to 16 texts run alike, 32 a tenth slower: the working set outgrows the cache.
DEFAULT_BATCH: Final = 8


@dataclass(frozen=True, slots=True)
class Limits:
    """What one endpoint takes on. `max_queue` counts texts that wait or are computed, over all requests together."""

    max_body_bytes: int = 1 << 20
    max_texts: int = 256
    max_queue: int = 512
    max_batch: int = DEFAULT_BATCH

    def __post_init__(self) -> None:
        if min(self.max_body_bytes, self.max_texts, self.max_batch) < 1:
            raise ValueError(f"limits start at 1, got {self}")
        if self.max_queue < self.max_texts:
            raise ValueError(f"max_queue {self.max_queue} could never take a request of max_texts {self.max_texts}")
