"""How flags become an `Experiment`, and which of them are refused because nothing would read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from deploycost.commands.options.building import BringFlags, BuildFlags, ExportFlags
from deploycost.commands.options.flag import asked_field, flag_name
from deploycost.commands.options.load import LoadFlags, SloFlags
from deploycost.commands.options.price import ChoiceFlags, PriceFlags
from deploycost.errors import UserError
from deploycost.experiment import Experiment, MethodName, make_experiment, read_experiment
from deploycost.methods import readers_of
from deploycost.workspace import Run

# Of the flags of training, those that a brought model reads as its own: flag, and field of its `BroughtSpec`.
_OF_BROUGHT = {"model": "base", "bits": "bits", "max_tokens": "max_tokens"}
# Those of the texts that it is judged on, and of what is made of it.
_OF_TEXTS = (
    "dataset", "text_column", "label_column", "train_rows", "test_rows", "artifacts", "seed",
    "trim_vocabulary", "accuracy_aware",
)  # fmt: skip


def asked(
    run: Run,
    file: Path | None,
    *flags: BuildFlags | ExportFlags | LoadFlags | SloFlags | PriceFlags | ChoiceFlags | None,
    bring: BringFlags | None = None,
) -> Experiment:
    """The experiment that a command asks for: the file's, else the run's, else the default, with the flags over it.

    One that brings a model asks for no method, one that names methods for no model that was brought before.

    Raises:
        UserError: all mistakes in one line.
    """
    kept = run.experiment() if run.has_results else Experiment()
    return with_flags(kept if file is None else read_experiment(file), *flags, bring=bring)


def with_flags(
    base: Experiment,
    *flags: BuildFlags | ExportFlags | LoadFlags | SloFlags | PriceFlags | ChoiceFlags | None,
    bring: BringFlags | None = None,
) -> Experiment:
    """An experiment with flags over it.

    Raises:
        UserError: all mistakes in one line.
    """
    content = base.model_dump(mode="json")
    build = next((group for group in flags if isinstance(group, BuildFlags)), None)
    if bring is not None and bring != BringFlags():
        brought = _brought(bring, build)
        content |= {"methods": [], "brought": [brought]}
        others = tuple(group for group in flags if group is not build)
        flags = others if build is None else (replace(build, **dict.fromkeys(_OF_BROUGHT)), *others)
    elif build is not None and build.method is not None:
        content["brought"] = []
    for group in flags:
        for flag in fields(group) if group is not None else ():
            value = getattr(group, flag.name)
            if value is not None:
                _set(content, asked_field(flag).split("."), value)
    return make_experiment(content)


def _brought(bring: BringFlags, build: BuildFlags | None) -> dict[str, Any]:
    """What is asked of a model that is brought, as a `BroughtSpec` takes it.

    Raises:
        UserError: flags of training are among those given, or nothing is brought.
    """
    if bring.source is None:
        given = [f"--{flag.name}" for flag in fields(bring) if getattr(bring, flag.name) is not None]
        raise UserError(
            f"{', '.join(given)} {'is' if len(given) == 1 else 'are'} of a model that is brought: name it with --from, "
            "or leave the flag out"
        )
    given = [flag for flag in fields(BuildFlags) if build is not None and getattr(build, flag.name) is not None]
    unread = [flag_name(flag) for flag in given if flag.name not in (*_OF_BROUGHT, *_OF_TEXTS)]
    if unread:
        raise UserError(f"--from brings a model that is trained already: leave out {', '.join(unread)}")
    spec = {"source": bring.source, "name": bring.name, "task": bring.task, "tokenizer": bring.tokenizer}
    spec |= {place: getattr(build, name) for name, place in _OF_BROUGHT.items()} if build is not None else {}
    return {place: value for place, value in spec.items() if value is not None}


def require_readers(flags: BuildFlags | None, methods: Sequence[MethodName]) -> None:
    """Refuses flags that were given and that none of the methods chosen reads.

    Raises:
        UserError: all of them in one line, each with the methods that read it.
    """
    given = [flag_name(flag) for flag in fields(BuildFlags) if getattr(flags, flag.name, None) is not None]
    readers = {flag: readers_of(flag) for flag in given}
    unread = [f"{flag} (of {', '.join(own)})" for flag, own in readers.items() if own and not set(own) & set(methods)]
    if unread:
        raise UserError(
            f"the methods chosen ({', '.join(methods)}) make no use of {' or of '.join(unread)}; "
            "leave it out, or choose another --method"
        )


def _set(content: dict[str, Any], path: list[str], value: Any) -> None:  # noqa: ANN401 - JSON
    for part in path[:-1]:
        content = content[part]
    content[path[-1]] = value
