"""Fits the projection to the shipped evidence, offline.

    python -m deploycost.projecting.fit [--search [--from-shipped]]

Writes `data/fitted.json`: the parameters of `Utilisation`, what each metric is of a batch's time, and how wide an
interval must be to have held nine in ten of the measurements that were left out, by kind of target. Without `--search`
the parameters are kept and the rest is found again from them.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import exp, inf, log
from statistics import median
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from deploycost.projecting.evidence_base import BASE_METRICS, Evidence, Known, evidence_of, known_of
from deploycost.projecting.fitted import FITTED_FILE, NO_FACTOR, NOVELTIES, Fitted, MetricFactor, Novelty, read_fitted
from deploycost.projecting.observations import Metric, Observation, Setting, shipped_observations
from deploycost.projecting.utilisation import COMPONENTS, LAYER_COSTS, LENGTHS, Array, Parameters, Utilisation

COVERED = 0.9
# A factor of a metric needs so many settings where both were measured.
_LEAST_PAIRS = 4
# An interval's width needs so many rows, and so many groups that were left out: rows of one group err alike, so that of
# few groups the worst decides. One alone says next to nothing.
_LEAST_ROWS, _LEAST_GROUPS, _FEWEST_GROUPS = 20, 5, 2
_START = Parameters(
    layer_seconds={"fused": 20e-6, "graph": 60e-6, "eager": 200e-6, "cpu": 30e-6},
    peak_ratio=0.7,
    cpu_peak_ratio=0.9,
    elementwise_cost=12.0,
    core_loss=0.1,
    deviations=dict(
        zip(COMPONENTS, (0.5, 0.2, 0.5, 0.05, 0.05, 0.05, 0.05, 0.15, 0.05, 0.15, 0.06, 0.08, 0.035), strict=True)
    ),
    lengths=dict(zip(LENGTHS, (2.0, 2.0, 3.0, 2.0, 1.5, 1.5, 3.0, 2.0, 3.0, 2.0), strict=True)),
)
_RATIOS = ("peak_ratio", "cpu_peak_ratio", "elementwise_cost", "core_loss")
Way = Literal["device", "runtime", "source", "length", "shape", "precision"]
WAYS: tuple[Way, ...] = get_args(Way)


def groups_of(settings: Sequence[Setting]) -> dict[Way, list[list[int]]]:
    """The ways of leaving out, each a partition of the settings by index.

    `device`: all that was measured on a device. `runtime`: on a device by one class of runtimes. `length`: on a device
    by a class at one token length; `shape`: of one shape of model; `precision`: in one precision on so many cores.
    `source`: by whom.
    """
    keys: dict[Way, list[tuple[Any, ...]]] = {
        "device": [(s.place.device.family,) for s in settings],
        "runtime": [s.device_class for s in settings],
        "source": [(s.source,) for s in settings],
        "length": [(*s.device_class, s.tokens) for s in settings],
        "shape": [(*s.device_class, s.shape) for s in settings],
        "precision": [(*s.device_class, s.precision, s.place.cores) for s in settings],
    }
    parted: dict[Way, list[list[int]]] = {}
    for way, names in keys.items():
        groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        for index, name in enumerate(names):
            groups[name].append(index)
        parted[way] = list(groups.values())
    return parted


def metric_factors(observations: Iterable[Observation]) -> dict[str, MetricFactor]:
    """What a metric is over the base of its setting, by `class/metric` and `kind/metric`.

    A mean is its own base. Where none was measured, as of chips that compute several batches at once, it is no such
    thing as the time that a rate tells.
    """
    by_setting: dict[Setting, dict[Metric, float]] = defaultdict(dict)
    for each in observations:
        by_setting[each.setting][each.metric] = each.log_seconds
    ratios: dict[str, list[float]] = defaultdict(list)
    for setting, known in by_setting.items():
        base = min(known, key=BASE_METRICS.index)
        for metric, seconds in known.items():
            if metric != base or metric == "latency_mean":
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
    """A row that was predicted without its group: the error of its logarithm, and the deviation claimed.

    `group` names what was left out, `novelty` what was new about the row to those that were left in.
    """

    observation: Observation
    group: tuple[Way, int]
    novelty: Novelty
    error: float
    deviation: float

    @property
    def kind(self) -> str:
        """The kind of chip, with what was new: what the width of its interval goes by."""
        return f"{self.observation.setting.place.device.kind}/{self.novelty}"


def left_out(fitted: Fitted, observations: Sequence[Observation], way: Way) -> list[LeftOut]:
    """Every row predicted without its group. The factor of its metric is that of all rows."""
    evidence = evidence_of(observations)
    model = Utilisation(fitted.parameters, evidence.settings, evidence.log_seconds)
    groups = groups_of(evidence.settings)[way]
    residuals, deviations = model.left_out(groups)
    index = {setting: number for number, setting in enumerate(evidence.settings)}
    group_of = {number: name for name, group in enumerate(groups) for number in group}
    known = [_known_without(evidence.settings, group) for group in groups]
    told = []
    for each in observations:
        number = index[each.setting]
        # A setting's own base metric has no factor over itself.
        is_base = each.log_seconds == evidence.log_seconds[number]
        factor = NO_FACTOR if is_base else fitted.factor(each.setting, each.metric)
        predicted = evidence.log_seconds[number] - residuals[number] + factor.log_factor
        told.append(
            LeftOut(
                observation=each,
                group=(way, group_of[number]),
                novelty=known[group_of[number]].novelty(each.setting),
                error=each.log_seconds - predicted,
                deviation=float(np.hypot(deviations[number], factor.spread)),
            )
        )
    return told


def _known_without(settings: Sequence[Setting], group: Sequence[int]) -> Known:
    gone = set(group)
    return known_of(setting for number, setting in enumerate(settings) if number not in gone)


def width_of(rows: Sequence[LeftOut]) -> float:
    """Deviations that an interval must reach to both sides to have held nine in ten of the rows (Vovk et al., 2005).

    A device counts by the square root of its rows, so that those that were measured most do not decide alone.
    """
    sizes = Counter(row.observation.setting.place.device.family for row in rows)
    scores = sorted(
        (abs(row.error) / row.deviation, sizes[row.observation.setting.place.device.family] ** -0.5) for row in rows
    )
    wanted = COVERED * sum(weight for _, weight in scores)
    reached = 0.0
    for score, weight in scores:
        reached += weight
        if reached >= wanted:
            return score
    return scores[-1][0]


def rows_by_kind(rows: Iterable[LeftOut]) -> dict[str, list[LeftOut]]:
    """Rows by kind of chip and what was new."""
    by_kind: dict[str, list[LeftOut]] = defaultdict(list)
    for row in rows:
        by_kind[row.kind].append(row)
    return by_kind


def kind_width(name: str, by_kind: Mapping[str, Sequence[LeftOut]]) -> float:
    """The width of the intervals of a kind; where it has few groups, that of the worst of them.

    Where it has but one, the most that any row needed, those too of which the device was new: that is to know less.
    Infinite without any.
    """
    rows = by_kind.get(name, ())
    groups = distinct_groups(rows)
    if len(groups) >= _LEAST_GROUPS:
        return width_of(rows)
    if len(groups) >= _FEWEST_GROUPS:
        return max(width_of(group) for group in groups)
    of_new_devices = by_kind.get(f"{name.partition('/')[0]}/device", ())
    return max((abs(row.error) / row.deviation for row in (*rows, *of_new_devices)), default=inf)


def distinct_groups(rows: Sequence[LeftOut]) -> list[list[LeftOut]]:
    """The groups that rows are of; what leaves out the same rows in two ways is one."""
    groups: dict[tuple[Way, int], list[LeftOut]] = defaultdict(list)
    for row in rows:
        groups[row.group].append(row)
    return list({frozenset(id(row.observation) for row in group): group for group in groups.values()}.values())


def find_widths(fitted: Fitted, observations: Sequence[Observation]) -> dict[str, float]:
    """The width of intervals by `kind/novelty`, from all ways of leaving out.

    Where too few rows were new in one way, a kind of chip goes by the widest of what it has. A runtime of another name
    hardly adds to the deviation, and then to know less is no reason for a narrower interval.
    """
    rows = [row for way in WAYS for row in left_out(fitted, observations, way)]
    by_kind = rows_by_kind(rows)
    found = {name: kind_width(name, by_kind) for name, own in by_kind.items() if len(own) >= _LEAST_ROWS}
    for kind in {row.observation.setting.place.device.kind for row in rows}:
        widest = max(width for name, width in found.items() if name.startswith(f"{kind}/"))
        for novelty in NOVELTIES:
            found.setdefault(f"{kind}/{novelty}", widest)
        found[f"{kind}/runtime"] = max(found[f"{kind}/runtime"], found[f"{kind}/length"])
    return {name: round(width, 3) for name, width in sorted(found.items())}


def search(evidence: Evidence, start: Parameters = _START, steps: int = 40) -> Parameters:
    """The parameters under which what is left out is least surprising, by each way of leaving out.

    The score of a row is that of Student's t with four degrees of freedom, so that freaks do not rule.
    """
    from scipy.optimize import minimize

    groups = groups_of(evidence.settings)

    def score(vector: Array) -> float:
        """How surprising the rows left out are, the lower the better; parameters that are not sound score worst."""
        model = Utilisation(_unpacked(vector), evidence.settings, evidence.log_seconds)
        total = 1e-3 * float(np.sum((vector - first) ** 2))
        try:
            for way in WAYS:
                residuals, deviations = model.left_out(groups[way])
                scores = np.log(deviations) + 2.5 * np.log1p((residuals / deviations) ** 2 / 4)
                total += float(np.mean(scores))
        except np.linalg.LinAlgError:
            return 1e6
        return total

    def tell(vector: Array) -> None:
        print(f"{score(vector):.4f}", file=sys.stderr, flush=True)

    first = _packed(start)
    # A device keeps up from a third to all of its peak, what is elementwise is slower than a matrix product, and cores
    # lose at most half a doubling; likeness reaches at least over a factor of e, so that what was
    # never measured is told by arithmetic rather than by the mean of all that was.
    bounds = [(log(3e-6), log(5e-4))] * len(LAYER_COSTS) + [(log(0.33), log(1.0))] * 2
    bounds += [(log(1.0), log(30.0)), (log(0.01), log(0.5))]
    bounds += [(log(0.01), log(2.0))] * len(COMPONENTS) + [(log(1.0), log(30.0))] * len(LENGTHS)
    options = {"maxiter": steps, "maxfun": 10_000}
    found = minimize(score, first, method="L-BFGS-B", bounds=bounds, callback=tell, options=options)
    return _unpacked(found.x)


def _packed(parameters: Parameters) -> Array:
    values = [
        *(parameters.layer_seconds[name] for name in LAYER_COSTS),
        *(getattr(parameters, name) for name in _RATIOS),
        *(parameters.deviations[name] for name in COMPONENTS),
        *(parameters.lengths[name] for name in LENGTHS),
    ]
    return np.log(np.array(values))


def _unpacked(vector: Array) -> Parameters:
    values = [exp(value) for value in vector]
    one, two = len(LAYER_COSTS), len(LAYER_COSTS) + len(_RATIOS)
    three = two + len(COMPONENTS)
    return Parameters(
        layer_seconds=dict(zip(LAYER_COSTS, values[:one], strict=True)),
        **dict(zip(_RATIOS, values[one:two], strict=True)),
        deviations=dict(zip(COMPONENTS, values[two:three], strict=True)),
        lengths=dict(zip(LENGTHS, values[three:], strict=True)),
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
        layer_seconds=four(parameters.layer_seconds),
        **four({name: getattr(parameters, name) for name in _RATIOS}),
        deviations=four(parameters.deviations),
        lengths=four(parameters.lengths),
    )


def main(arguments: Sequence[str]) -> None:
    """Writes the shipped table anew."""
    if "--search" in arguments:
        start = read_fitted().parameters if "--from-shipped" in arguments else _START
        parameters = search(evidence_of(shipped_observations()), start)
    else:
        parameters = read_fitted().parameters if FITTED_FILE.exists() else _START
    FITTED_FILE.write_text(json.dumps(fit(parameters).model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
