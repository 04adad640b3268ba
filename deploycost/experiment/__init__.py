"""What was asked: an `Experiment`, read from flags or a YAML file, frozen, with every mistake reported at once."""

from deploycost.experiment.base import Frozen
from deploycost.experiment.experiment import (
    BroughtSpec,
    DatasetSpec,
    Experiment,
    ExportSpec,
    make_experiment,
    read_experiment,
    write_experiment,
)
from deploycost.experiment.load import LoadSpec, slo_fields
from deploycost.experiment.mistakes import told_mistakes
from deploycost.experiment.names import (
    ARTIFACT_NAMES,
    EMBEDDED_DATASET,
    EMBEDDED_MODEL,
    FAST_ARTIFACTS,
    LITERATURE_DATASET,
    LITERATURE_MODEL,
    METHOD_NAMES,
    USUAL_ARTIFACTS,
    USUAL_METHODS,
    ArtifactName,
    MethodName,
    PrecisionGoal,
    TrackerName,
)
from deploycost.experiment.quote import QuoteSpec
from deploycost.experiment.training import (
    AdapterSpec,
    DynamicSpec,
    LoraSpec,
    PrefixSpec,
    PromptSpec,
    TelemetrySpec,
    TrainingSpec,
)

__all__ = [
    "ARTIFACT_NAMES",
    "EMBEDDED_DATASET",
    "EMBEDDED_MODEL",
    "FAST_ARTIFACTS",
    "LITERATURE_DATASET",
    "LITERATURE_MODEL",
    "METHOD_NAMES",
    "USUAL_ARTIFACTS",
    "USUAL_METHODS",
    "AdapterSpec",
    "ArtifactName",
    "BroughtSpec",
    "DatasetSpec",
    "DynamicSpec",
    "Experiment",
    "ExportSpec",
    "Frozen",
    "LoadSpec",
    "LoraSpec",
    "MethodName",
    "PrecisionGoal",
    "PrefixSpec",
    "PromptSpec",
    "QuoteSpec",
    "TelemetrySpec",
    "TrackerName",
    "TrainingSpec",
    "make_experiment",
    "read_experiment",
    "slo_fields",
    "told_mistakes",
    "write_experiment",
]
