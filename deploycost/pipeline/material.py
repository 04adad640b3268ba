"""What stages are given: what every method of a run is made of, and whom to tell how far they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from deploycost.base_model import LocatedModel, locate_model
from deploycost.dataset import Dataset, load_dataset
from deploycost.experiment import Experiment

Say = Callable[[str], None]


@dataclass(frozen=True)
class Material:
    """What every method of a run is made of."""

    dataset: Dataset
    base: LocatedModel


def gather(experiment: Experiment) -> Material:
    """Finds the data set and the base model.

    Raises:
        UserError: either cannot be had, or the data set is not one to train on.
    """
    return Material(
        dataset=load_dataset(experiment.dataset, experiment.training.seed), base=locate_model(experiment.model)
    )
