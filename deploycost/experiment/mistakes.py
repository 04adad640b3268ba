"""Mistakes of a user's file as pydantic found them, told as people read them."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from deploycost.errors import nearest


def told_mistakes(error: ValidationError, model: type[BaseModel]) -> str:
    """All mistakes that pydantic found in a `model`, in one line: each with its path and the nearest known name."""
    mistakes = error.errors()
    # A list left empty by a bad member is the same mistake told twice: keep the member's.
    inner = [m for m in mistakes if not any(o["loc"][: len(m["loc"])] == m["loc"] for o in mistakes if o is not m)]
    return "; ".join(_mistake(item, model) for item in inner)


def _mistake(item: Any, model: type[BaseModel]) -> str:  # noqa: ANN401 - pydantic's ErrorDetails
    if item["type"] == "value_error" and not item["loc"]:
        return str(item["ctx"]["error"])  # of the whole, which says itself what of it
    place = ".".join(str(part) for part in item["loc"]) or model.__name__.lower()
    if item["type"] == "extra_forbidden":
        return f"{place}: unknown field{nearest(str(item['loc'][-1]), _field_names(model, item['loc'][:-1]))}"
    if item["type"] == "literal_error":
        known = item["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        return f"{place}: unknown {item['input']!r}{nearest(str(item['input']), known)}; known: {', '.join(known)}"
    if item["type"] == "value_error" and isinstance(item["input"], dict):
        return f"{place}: {item['ctx']['error']}"  # of fields that do not go together
    return f"{place}: {item['msg'][0].lower()}{item['msg'][1:]}, got {item['input']!r}"


def _field_names(model: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    for part in path:
        if isinstance(part, int):
            continue  # a place in a list of the same kind
        field = model.model_fields.get(str(part))
        inside = (field.annotation, *get_args(field.annotation)) if field else ()
        models = [each for each in inside if isinstance(each, type) and issubclass(each, BaseModel)]
        if not models:
            return []
        model = models[0]
    return list(model.model_fields)
