"""What can go wrong in the endpoint, by name: each carries one line that says what to do."""


class BundleError(Exception):
    """A bundle that cannot be written, read or served."""


class EngineError(Exception):
    """An engine that failed on an input. The message never holds the text that was classified."""


class ConfigurationError(Exception):
    """A key or certificate file that cannot be used."""


class Overloaded(Exception):  # noqa: N818 - a refusal, not a fault
    """A right request at the wrong time: the queue is full, the deadline is out of reach, or the endpoint is stopping.

    `reason` is one word for the metrics, `retry_after_s` when trying again is worth it.
    """

    def __init__(self, message: str, reason: str = "queue_full", retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after_s = retry_after_s


def first_line(error: Exception) -> str:
    """The first line of a library's error, short enough to be read."""
    return str(error).partition("\n")[0][:200]
