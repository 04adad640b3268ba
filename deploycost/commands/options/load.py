"""Flags of the objectives, and of how a capacity is found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from deploycost.commands.options.flag import flag_for
from deploycost.errors import UserError


@Parameter(name="*")
@dataclass(frozen=True)
class LoadFlags:
    """How a capacity is found."""

    slo_p95: Annotated[float | None, Parameter(help="95 % of answers must come within so many ms. Default: 100.")] = (
        flag_for("load.slo_p95_ms")
    )
    slo: Annotated[
        str | None,
        Parameter(
            help="Several objectives: p50, p90, p95, p99 and errors, as in p95=100ms,p99=300ms,errors=1%. p95 keeps "
            "its limit where neither it nor p99 is named."
        ),
    ] = flag_for("load.slo")
    precision: Annotated[
        str | None, Parameter(help="quick, normal or tight: time spent per variant. Default: normal.")
    ] = flag_for("load.precision")
    server_threads: Annotated[int | None, Parameter(help="Cores that the endpoint may use. Default: 1.")] = flag_for(
        "load.server_threads"
    )
    tune: Annotated[
        bool | None, Parameter(help="Seek server settings (threads, workers, batches) that carry more. Default: off.")
    ] = flag_for("load.tune")

    def __post_init__(self) -> None:
        if self.slo is not None and self.slo_p95 is not None:
            raise UserError("--slo and --slo-p95 say the same thing twice; give one of them, as in --slo p95=100ms")


@Parameter(name="*")
@dataclass(frozen=True)
class SloFlags:
    """The objective, where no capacity is found anew."""

    slo_p95: Annotated[
        float | None, Parameter(help="95 % of answers must come within so many ms. Default: the run's, else 100.")
    ] = flag_for("load.slo_p95_ms")
