"""Bursts at the capacity are no reason to give a probe up, whatever the server; an overrun is."""

from benchmarks.hopeless_probes import RATIOS, give_up_rates, section


def test_probes_are_given_up_where_they_are_hopeless_alone() -> None:
    found = give_up_rates(30)
    assert len(found) == 5 * len(RATIOS)
    for each in found:
        if each.ratio < 1:
            assert not each.given_up, each.queue
        elif each.ratio == 1:
            # A spell of the slow one may last as long as a probe.
            assert each.given_up <= (3 if "slow" in each.queue else 0), each.queue
        elif each.ratio == 5:
            assert each.given_up == 30, each.queue
            assert each.seconds < 0.75 * each.patient_seconds
    assert len(section(found).rows) == len(found)
