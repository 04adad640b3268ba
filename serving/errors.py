"""What can go wrong in the endpoint, by name: each carries one line that says what to do."""


class BundleError(Exception):
    """A bundle that cannot be written, read or served."""


class EngineError(Exception):
    """An engine that failed on an input. The message never holds the text that was classified."""


class Overloaded(Exception):  # noqa: N818 - a refusal, not a fault
    """More texts wait than the queue may hold, or the endpoint is stopping; trying again later is right."""
