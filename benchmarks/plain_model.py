"""The bundle's model as transformers keeps it, for the server that a newcomer would write around torch.

    python -m benchmarks.plain_model BUNDLE FOLDER

Where the bundle lies in the run that made it, and its method leaves a plain network (full, and adapters that merge),
these are the trained weights. Else it is the base model with an untrained head: as fast and as large, its answers
worthless.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from transformers import PreTrainedModel

from deploycost.errors import UserError
from deploycost.models.adapter_folder import load_merged
from deploycost.models.base import find_base, load_classifier, load_tokenizer
from serving.bundle import open_bundle


def write_plain_model(bundle: Path, folder: Path) -> bool:
    """Fill `folder` with weights, configuration and tokenizer; whether the weights are the trained ones.

    Raises:
        BundleError: the bundle is damaged.
        UserError: its base model cannot be had.
    """
    manifest = open_bundle(bundle).manifest
    base = find_base(manifest.provenance["base_model"])
    trained = _trained(bundle.resolve().parents[1] / "adapter")
    model = load_classifier(base, manifest.labels) if trained is None else trained
    model.save_pretrained(folder)
    tokenizer = load_tokenizer(base)
    tokenizer.model_max_length = manifest.max_tokens
    tokenizer.save_pretrained(folder)
    return trained is not None


def _trained(adapter: Path) -> PreTrainedModel | None:
    """The network that a run left in `adapter`; none where there is no run, or it left something that is not plain."""
    try:
        merged = load_merged(adapter)
    except UserError as error:
        print(error, file=sys.stderr)
        return None
    plain = isinstance(merged.model, PreTrainedModel) and merged.prompt is None and merged.attached is None
    return merged.model if plain else None


def main(arguments: list[str]) -> None:
    """Write it, and tell in a line of JSON whether it is trained."""
    print(json.dumps({"trained": write_plain_model(Path(arguments[0]), Path(arguments[1]))}))


if __name__ == "__main__":
    main(sys.argv[1:])
