"""Results of probes made up from chosen latencies."""

from collections.abc import Callable, Sequence

import pytest

from loadtests.plan import ProbePlan
from loadtests.recorder import NS_PER_MS, NS_PER_S, Answer, Recorder, Sent
from loadtests.result import ProbeResult

MakeResult = Callable[..., ProbeResult]


@pytest.fixture
def make_result() -> MakeResult:
    """A probe of one second at as many requests per second as it is given latencies; None is a failed request."""

    def make(
        latencies_ms: Sequence[float | None],
        dispatch_ms: float = 0.5,
        gave_up: str = "",
        late_ms: float = 100,
        client_cpu_ratio: float = 0.2,
    ) -> ProbeResult:
        recorder = Recorder(ProbePlan(rate_rps=len(latencies_ms), late_ms=late_ms), window_start_ns=0)
        for index, latency_ms in enumerate(latencies_ms):
            due_ns = index * NS_PER_S // len(latencies_ms)
            sent_ns = due_ns + round(dispatch_ms * NS_PER_MS)
            done_ns = due_ns + round((latency_ms or 1) * NS_PER_MS)
            answer = Answer(error="HTTP 503") if latency_ms is None else Answer(label="World")
            recorder.record(Sent(0, due_ns, sent_ns, done_ns), answer)
        return recorder.result(len(latencies_ms), NS_PER_S, gave_up, client_cpu_ratio)

    return make
