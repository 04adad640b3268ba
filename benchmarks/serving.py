"""The endpoint beside the bare model and beside the servers of others: rate, tail, overload, memory, start-up.

Regime: servers on one core, the load generator on another, the same int8 ONNX bundle for everyone, real texts. Closed
loops in interleaved rounds, each turn beside a loop of the bare model (tokenise, run, softmax, one text at a time) on
the same core: the answer is the ratio. Then ours alone under Poisson arrivals, near its capacity and at five times it.
Ends in one line of JSON. README.md beside this file says how to read it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from benchmarks import footprints
from benchmarks.closed_rounds import ClosedRounds, measure_rounds
from benchmarks.contenders import CONTENDERS, OURS, Contender, RunningServer, Stage
from benchmarks.instruments import Generator, RawLoop, running_generator, running_raw_loop
from benchmarks.peers_environment import cache_folder, peers_python
from benchmarks.pressure import NearCapacity, Overload, measure_near_capacity, measure_overload
from benchmarks.serving_report import Findings, by_hand, page, show, verdicts
from benchmarks.subject import SHAPES, build_bundle, checked_bundle, write_texts, write_torch_model
from deploycost.benchmarking.cores import plan_cores
from deploycost.environment import machine_facts, now
from deploycost.errors import DeploycostError, UserError, unknown_name
from serving.errors import BundleError

Say = Callable[[str], None]
# One thread for every server, as each has one core; nobody reports home meanwhile.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "ORT_DISABLE_TELEMETRY": "1",
}


@dataclass(frozen=True)
class Extent:
    """How much is measured."""

    texts: int
    rounds: int
    starts: int
    open_seconds: float
    overload_seconds: float


FULL = Extent(texts=256, rounds=6, starts=3, open_seconds=30.0, overload_seconds=60.0)
QUICK = Extent(texts=32, rounds=1, starts=1, open_seconds=2.0, overload_seconds=3.0)


def main() -> int:
    """Runs the benchmark; returns the exit code."""
    asked = _arguments()
    machine, load_before = machine_facts(), os.getloadavg()[0]
    try:
        found = _measure(asked, Console(stderr=True, highlight=False).print)
    except (DeploycostError, BundleError) as error:
        print(f"benchmarks.serving: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("benchmarks.serving: interrupted; what it had started is stopped", file=sys.stderr)
        return 130
    show(found, Console(width=150))
    # Of a folder or file its name only: the line may be published.
    paths = {name: Path(getattr(asked, name) or "").name for name in ("dataset", "bundle", "peers_venv", "page")}
    told = {
        "benchmark": "serving",
        "at": now(),
        "machine": machine.model_dump(mode="json"),
        "load_before": load_before,
        "settings": vars(asked) | paths | {"extent": asdict(_extent(asked))},
        "targets": [asdict(verdict) for verdict in verdicts(found)],
        "found": asdict(found),
    }
    if asked.page is not None:
        asked.page.write_text(page(found, told) + by_hand(asked.page), encoding="utf-8")
    print(json.dumps(told))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--dataset", default="demo", help="hub id, folder or file of the texts, or demo (default)")
    add("--bundle", type=Path, help="folder of an int8 ONNX bundle (default: one built from the demo texts)")
    add("--shape", choices=SHAPES, default=SHAPES[0], help="of the encoder in that one (default: %(default)s)")
    add("--servers", default="all", help=f"a comma list, with {OURS} (default: all)")
    add("--rounds", type=int, help=f"of closed loops; fewer than 6 have no interval (default: {FULL.rounds})")
    add("--starts", type=int, help=f"of each server, for start-up and memory (default: {FULL.starts})")
    add("--overload-seconds", type=float, help=f"of the flood (default: {FULL.overload_seconds:g})")
    add("--peers-venv", type=Path, help="environment of the other servers (default: in the user's cache)")
    add("--quick", action="store_true", help="everything once and in short: its figures mean nothing")
    add("--page", type=Path, metavar="FILE", help="write the tables to a page in Markdown, too")
    asked = parser.parse_args()
    for name in ("rounds", "starts", "overload_seconds"):
        value = getattr(asked, name)
        if value is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} {value:g}: expected 1 or more")
    return asked


def _extent(asked: argparse.Namespace) -> Extent:
    base = QUICK if asked.quick else FULL
    return Extent(
        texts=base.texts,
        rounds=asked.rounds or base.rounds,
        starts=asked.starts or base.starts,
        open_seconds=base.open_seconds,
        overload_seconds=asked.overload_seconds or base.overload_seconds,
    )


def _contenders(names: str) -> list[Contender]:
    """Those that were asked for, in the table's order; `UserError` for one that is unknown, or without ours."""
    known = [contender.name for contender in CONTENDERS]
    wanted = known if names == "all" else names.split(",")
    for name in wanted:
        if name not in known:
            raise unknown_name("server", name, known)
    if OURS not in wanted:
        raise UserError(f"--servers {names} leaves out {OURS}, which the others are held against; add it")
    return [contender for contender in CONTENDERS if contender.name in wanted]


def _measure(asked: argparse.Namespace, say: Say) -> Findings:
    contenders, extent, cores = _contenders(asked.servers), _extent(asked), plan_cores(server_threads=1)
    if not cores.apart:
        raise UserError("two cores are needed that can be pinned: one for the servers, one for the load; on Linux only")
    with TemporaryDirectory() as scratch:
        texts_path, torch_model = Path(scratch) / "texts.jsonl", Path(scratch) / "torch"
        texts = write_texts(asked.dataset, extent.texts, texts_path)
        bundle = build_bundle(say, asked.shape) if asked.bundle is None else checked_bundle(asked.bundle)
        in_torch = any(contender.serves == "torch" for contender in contenders)
        trained = write_torch_model(bundle, torch_model) if in_torch else None
        others = len(contenders) > 1
        python = peers_python(asked.peers_venv or cache_folder() / "peers", say) if others else sys.executable
        stage = Stage(bundle, torch_model, python, cores.server)
        os.environ |= _ENVIRONMENT
        os.sched_setaffinity(0, cores.client)  # this process too stays out of the servers' way
        with running_generator(texts_path, texts, cores.client) as generator:
            limit_rps = generator.limit_rps(cores.server)
            costs, failures = footprints.of_all(contenders, stage, generator, extent.starts, say)
            costs += footprints.of_siblings(stage, generator, extent.starts)
            present = [contender for contender in contenders if contender.name not in failures]
            with running_raw_loop(bundle, texts_path, cores.server) as raw:
                rounds = _rounds(present, stage, generator, raw, extent.rounds, say)
                rounds.failures.update(failures)
                near, overload = _under_pressure(stage, generator, raw, extent, say)
    return Findings(rounds, near, overload, costs, limit_rps, trained)


def _rounds(
    contenders: Sequence[Contender], stage: Stage, generator: Generator, raw: RawLoop, rounds: int, say: Say
) -> ClosedRounds:
    """Closed loops of all servers, which are started and stopped here."""
    with ExitStack() as started:
        servers: dict[str, RunningServer] = {}
        for contender in contenders:
            servers[contender.name] = started.enter_context(stage.start(contender))
            servers[contender.name].freeze()
        return measure_rounds(servers, generator, raw, rounds, say)


def _under_pressure(
    stage: Stage, generator: Generator, raw: RawLoop, extent: Extent, say: Say
) -> tuple[NearCapacity, Overload]:
    """Open loops of our server."""
    with stage.start_ours(stage.bundle) as server:
        near = measure_near_capacity(server, generator, raw, extent.open_seconds, say)
        return near, measure_overload(server, generator, extent.overload_seconds, near.p95_ms, say)


if __name__ == "__main__":
    # A terminated benchmark stops what it started, as an interrupted one does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
