"""What a study asks: cells over a common experiment, at several sizes, and the claims they are held against.

A file is YAML; those that ship lie in `deploycost/studies/`. Every mistake of a file is reported at once, those of
each cell's experiment included, before anything is trained.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from deploycost.errors import UserError, nearest, unknown_name
from deploycost.experiment import Experiment, Frozen, MethodName, make_experiment, told_mistakes
from deploycost.study_record import Direction, MetricName

# The size of a study as its file has it; the others are changes to it.
FULL_SIZE = "full"
FigureKind = Literal["bars", "epochs", "radar", "lines", "heatmap", "layers", "ranks", "operators"]
Aim = Literal["accuracy", "balance", "resources"]
LiteratureFigures = dict[MetricName, float]
_SUFFIXES = (".yaml", ".yml")


class CellSpec(Frozen):
    """One cell: a method, what it sets under `training`, and what the literature printed for it."""

    name: str = Field(min_length=1)
    method: MethodName
    training: dict[str, Any] = Field(default_factory=dict)
    literature: LiteratureFigures = Field(default_factory=dict)


class GridSpec(Frozen):
    """Cells that multiply: each method with each combination of the axes' values.

    An axis is a dotted path under `training`, as in `lora.rank`. A cell is named after its method and its values, as
    in `qlora rank 8`; `literature` is keyed by these names. `training` is set in every cell of the grid.
    """

    methods: tuple[MethodName, ...] = Field(min_length=1)
    axes: dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    literature: dict[str, LiteratureFigures] = Field(default_factory=dict)

    def cells(self) -> list[CellSpec]:
        """The cells of the grid, the last axis running fastest."""
        return [self._cell(method, values) for method in self.methods for values in product(*self.axes.values())]

    def _cell(self, method: MethodName, values: tuple[Any, ...]) -> CellSpec:
        axes = dict(zip(self.axes, values, strict=True))
        told = [f"{path.rpartition('.')[2].replace('_', ' ')} {value}" for path, value in axes.items()]
        name = " ".join([method, *told])
        own = merged(*(nested(path, value) for path, value in axes.items()))
        literature = self.literature.get(name, {})
        return CellSpec(name=name, method=method, training=merged(self.training, own), literature=literature)


class ClaimSpec(Frozen):
    """One claim: `cell` is higher than, lower than or equal to `against` in a metric.

    `margin` is how far equals may lie apart: in the metric's own unit for scores, a share of the value for others.
    """

    claim: str
    metric: MetricName
    cell: str
    against: str
    expected: Direction
    margin: float = Field(default=0.01, gt=0)
    source: str = ""


class TableSpec(Frozen):
    """One table: a line for each cell, a column for each metric, the literature's figures beside ours."""

    title: str
    metrics: tuple[MetricName, ...] = Field(min_length=1)


class FigureSpec(Frozen):
    """One figure. `axis` (a path in a cell's settings, as in `lora.rank`) is what lines run along."""

    kind: FigureKind
    title: str
    metrics: tuple[MetricName, ...] = ("accuracy",)
    axis: str | None = None


class ScenarioSpec(Frozen):
    """One scenario: what it aims at, and which cell of each factor the source chose for it."""

    name: str
    aim: Aim
    literature: dict[str, str]


class SizeSpec(Frozen):
    """A size of the study beside the full one: what it changes in the common experiment."""

    experiment: dict[str, Any]
    seeds: tuple[int, ...] = Field(default=(1, 2, 3), min_length=1)


class StudyFile(Frozen):
    """A study as asked. `experiment` is an experiment's fields (`deploycost.experiment`) in the setting of the source.

    `source` names those whose figures (`literature` of a cell) stand beside ours, `reference` is the word for them;
    `setting` describes what they ran. `factors` group cells that differ in one thing.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,40}$")
    question: str
    source: str
    reference: str = Field(default="source", min_length=1)
    setting: str = ""
    experiment: dict[str, Any] = Field(default_factory=dict)
    seeds: tuple[int, ...] = Field(default=(1, 2, 3), min_length=1)
    sizes: dict[str, SizeSpec] = Field(default_factory=dict)
    cells: tuple[CellSpec, ...] = ()
    grid: GridSpec | None = None
    claims: tuple[ClaimSpec, ...] = ()
    tables: tuple[TableSpec, ...] = Field(min_length=1)
    figures: tuple[FigureSpec, ...] = ()
    factors: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    scenarios: tuple[ScenarioSpec, ...] = ()
    notes: tuple[str, ...] = ()
    profiled: tuple[str, ...] = Field(default=(), description="cells whose steps are profiled, on the first seed")

    @model_validator(mode="after")
    def _names_are_known(self) -> StudyFile:
        names = [cell.name for cell in self.all_cells()]
        problems = [f"cell {name!r} is there twice" for name in dict.fromkeys(names) if names.count(name) > 1]
        problems += [] if names else ["expected cells, or a grid of them"]
        problems += [f"{place}: no cell {name!r}{nearest(name, names)}" for place, name in self._named()
                     if name not in names]  # fmt: skip
        problems += [problem for claim in self.claims if (problem := self._contradiction(claim))]
        problems += [
            f"scenario {scenario.name!r}: no factor {factor!r}{nearest(factor, list(self.factors))}"
            for scenario in self.scenarios
            for factor in scenario.literature
            if factor not in self.factors
        ]
        problems += [problem for figure in self.figures if (problem := self._wrong_axis(figure))]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def all_cells(self) -> list[CellSpec]:
        """The cells given by name, then those of the grid."""
        return [*self.cells, *(self.grid.cells() if self.grid else [])]

    def cell(self, name: str) -> CellSpec:
        """The cell of that name, which the file is known to hold."""
        return next(cell for cell in self.all_cells() if cell.name == name)

    def size(self, name: str) -> SizeSpec:
        """What a size changes; the full one changes nothing.

        Raises:
            UserError: the study has no such size.
        """
        if name == FULL_SIZE:
            return SizeSpec(experiment={}, seeds=self.seeds)
        if name not in self.sizes:
            raise unknown_name("size", name, [FULL_SIZE, *self.sizes])
        return self.sizes[name]

    def experiment_of(self, cell: CellSpec, size: str, seed: int, changes: Mapping[str, Any]) -> Experiment:
        """The experiment of one cell on one seed; `changes` (of the user) go over the size's and the cell's.

        Raises:
            UserError: all its mistakes in one line.
        """
        own = {"methods": [cell.method], "training": cell.training}
        told = {"training": {"seed": seed}}
        content = merged({"artifacts": []}, self.experiment, self.size(size).experiment, own, changes, told)
        return make_experiment(content, origin=f"study {self.name!r}, cell {cell.name!r}")

    def _named(self) -> Iterable[tuple[str, str]]:
        for claim in self.claims:
            yield f"claim {claim.claim!r}", claim.cell
            yield f"claim {claim.claim!r}", claim.against
        for factor, cells in self.factors.items():
            yield from ((f"factor {factor!r}", name) for name in cells)
        for scenario in self.scenarios:
            yield from ((f"scenario {scenario.name!r}", name) for name in scenario.literature.values())
        yield from (("profiled", name) for name in self.profiled)
        if self.grid:
            yield from (("grid.literature", name) for name in self.grid.literature)

    def _wrong_axis(self, figure: FigureSpec) -> str | None:
        """What keeps the figure from being drawn along its axis: there is none, no cell sets it, or not in numbers."""
        if figure.kind != "lines":
            return None if figure.axis is None else f"figure {figure.title!r}: only lines have an axis"
        if figure.axis is None:
            return f"figure {figure.title!r}: lines need an axis, a setting of the cells such as lora.rank"
        values = [value for cell in self.all_cells() if (value := found(figure.axis, cell.training)) is not None]
        wrong = [value for value in values if isinstance(value, bool) or not isinstance(value, int | float)]
        if not values:
            return f"figure {figure.title!r}: no cell sets the axis {figure.axis!r}"
        if wrong or min(values) <= 0:
            bad = wrong[0] if wrong else min(values)
            return f"figure {figure.title!r}: lines run along numbers above 0, axis {figure.axis!r} has {bad!r}"
        return None

    def _contradiction(self, claim: ClaimSpec) -> str | None:
        known = {cell.name: cell.literature.get(claim.metric) for cell in self.all_cells()}
        ours, theirs = known.get(claim.cell), known.get(claim.against)
        if ours is None or theirs is None or claim.expected == "equal":
            return None
        if ours == theirs or (claim.expected == "higher") != (ours > theirs):
            return f"claim {claim.claim!r} expects {claim.expected}, its figures are {ours:g} against {theirs:g}"
        return None


def find_study(name_or_path: str) -> StudyFile:
    """The study of a file, or the shipped one of that name.

    Raises:
        UserError: there is no such study, or all mistakes of the file in one line.
    """
    path = Path(name_or_path)
    if path.suffix in _SUFFIXES:
        try:
            return make_study(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read study {path}: {getattr(error, 'strerror', None) or error}") from None
    shipped = _shipped_texts()
    if name_or_path not in shipped:
        error = unknown_name("study", name_or_path, shipped)
        raise UserError(f"{error}; or give a file that ends in .yaml")
    return make_study(shipped[name_or_path], name_or_path)


def shipped_studies() -> list[StudyFile]:
    """The studies that come with the product, by name."""
    return [make_study(text, name) for name, text in _shipped_texts().items()]


def make_study(text: str, origin: str) -> StudyFile:
    """The study in a YAML text; `origin` names it in the error.

    Raises:
        UserError: all mistakes in one line, those of every cell at every size included.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{origin} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{origin}: expected a mapping with name, question, source, cells and tables")
    try:
        study = StudyFile.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{origin}: {told_mistakes(error, StudyFile)}") from None
    _check_experiments(study)
    return study


def merged(*contents: Mapping[str, Any]) -> dict[str, Any]:
    """One mapping of several: where two have the same key the later counts, mappings in them are joined likewise."""
    joined: dict[str, Any] = {}
    for content in contents:
        for key, value in content.items():
            before = joined.get(key)
            if isinstance(before, Mapping) and isinstance(value, Mapping):
                joined[key] = merged(before, value)
            else:
                joined[key] = value
    return joined


def nested(path: str, value: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """A mapping in which a dotted path leads to the value: `lora.rank` to `{"lora": {"rank": 8}}`."""
    for part in reversed(path.split(".")):
        value = {part: value}
    return value


def found(path: str, content: Mapping[str, Any]) -> Any | None:  # noqa: ANN401 - JSON
    """What a dotted path leads to in a mapping, or None."""
    value: Any = content
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _check_experiments(study: StudyFile) -> None:
    problems = []
    for size in (FULL_SIZE, *study.sizes):
        for cell in study.all_cells():
            try:
                study.experiment_of(cell, size, study.size(size).seeds[0], {})
            except UserError as error:
                problems.append(str(error))
    if problems:
        raise UserError("; ".join(dict.fromkeys(problems)))


def _shipped_texts() -> dict[str, str]:
    folder = resources.files("deploycost") / "studies"
    texts = {each.name: each.read_text(encoding="utf-8") for each in folder.iterdir() if each.name.endswith(".yaml")}
    return {name.removesuffix(".yaml"): texts[name] for name in sorted(texts)}
