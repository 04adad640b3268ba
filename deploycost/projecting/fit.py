"""Fits the projection to the shipped evidence, offline: `python -m deploycost.projecting.fit [--search]`.

Writes `data/fitted.json`: the parameters of `Utilisation`, what each metric is of a batch's time, and how wide an
interval must be to have held nine in ten of the measurements that were left out, by kind of target. Without `--search`
the parameters are kept and the rest is found again from them.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from math import ceil, exp, log
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from deploycost.projecting.evidence_base import BASE_METRICS, Evidence, evidence_of
from deploycost.projecting.fitted import FITTED_FILE, Fitted, MetricFactor, Novelty, read_fitted
from deploycost.projecting.observations import Metric, Observation, Setting, shipped_observations
from deploycost.projecting.utilisation import COMPONENTS, LAYER_COSTS, LENGTHS, Array, Parameters, Utilisation

COVERED = 0.9
# A factor of a metric needs so many settings where both were measured.
_LEAST_PAIRS = 4
_START = Parameters(
    layer_seconds={"fused": 20e-6, "graph": 60e-6, "eager": 200e-6, "cpu": 30e-6},
    peak_ratio=0.5,
    deviations=dict(zip(COMPONENTS, (0.3, 0.3, 0.3, 0.2, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05), strict=True)),
    lengths=dict(zip(LENGTHS, (1.5, 2.0, 2.0, 1.5, 1.5, 1.5, 1.5, 1.5, 3.0, 1.5), strict=True)),
)
# How much each way of leaving out counts in the search.
_SEARCH_WEIGHTS: dict[Novelty, float] = {"device": 1.0, "runtime": 1.0, "length": 1.0}


def groups_of(settings: Sequence[Setting]) -> dict[Novelty, list[list[int]]]:
    """The ways of leaving out, each a partition of the settings by index.

    `device`: all that was measured on a device. `runtime`: on a device by one class of runtimes. `length`: on a device
    by a class at one token length.
    """
    keys: dict[Novelty, list[tuple[Any, ...]]] = {
        "device": [(s.place.device.family,) for s in settings],
        "runtime": [s.device_class for s in settings],
        "length": [(*s.device_class, s.tokens) for s in settings],
    }
    parted: dict[Novelty, list[list[int]]] = {}
    for novelty, names in keys.items():
        groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        for index, name in enumerate(names):
            groups[name].append(index)
        parted[novelty] = list(groups.values())
    return parted


def metric_factors(observations: Iterable[Observation]) -> dict[str, MetricFactor]:
    """What a metric is over the base of its setting, by `class/metric` and `kind/metric`."""
    by_setting: dict[Setting, dict[Metric, float]] = defaultdict(dict)
    for each in observations:
        by_setting[each.setting][each.metric] = each.log_seconds
    ratios: dict[str, list[float]] = defaultdict(list)
    for setting, known in by_setting.items():
        base = next(m for m in BASE_METRICS if m in known)
        for metric, seconds in known.items():
            if metric != base:
                ratios[f"{setting.class_name}/{metric}"].append(seconds - known[base])
                ratios[f"{setting.place.device.kind}/{metric}"].append(seconds - known[base])
    factors = {}
    for name, values in sorted(ratios.items()):
        if len(values) >= _LEAST_PAIRS:
            middle = median(values)
            spread = 1.4826 * median(abs(value - middle) for value in values)
            factors[name] = MetricFactor(log_factor=round(middle, 4), spread=round(spread, 4))
    return factors


class LeftOut(NamedTuple):
    """A row that was predicted without its group: the error of its logarithm, the deviation claimed, and both names."""

    observation: Observation
    group: tuple[Any, ...]
    error: float
    deviation: float


def left_out(fitted: Fitted, observations: Sequence[Observation], novelty: Novelty) -> list[LeftOut]:
    """Every row predicted without its group. The factor of its metric is that of all rows."""
    evidence = evidence_of(observations)
    model = Utilisation(fitted.parameters, evidence.settings, evidence.log_seconds)
    groups = groups_of(evidence.settings)[novelty]
    residuals, deviations = model.left_out(groups)
    index = {setting: number for number, setting in enumerate(evidence.settings)}
    group_of = {number: tuple(group) for group in groups for number in group}
    told = []
    for each in observations:
        number = index[each.setting]
        predicted = evidence.log_seconds[number] - residuals[number]
        factor = fitted.factor(each.setting, each.metric)
        # A setting's own base metric has no factor over itself.
        is_base = each.log_seconds == evidence.log_seconds[number]
        log_factor, spread = (0.0, 0.0) if is_base else (factor.log_factor, factor.spread)
        told.append(
            LeftOut(
                each,
                group_of[number],
                each.log_seconds - predicted - log_factor,
                float(np.hypot(deviations[number], spread)),
            )
        )
    return told


def widths(rows: Sequence[LeftOut]) -> float:
    """Deviations that an interval must reach to both sides to have held nine in ten of the rows (Vovk et al., 2005)."""
    scores = sorted(abs(row.error) / row.deviation for row in rows)
    rank = min(len(scores), ceil(COVERED * (len(scores) + 1)))
    return scores[rank - 1]


def find_widths(fitted: Fitted, observations: Sequence[Observation]) -> dict[str, float]:
    """The width of intervals by `kind/novelty`."""
    found = {}
    novelties: tuple[Novelty, ...] = ("device", "runtime", "length")
    for novelty in novelties:
        rows = left_out(fitted, observations, novelty)
        kinds = {row.observation.setting.place.device.kind for row in rows}
        for kind in sorted(kinds):
            own = [row for row in rows if row.observation.setting.place.device.kind == kind]
            found[f"{kind}/{novelty}"] = round(widths(own), 3)
    return found


def search(evidence: Evidence, start: Parameters = _START, steps: int = 40) -> Parameters:
    """The parameters under which what is left out is least surprising, by each way of leaving out.

    The score of a row is that of Student's t with four degrees of freedom, so that freaks do not rule.
    """
    from scipy.optimize import minimize

    groups = groups_of(evidence.settings)

    def score(vector: Array) -> float:
        model = Utilisation(_unpacked(vector), evidence.settings, evidence.log_seconds)
        total = 1e-3 * float(np.sum((vector - first) ** 2))
        try:
            for novelty, weight in _SEARCH_WEIGHTS.items():
                residuals, deviations = model.left_out(groups[novelty])
                scores = np.log(deviations) + 2.5 * np.log1p((residuals / deviations) ** 2 / 4)
                total += weight * float(np.mean(scores))
        except np.linalg.LinAlgError:
            return 1e6
        return total

    def tell(vector: Array) -> None:
        print(f"{score(vector):.4f}", file=sys.stderr, flush=True)

    first = _packed(start)
    middle = len(LAYER_COSTS) + 1
    bounds = [(value - 2, value + 2) for value in first[:middle]]
    bounds += [(log(0.01), log(2.0))] * len(COMPONENTS) + [(log(0.3), log(30.0))] * len(LENGTHS)
    options = {"maxiter": steps, "maxfun": 10_000}
    found = minimize(score, first, method="L-BFGS-B", bounds=bounds, callback=tell, options=options)
    return _unpacked(found.x)


def _packed(parameters: Parameters) -> Array:
    values = [
        *(parameters.layer_seconds[name] for name in LAYER_COSTS),
        parameters.peak_ratio,
        *(parameters.deviations[name] for name in COMPONENTS),
        *(parameters.lengths[name] for name in LENGTHS),
    ]
    return np.log(np.array(values))


def _unpacked(vector: Array) -> Parameters:
    values = [exp(value) for value in vector]
    one, two = len(LAYER_COSTS), len(LAYER_COSTS) + 1 + len(COMPONENTS)
    return Parameters(
        layer_seconds=dict(zip(LAYER_COSTS, values[:one], strict=True)),
        peak_ratio=values[one],
        deviations=dict(zip(COMPONENTS, values[one + 1 : two], strict=True)),
        lengths=dict(zip(LENGTHS, values[two:], strict=True)),
    )


def fit(parameters: Parameters) -> Fitted:
    """All that is shipped, from the shipped evidence under these parameters."""
    observations = shipped_observations()
    fitted = Fitted(parameters=_rounded(parameters), factors=metric_factors(observations), widths={})
    return fitted.model_copy(update={"widths": find_widths(fitted, observations)})


def _rounded(parameters: Parameters) -> Parameters:
    def four(values: dict[str, float]) -> dict[str, float]:
        return {name: float(f"{value:.4g}") for name, value in values.items()}

    return Parameters(
        four(parameters.layer_seconds),
        float(f"{parameters.peak_ratio:.4g}"),
        four(parameters.deviations),
        four(parameters.lengths),
    )


def main(arguments: Sequence[str]) -> None:
    """Writes the shipped table anew."""
    if "--search" in arguments:
        parameters = search(evidence_of(shipped_observations()))
    else:
        parameters = read_fitted().parameters if FITTED_FILE.exists() else _START
    FITTED_FILE.write_text(json.dumps(fit(parameters).model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
