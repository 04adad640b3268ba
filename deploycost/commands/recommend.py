"""`deploycost recommend`: which variant to deploy where; or, under a memory budget, which method to train by."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

from cyclopts import Parameter

from deploycost import advice, answers
from deploycost.commands.methods import field_value, usual_or_none
from deploycost.commands.options import (
    BuildFlags,
    ChoiceFlags,
    Place,
    PriceFlags,
    SloFlags,
    asked,
    asked_field,
    flag_name,
    refuse_unread,
)
from deploycost.commands.output import show, show_json, warn, width
from deploycost.errors import NoAnswer, UserError
from deploycost.experiment import EMBEDDED_MODEL, Experiment, make_experiment
from deploycost.methods import readers_of
from deploycost.projecting.method_choice import advise
from deploycost.reporting.tables import advice_panel, answer_panel, outlooks_table, returns_table
from deploycost.verdicts import MethodAdvice
from deploycost.workspace import open_run

_MODEL_HELP = "Hub id, local folder, or minilm. Default: of the newest run or study, else minilm."


@Parameter(name="*")
@dataclass(frozen=True)
class MethodFlags:
    """The question which method to train by, which a memory budget asks."""

    memory_budget: Annotated[
        str | None, Parameter(help="Choose a method before training that trains within it, as in 4GiB.")
    ] = None
    model: Annotated[str | None, Parameter(help=f"With --memory-budget: {_MODEL_HELP}")] = None
    dataset: Annotated[
        str | None, Parameter(help="With --memory-budget: what is trained on, to find studies of the same texts.")
    ] = None
    device: Annotated[
        str | None,
        Parameter(help="With --memory-budget: cpu, cuda or an accelerator such as T4. Default: this machine's."),
    ] = None


def recommend(
    *,
    place: Place | None = None,
    price: PriceFlags | None = None,
    choice: ChoiceFlags | None = None,
    slo: SloFlags | None = None,
    method: MethodFlags | None = None,
    record: Annotated[
        tuple[Path, ...], Parameter(help="load.json that 'deploycost loadtest' made on another machine.")
    ] = (),
    json: Annotated[bool, Parameter(negative="", help="Print one JSON document instead of tables.")] = False,
) -> int:
    """Recommend the cheapest variant and machine that keep accuracy, latency and memory, and say what it returns.

    With --memory-budget: recommend a method before anything is trained, from the memory model and the kept studies.
    Exit code 1 where none fits.

    Examples: deploycost recommend --cloud aws,gcp --max-accuracy-drop 0.02
    deploycost recommend --memory-budget 4GiB --model minilm
    """
    place, choice, method = place or Place(), choice or ChoiceFlags(), method or MethodFlags()
    if method.memory_budget is not None:
        _refuse_beside_budget(price or PriceFlags(), choice, slo or SloFlags(), record)
        return _recommend_method(place, method, choice.max_accuracy_drop, json=json)
    _refuse_alone(method)
    run = open_run(place.runs_dir, place.run)
    wanted = asked(run, None, price, choice, slo)
    refuse_unread(price, wanted.quote)
    variants = answers.known_variants(run, record)
    sheet = answers.quote_now(run, variants, wanted.quote, wanted.load.slo_p95_ms)
    known = answers.answer(sheet, variants, wanted.quote)
    if json:
        show_json(known.as_json())
    if known.recommendation is None:
        raise NoAnswer(known.no_recommendation_reason)
    if json:
        return 0
    show(answer_panel(known.recommendation), returns_table(known.returns, width()))
    warn([*known.warnings, *sheet.warnings])
    return 0


def _refuse_alone(method: MethodFlags) -> None:
    given = [f"--{name}" for name in ("model", "dataset", "device") if getattr(method, name) is not None]
    if given:
        raise UserError(f"{', '.join(given)}: only with --memory-budget, which asks for a method, as in 4GiB")


def _refuse_beside_budget(price: PriceFlags, choice: ChoiceFlags, slo: SloFlags, record: tuple[Path, ...]) -> None:
    groups = (price, choice, slo)
    given = [flag_name(flag) for group in groups for flag in fields(group) if getattr(group, flag.name) is not None]
    given = [*(name for name in given if name != "--max-accuracy-drop"), *(["--record"] if record else [])]
    if given:
        raise UserError(
            f"{', '.join(given)}: not with --memory-budget, which asks for a method before anything is priced; "
            "leave one or the other out"
        )


def _recommend_method(place: Place, method: MethodFlags, max_accuracy_drop: float | None, *, json: bool) -> int:
    studies, left_out = advice.known_studies(place.runs_dir)
    usual = usual_or_none(place)
    dataset_is_known = usual is not None or method.dataset is not None
    experiment = _changed(usual or Experiment(model=EMBEDDED_MODEL), method, max_accuracy_drop)
    device = advice.training_device(method.device)
    told = advise(advice.method_question(experiment, device, dataset_is_known=dataset_is_known), studies)
    command = training_command(told, experiment)
    if json:
        show_json(told.model_dump(mode="json") | {"command": command})
    else:
        show(advice_panel(told, command), outlooks_table(told, width()))
    warn(left_out)
    if told.choice is None:
        raise NoAnswer(told.reason)
    return 0


def _changed(experiment: Experiment, method: MethodFlags, max_accuracy_drop: float | None) -> Experiment:
    content = experiment.model_dump(mode="json")
    content["training"]["dynamic"]["memory_budget"] = method.memory_budget
    if method.model is not None:
        content["model"] = method.model
    if method.dataset is not None:
        content["dataset"]["source"] = method.dataset
    if max_accuracy_drop is not None:
        content["quote"]["max_accuracy_drop"] = max_accuracy_drop
    return make_experiment(content)


# What the command names otherwise, or what the advice is not about.
_NOT_REPEATED = ("method", "model", "dataset", "artifacts", "memory_budget", "profile", "report_to")


def training_command(told: MethodAdvice, experiment: Experiment) -> str:
    """The command that trains by the method chosen, with all that the experiment sets otherwise than by default."""
    chosen = told.chosen
    if chosen is None:
        return ""
    given: dict[str, Any] = {
        "--method": chosen.method,
        "--model": experiment.model,
        "--dataset": experiment.dataset.source if told.dataset is not None else "YOUR_TEXTS",
    }
    usual = Experiment()
    for flag in fields(BuildFlags):
        value, name = field_value(experiment, asked_field(flag)), flag_name(flag)
        readers = readers_of(name)
        if flag.name in _NOT_REPEATED or (readers and chosen.method not in readers):
            continue
        if value is not None and value != field_value(usual, asked_field(flag)):
            given[name] = value
    if chosen.adapted:
        given["--batch-size"] = chosen.batch_size
        given |= {"--gradient-checkpointing": True} if chosen.gradient_checkpointing else {}
    return " ".join(["deploycost build", *(_given_flag(name, value) for name, value in given.items())])


def _given_flag(name: str, value: Any) -> str:  # noqa: ANN401 - any field of an experiment
    if isinstance(value, bool):
        return name if value else name.replace("--", "--no-", 1)
    told = ",".join(value) if isinstance(value, tuple) else str(value)
    return f"{name} {quote(told)}"
