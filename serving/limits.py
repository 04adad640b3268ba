"""How much one endpoint takes on at a time, and how long it waits for anybody."""

from dataclasses import dataclass
from typing import Final

# On one core 4 to 16 texts run alike, 32 a tenth slower: the working set outgrows the cache.
DEFAULT_BATCH: Final = 8
DEFAULT_DEADLINE_MS: Final = 1000
LONGEST_DEADLINE_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What one endpoint takes on.

    `max_queue` counts texts that wait or are computed, over all requests together. `batch_window_ms` is how long a
    batch that is not full waits for company, where it has some already. `deadline_ms` is how long a request that names
    no deadline may wait for its turn. `request_timeout_s` runs from the first byte of a request to its last, and
    `write_timeout_s` while a client does not read its answer.
    """

    max_body_bytes: int = 1 << 20
    max_head_bytes: int = 1 << 15
    max_texts: int = 256
    max_text_chars: int = 100_000
    max_queue: int = 512
    max_batch: int = DEFAULT_BATCH
    batch_window_ms: float = 0.0
    deadline_ms: int = DEFAULT_DEADLINE_MS
    max_connections: int = 1024
    request_timeout_s: float = 10.0
    write_timeout_s: float = 20.0
    # Longer than clients idle between two requests of a slow load test: a connection closed under them is an error.
    keep_alive_s: float = 75.0
    # A client that never finishes its request may hold up the end for so long.
    drain_timeout_s: float = 20.0

    def __post_init__(self) -> None:
        counts = (self.max_body_bytes, self.max_head_bytes, self.max_texts, self.max_text_chars, self.max_batch)
        if min(*counts, self.deadline_ms, self.max_connections) < 1:
            raise ValueError(f"limits start at 1, got {self}")
        if self.max_queue < self.max_texts:
            raise ValueError(
                f"max_queue {self.max_queue} could never take a request of max_texts {self.max_texts}; raise the one "
                "or lower the other"
            )
