"""`deploycost methods`: every fine-tuning method side by side."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any

from cyclopts import Parameter

from deploycost.advice import method_facts, training_device, usual_experiment
from deploycost.commands.options import BuildFlags, Place, asked_field, flag_name
from deploycost.commands.output import show, show_json, warn, width
from deploycost.errors import UserError
from deploycost.experiment import EMBEDDED_MODEL, Experiment, MethodName
from deploycost.methods import METHODS
from deploycost.reporting.tables import method_facts_table


def methods(
    *,
    place: Place | None = None,
    model: Annotated[
        str | None, Parameter(help="Hub id, local folder, or minilm. Default: the run's, or minilm.")
    ] = None,
    device: Annotated[
        str | None, Parameter(help="cpu, cuda, or an accelerator such as T4. Default: this machine's.")
    ] = None,
    json: Annotated[bool, Parameter(negative="", help="Print one JSON document instead of a table.")] = False,
) -> int:
    """Explain every method: what it trains, its flags, what it costs to serve, and its memory on a base model.

    Example: deploycost methods --model minilm
    """
    place = place or Place()
    experiment = _experiment(place, model)
    where = training_device(device)
    facts = method_facts(experiment, where, lambda method: flag_values(experiment, method))
    if json:
        documents = [
            each.model_dump(mode="json") | {"predicted_memory_bytes": each.predicted_memory.total} for each in facts
        ]
        show_json({"model": experiment.model, "device": where.name, "methods": documents})
    else:
        show(method_facts_table(facts, experiment.model, where.name, width()))
    return 0


def _experiment(place: Place, model: str | None) -> Experiment:
    """What the table is about. A run that is not named is read only for the model, and need not be readable."""
    if model is not None and place.run is None:
        return Experiment(model=model)
    usual = usual_or_none(place) or Experiment(model=EMBEDDED_MODEL)
    return usual if model is None else usual.model_copy(update={"model": model})


def usual_or_none(place: Place) -> Experiment | None:
    """What was last worked on, or None, with a word on it, where that cannot be read; a run that is named must be.

    Raises:
        UserError: there is no run of that name, or it cannot be read.
    """
    try:
        return usual_experiment(place.runs_dir, place.run)
    except UserError as error:
        if place.run is not None:
            raise
        warn([f"the newest run or study is left aside: {error}"])
        return None


def flag_values(experiment: Experiment, method: MethodName) -> dict[str, str]:
    """The method's own flags with the values that the experiment gives them, empty where one is not set."""
    places = {flag_name(flag): asked_field(flag) for flag in fields(BuildFlags)}
    values = {flag: _told(field_value(experiment, places[flag])) for flag in METHODS[method].flags}
    if "--bits" in values:
        values["--bits"] = _told(METHODS[method].bits(experiment.training.bits))
    if "--alpha" in values:
        values["--alpha"] = _told(experiment.training.lora.scaling_alpha)
    return values


def field_value(experiment: Experiment, place: str) -> Any:  # noqa: ANN401 - any field of an experiment
    """What an experiment has at a place such as `training.lora.rank`."""
    value: Any = experiment
    for part in place.split("."):
        value = getattr(value, part)
    return value


def _told(value: Any) -> str:  # noqa: ANN401 - any field of an experiment
    if value is None:
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    return ",".join(value) if isinstance(value, tuple) else str(value)
