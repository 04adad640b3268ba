"""The two ways a command can end without an answer, each told in one line."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class DeploycostError(Exception):
    """Base of the errors that a user sees as one line; `exit_code` is what the process returns."""

    exit_code = 2


class UserError(DeploycostError):
    """The request was wrong: says what was wrong, what was expected, and what to do. Exit code 2."""


class NoAnswer(DeploycostError):  # noqa: N818 - the request was right, so this is an answer, not an error
    """The request was right and the answer is no: nothing fits, a gate failed. Exit code 1."""

    exit_code = 1


class LoadTestFailed(DeploycostError):  # noqa: N818 - named for what happened
    """The endpoint or the load generator died, hung or never started: no capacity was measured. Exit code 2."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """A `UserError` for a name outside a closed set, with the nearest match and the names there are."""
    names = sorted(known)
    return UserError(f"unknown {kind} {name!r}{nearest(name, names)}; known: {', '.join(names) or 'none'}")


def nearest(name: str, known: Sequence[str]) -> str:
    """` (did you mean 'x'?)`, or an empty string where nothing is near."""
    match = get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (did you mean {match[0]!r}?)" if match else ""
