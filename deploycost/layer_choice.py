"""Which layers of an encoder a prompt stands on, from the words a user says it in."""

from __future__ import annotations

from deploycost.errors import UserError

_THIRDS = ("early", "middle", "late")


def resolve_layers(layers: str, count: int) -> tuple[int, ...]:
    """The layers meant, counted from 0, ascending, each once.

    Args:
        layers: `early`, `middle` or `late` (thirds, their bounds rounded), `all`, or numbers from 1 as in `1-2` or
            `1,3-4`.
        count: How many layers the encoder has.

    Raises:
        UserError: a layer does not exist, or a third of so few layers is empty.
    """
    if layers == "all":
        return tuple(range(count))
    if layers in _THIRDS:
        third = _THIRDS.index(layers)
        chosen = range(round(third * count / 3), round((third + 1) * count / 3))
        if not chosen:
            raise UserError(
                f"an encoder of {count} layers has no {layers} third; give its layers as numbers: --prompt-layers 1"
            )
        return tuple(chosen)
    numbers: set[int] = set()
    for part in layers.split(","):
        first, _, last = part.partition("-")
        span = range(int(first), int(last or first) + 1)
        if not span or span[0] < 1 or span[-1] > count:
            raise UserError(
                f"prompt layers {layers!r}: {part} is not among the layers 1 to {count} of this encoder; "
                f"give numbers in that range, or early, middle, late, all"
            )
        numbers.update(span)
    return tuple(number - 1 for number in sorted(numbers))
