"""`deploycost artifacts`: every form in which a trained model can be served, side by side."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from deploycost.commands.output import show, show_json, width
from deploycost.experiment import FAST_ARTIFACTS, USUAL_ARTIFACTS
from deploycost.exporting.artifacts import ARTIFACTS, standing
from deploycost.reporting.tables import artifact_facts_table
from deploycost.verdicts import ArtifactFacts


def artifacts(
    *,
    json: Annotated[bool, Parameter(negative="", help="Print one JSON document instead of a table.")] = False,
) -> int:
    """Explain every artifact: engine, precision, what it takes, and whether this machine can build and serve it.

    Example: deploycost artifacts
    """
    facts = [
        ArtifactFacts(
            artifact=name,
            engine=artifact.engine,
            precision=artifact.precision,
            summary=artifact.summary,
            packages=artifact.packages,
            needs=artifact.needs,
            calibrated=artifact.calibrated,
            from_network=artifact.from_network,
            usual=name in USUAL_ARTIFACTS,
            fast=name in FAST_ARTIFACTS,
            missing=standing(name).missing,
        )
        for name, artifact in ARTIFACTS.items()
    ]
    if json:
        show_json({"artifacts": [each.model_dump(mode="json") | {"runs_here": not each.missing} for each in facts]})
    else:
        show(artifact_facts_table(facts, width()))
    return 0
