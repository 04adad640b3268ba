"""What an encoder measures: widths, counts and matrices, read from its config.json without loading any framework."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploycost.errors import UserError, nearest


@dataclass(frozen=True)
class Matrix:
    """A linear map inside every layer, by its path there, and the widths it goes from and to."""

    path: str
    inputs: int
    outputs: int

    def is_called(self, target: str) -> bool:
        """Whether a target of PEFT means it: its path, or the end of it."""
        return self.path == target or self.path.endswith(f".{target}")


# What the field calls them, whichever way a family spells it.
_WORDS = {
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "attention output",
    "intermediate.dense": "feed-forward in",
    "output.dense": "feed-forward out",
    "attention.q_lin": "query",
    "attention.k_lin": "key",
    "attention.v_lin": "value",
    "attention.out_lin": "attention output",
    "ffn.lin1": "feed-forward in",
    "ffn.lin2": "feed-forward out",
}
_BERT_MATRICES = tuple(path for path in _WORDS if not path.startswith(("attention.q_", "ffn")) and "lin" not in path)
_DISTILBERT_MATRICES = tuple(path for path in _WORDS if "lin" in path)


@dataclass(frozen=True)
class _Fields:
    """What a family of encoders calls its measures in config.json."""

    layers: str
    hidden: str
    heads: str
    ffn_width: str
    matrices: tuple[str, ...]
    targets: tuple[str, ...]


_BERT = _Fields(
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "intermediate_size",
    _BERT_MATRICES,
    ("query", "value"),
)
_FAMILIES: dict[str, _Fields] = {
    "bert": _BERT,
    "roberta": _BERT,
    "distilbert": _Fields("n_layers", "dim", "n_heads", "hidden_dim", _DISTILBERT_MATRICES, ("q_lin", "v_lin")),
}


@dataclass(frozen=True)
class EncoderShape:
    """The measures of a BERT-like encoder, and the parameter counts that follow from them."""

    model_type: str
    layers: int
    hidden: int
    heads: int
    ffn_width: int
    vocabulary: int
    positions: int
    token_types: int

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        """The linear maps of one layer, attention first."""
        hidden, wide = self.hidden, self.ffn_width
        widths = [(hidden, hidden)] * 4 + [(hidden, wide), (wide, hidden)]
        paths = _FAMILIES[self.model_type].matrices
        return tuple(Matrix(path, *pair) for path, pair in zip(paths, widths, strict=True))

    def targeted(self, targets: tuple[str, ...] | None) -> tuple[Matrix, ...]:
        """The matrices of one layer that low-rank adapters attach to; None: query and value (Hu et al., 2021).

        Raises:
            UserError: a target is no matrix of this encoder.
        """
        wanted = targets or _FAMILIES[self.model_type].targets
        for target in wanted:
            if not any(matrix.is_called(target) for matrix in self.matrices):
                known = [matrix.path.rsplit(".", 1)[-1] for matrix in self.matrices]
                raise UserError(
                    f"unknown target {target!r}{nearest(target, known)}; "
                    f"the matrices of a {self.model_type} layer: {', '.join(dict.fromkeys(known))}"
                )
        return tuple(m for m in self.matrices if any(m.is_called(target) for target in wanted))

    @property
    def embedding_parameters(self) -> int:
        """Of the tables of words, positions and token types, and their normalisation."""
        return (self.vocabulary + self.positions + self.token_types + 2) * self.hidden

    @property
    def matrix_parameters(self) -> int:
        """Of the matrices of all layers, without biases: what quantisation shrinks."""
        return self.layers * sum(matrix.inputs * matrix.outputs for matrix in self.matrices)

    @property
    def body_parameters(self) -> int:
        """Of embeddings and layers: matrices, their biases, and two normalisations in each layer."""
        per_layer = sum(matrix.outputs for matrix in self.matrices) + 4 * self.hidden
        return self.embedding_parameters + self.matrix_parameters + self.layers * per_layer

    def head_parameters(self, labels: int) -> int:
        """Of what stands above the encoder: a square map and the classifier, with their biases."""
        return (self.hidden + 1) * (self.hidden + labels)


def shape_of(place: str) -> EncoderShape:
    """The shape of the encoder in a local folder or at a hub id, as `deploycost.base_model.locate_model` finds it.

    Raises:
        UserError: its config.json cannot be had or read, or is of no encoder that is understood here.
    """
    path = _config_file(place)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the config.json of model {place!r}: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"the config.json of model {place!r} holds no mapping; expected one as transformers writes it")
    return shape_from(content, place)


def shape_from(config: Mapping[str, Any], name: str) -> EncoderShape:
    """The shape in the content of a config.json; `name` names the model in errors.

    Raises:
        UserError: the architecture is not understood, or measures are missing or no numbers.
    """
    model_type = str(config.get("model_type"))
    fields = _FAMILIES.get(model_type)
    if fields is None:
        raise UserError(
            f"model {name!r} is a {model_type!r}{nearest(model_type, list(_FAMILIES))}, "
            f"not an encoder that is understood here; expected one of {', '.join(_FAMILIES)}"
        )
    names = {
        "layers": fields.layers,
        "hidden": fields.hidden,
        "heads": fields.heads,
        "ffn_width": fields.ffn_width,
        "vocabulary": "vocab_size",
        "positions": "max_position_embeddings",
    }
    amiss = [field for field in names.values() if not _is_count(config.get(field))]
    if amiss:
        raise UserError(f"the config.json of model {name!r} lacks a whole positive number for {', '.join(amiss)}")
    token_types = 0 if model_type == "distilbert" else int(config.get("type_vocab_size", 2))
    return EncoderShape(model_type, **{key: config[field] for key, field in names.items()}, token_types=token_types)


def matrix_word(path: str) -> str:
    """What the field calls the matrix at a path inside a layer, as in `query`; a path that is not known as it is."""
    return _WORDS.get(path, path)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _config_file(place: str) -> Path:
    if Path(place).is_dir():
        return Path(place) / "config.json"
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(place, "config.json"))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"cannot have the config.json of model {place!r} from the model hub: {reason}") from None
