"""What can be wrong with prices or with a question about them."""

from collections.abc import Iterable
from difflib import get_close_matches


class PriceError(Exception):
    """A price file is damaged, or something was asked that the prices do not hold. One line, for people."""


def nearest_names(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'x' or 'y'?)` for the names most like `name`, case aside; empty where nothing is near."""
    by_lower = {each.lower(): each for each in known}
    matches = get_close_matches(name.lower(), sorted(by_lower), n=3, cutoff=0.6)
    return f" (did you mean {' or '.join(repr(by_lower[match]) for match in matches)}?)" if matches else ""
