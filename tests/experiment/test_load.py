"""Objectives said in one line: spread over the fields that they set, and every mistake told at once."""

import pytest

from deploycost.errors import UserError
from deploycost.experiment import make_experiment


def test_several_objectives_at_once() -> None:
    load = make_experiment({"load": {"slo": "p50=20ms, p95=0.1s,p99=300ms,errors=1%"}}).load
    assert (load.slo_p50_ms, load.slo_p90_ms, load.slo_p95_ms, load.slo_p99_ms) == (20, None, 100, 300)
    assert load.max_error_ratio == pytest.approx(0.01)
    # They replace those before, but for what is not named of p95 and errors.
    kept = {**load.model_dump(), "slo": "p90=40ms"}
    again = make_experiment({"load": kept}).load
    assert (again.slo_p50_ms, again.slo_p90_ms, again.slo_p95_ms, again.slo_p99_ms) == (None, 40, 100, None)
    # p95 is within whatever p99 is within.
    assert make_experiment({"load": {"slo": "p99=300ms"}}).load.slo_p95_ms == 300
    assert make_experiment({"load": {"slo": "errors=0.5%"}}).load.max_error_ratio == pytest.approx(0.005)


def test_all_mistakes_in_objectives_are_told_at_once() -> None:
    with pytest.raises(UserError) as error:
        make_experiment({"load": {"slo": "p59=100ms,p95=100,p99,errors=1ms,p90=1ms,p90=2ms"}})
    for part in ("unknown 'p59'", "'p95=100': expected ms or s",
                 "'p99' is not like p95=100ms", "'errors=1ms': expected a share", "p90 is given twice"):  # fmt: skip
        assert part in str(error.value)
    with pytest.raises(UserError, match="greater than 0"):
        make_experiment({"load": {"slo": "p95=0ms"}})
