"""The requests of a service that is not ours, as its user describes them: where texts go, and where answers are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

METHODS = ("POST", "PUT", "PATCH")
PLACEHOLDERS = {"{{text}}": "text", "{{texts}}": "texts"}
_MISSING = object()


@dataclass(frozen=True)
class Template:
    """A request with a place for its texts, and where in the JSON of an answer to look.

    `body` is JSON in which the string `{{text}}` stands for one text, or `{{texts}}` for a list of them. `pointer` is a
    JSON pointer (RFC 6901) to what makes an answer a good one: anything but null, or `expected` where that is given.

    Raises:
        ValueError: all that is wrong, in one line.
    """

    path: str
    body: Any
    pointer: str
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)
    expected: Any = None

    def __post_init__(self) -> None:
        mistakes = []
        if self.method not in METHODS:
            mistakes.append(f"method must be one of {', '.join(METHODS)}, got {self.method!r}")
        if not _is_line(self.path) or not self.path.startswith("/") or " " in self.path:
            mistakes.append(f"path must start with / and hold no spaces, got {self.path!r}")
        if not isinstance(self.pointer, str) or (self.pointer and not self.pointer.startswith("/")):
            mistakes.append(f"pointer must be a JSON pointer such as /label or /outputs/0/data/0, got {self.pointer!r}")
        if not isinstance(self.headers, dict) or not all(
            _is_line(part) for item in self.headers.items() for part in item
        ):
            mistakes.append("headers must be names and values, each a string of one line")
        if len(_placeholders(self.body)) != 1:
            mistakes.append(f"body must hold one of {' and '.join(PLACEHOLDERS)} as a string of its own")
        if mistakes:
            raise ValueError("; ".join(mistakes))

    @property
    def placeholder(self) -> str:
        """`text` or `texts`."""
        return _placeholders(self.body)[0]

    def filled(self, texts: Sequence[str]) -> bytes:
        """The body for these texts; one where the placeholder is `text`."""
        return json.dumps(_filled(self.body, texts)).encode()

    def judge(self, content: Any) -> tuple[str, str]:  # noqa: ANN401 - JSON
        """What was found at the pointer, as a label, and what is wrong with it, either of them empty."""
        found = pointed(content, self.pointer)
        if found is _MISSING or found is None:
            return "", f"nothing at {self.pointer or 'the root'}"
        if self.expected is not None and found != self.expected:
            return "", f"not the expected value at {self.pointer}"
        return found if isinstance(found, str) else json.dumps(found), ""


def read_template(path: str) -> Template:
    """The template in a YAML or JSON file.

    Raises:
        ValueError: the file cannot be read, or is not a template; one line.
    """
    import yaml

    try:
        # Every JSON document is a YAML document.
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"cannot read the template {path}: {' '.join(str(error).split())}") from None
    known = [item.name for item in fields(Template)]
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a template with {', '.join(known)}")
    unknown = sorted(str(name) for name in content if name not in known)
    missing = [name for name in ("path", "body", "pointer") if name not in content]
    if unknown or missing:
        told = [f"unknown: {', '.join(unknown)}"] * bool(unknown) + [f"missing: {', '.join(missing)}"] * bool(missing)
        raise ValueError(f"{path}: {'; '.join(told)}; a template has {', '.join(known)}")
    try:
        return Template(**content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def pointed(content: Any, pointer: str) -> Any:  # noqa: ANN401 - JSON
    """What a JSON pointer leads to, or a value of its own where it leads nowhere."""
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(content, dict) and name in content:
            content = content[name]
        elif isinstance(content, list) and name.isdecimal() and int(name) < len(content):
            content = content[int(name)]
        else:
            return _MISSING
    return content


def _placeholders(body: Any) -> list[str]:  # noqa: ANN401 - JSON
    if isinstance(body, dict):
        return [found for value in body.values() for found in _placeholders(value)]
    if isinstance(body, list):
        return [found for value in body for found in _placeholders(value)]
    return [PLACEHOLDERS[body]] if isinstance(body, str) and body in PLACEHOLDERS else []


def _filled(body: Any, texts: Sequence[str]) -> Any:  # noqa: ANN401 - JSON
    if isinstance(body, dict):
        return {name: _filled(value, texts) for name, value in body.items()}
    if isinstance(body, list):
        return [_filled(value, texts) for value in body]
    if isinstance(body, str) and body in PLACEHOLDERS:
        return texts[0] if PLACEHOLDERS[body] == "text" else list(texts)
    return body


def _is_line(value: object) -> bool:
    return isinstance(value, str) and "\r" not in value and "\n" not in value
