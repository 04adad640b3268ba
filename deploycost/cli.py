"""The `deploycost` command: names of commands as strings, so that `--help` and `quote` load nothing heavy."""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, get_args

from cyclopts import App, CoercionError, CycloptsError, Parameter, convert

from deploycost import __version__
from deploycost.errors import DeploycostError
from deploycost.termination import interrupted_code, sigterm_interrupts

# Of disks, and of paths that a user gave.
_TOLD_OF_FILES = frozenset(
    {
        errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR,
        errno.EISDIR, errno.ELOOP,
    }
)  # fmt: skip

_COMMANDS = (
    ("run", "Everything: build, load-test, quote, recommend and report."),
    ("build", "Fine-tune, merge, export, quantise and verify the variants of a run."),
    ("loadtest", "Find the capacity of variants over HTTP, with Locust."),
    ("quote", "Price variants on cloud machines: per million predictions and per month."),
    ("project", "Project latency and throughput to hardware that was not measured."),
    ("calibrate", "Measure what this machine computes at best, for projections from and to it."),
    ("recommend", "Say which variant to deploy on which machine, or which method to train by, and why."),
    ("report", "Write report.html, report.md and report.json from the records of a run."),
    ("methods", "Explain every fine-tuning method: flags, memory on a base model, cost when served."),
    ("artifacts", "Explain every artifact: engine, precision, and whether this machine can build and serve it."),
    ("study", "Repeat a study of the literature: a grid of methods and seeds, tables, figures, findings."),
    ("serve", "Serve one variant over HTTP until Ctrl-C."),
    ("doctor", "Say what this machine can do, and what is missing."),
)

# Over in a moment: what they make lives until they end, and looking it through for garbage takes a tenth of their time.
_SHORT = frozenset({"quote", "prices", "project", "methods", "artifacts"})


def _convert(wanted: Any, tokens: Any) -> Any:  # noqa: ANN401 - any type of a flag, and cyclopts' tokens
    """Cyclopts' own conversion of what was given, but that it rounds: no fraction is taken for a whole number.

    Raises:
        CoercionError: one was given for a whole number.
    """
    if wanted is int or int in get_args(wanted):
        for token in tokens:
            if "." in token.value:
                raise CoercionError(token=token, target_type=int)
    return convert(wanted, tokens)


_EXACT = Parameter(converter=_convert)

app = App(
    name="deploycost",
    help="Fine-tune a text classifier every way, serve it, load-test it, and quote what a prediction costs.\n\n"
    "Start with: deploycost run --model minilm --dataset demo",
    version=__version__,
    result_action="return_value",
    default_parameter=_EXACT,
    suppress_keyboard_interrupt=False,  # told in `main`
)
for _name, _help in _COMMANDS:
    app.command(f"deploycost.commands.{_name}:{_name}", name=_name, help=_help)

prices = App(name="prices", help="The price book: dated, sourced prices of cloud machines.", default_parameter=_EXACT)
prices.command("deploycost.commands.prices:list_prices", name="list", help="List the prices of machines.")
prices.command("deploycost.commands.prices:show_price", name="show", help="Everything known of one machine.")
prices.command("deploycost.commands.prices:check_prices", name="check", help="How old prices are, and what is unknown.")
for _name, _help in (
    ("refresh", "Fetch today's prices of a cloud into your own price files."),
    ("add", "Keep price rows or discounts of your own."),
    ("remove", "Forget price rows or discounts that were added."),
):
    prices.command(f"deploycost.commands.price_files:{_name}_prices", name=_name, help=_help)
app.command(prices)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code: 0 done, 1 the answer is no, 2 the request was wrong.

    A user's mistake ends in one line on standard error, never in a traceback.
    """
    try:
        with sigterm_interrupts(), _garbage_kept(sys.argv[1:] if arguments is None else arguments):
            code = app(arguments, exit_on_error=False, print_error=False)
        if sys.stdout is not None:  # closed by whoever started us
            sys.stdout.flush()
    except DeploycostError as error:
        return _complain(str(error), error.exit_code)
    except CycloptsError as error:
        return _complain(" ".join(str(error).split()) + " Try 'deploycost --help'.", 2)
    except KeyboardInterrupt as interrupt:
        told = "interrupted; finished stages are kept, the same command goes on from them"
        return _complain(told, interrupted_code(interrupt))
    except BrokenPipeError:
        _let_go_of_output()
        return 0  # the reader of our output has seen enough, as in `deploycost prices list | head`
    except OSError as error:
        if error.errno not in _TOLD_OF_FILES:
            raise
        _let_go_of_output()
        return _complain(f"{error.strerror}: {error.filename or 'writing results'}; earlier results are intact", 2)
    return code if isinstance(code, int) else 0


@contextmanager
def _garbage_kept(arguments: Sequence[str]) -> Iterator[None]:
    """No cycles of objects are collected while a short command runs; all others run as ever."""
    if not gc.isenabled() or not _SHORT.intersection(arguments[:1]) or "refresh" in arguments[1:2]:
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # what is left lives until the process ends, which would look it all through once more
        gc.enable()


def _let_go_of_output() -> None:
    """Keeps Python from writing what is left once more when it ends, which would fail again, with an exit code of 120.

    See https://docs.python.org/3/library/signal.html#note-on-sigpipe.
    """
    if sys.stdout is None:  # closed by whoever started us
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(line: str, exit_code: int) -> int:
    print(f"deploycost: {line}", file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
