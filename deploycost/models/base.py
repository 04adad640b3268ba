"""Base encoders: where their weights are found, which families are understood, and how they are loaded."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, BitsAndBytesConfig

from deploycost.base_model import locate_model
from deploycost.errors import UserError, nearest
from deploycost.experiment import EMBEDDED_MODEL
from deploycost.models.quantised import hold_weights

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast


@dataclass(frozen=True)
class Family:
    """What a method must know of an architecture.

    `attention` are the projections that low-rank adapters attach to (query and value, after Hu et al., 2021);
    `head` are the modules above the encoder, which every method trains in full and none quantises. The others are
    places within a layer: what attends, what makes its keys and values, and the last projection of each block.
    """

    attention: tuple[str, ...]
    head: tuple[str, ...]
    self_attention: str
    keys_and_values: tuple[str, str]
    attention_output: str
    feed_forward_output: str
    # The rows of the position table that no token can take (RoBERTa counts positions from the padding id).
    reserved_positions: int = 0


_BERT_LAYER = {
    "self_attention": "attention.self",
    "keys_and_values": ("key", "value"),
    "attention_output": "attention.output.dense",
    "feed_forward_output": "output.dense",
}
FAMILIES: dict[str, Family] = {
    "bert": Family(attention=("query", "value"), head=("pooler", "classifier"), **_BERT_LAYER),
    "distilbert": Family(
        attention=("q_lin", "v_lin"),
        head=("pre_classifier", "classifier"),
        self_attention="attention",
        keys_and_values=("k_lin", "v_lin"),
        attention_output="attention.out_lin",
        feed_forward_output="ffn.lin2",
    ),
    "roberta": Family(attention=("query", "value"), head=("classifier",), reserved_positions=2, **_BERT_LAYER),
}


@dataclass(frozen=True)
class BaseModel:
    """A base encoder that was found; `place` is the hub id or folder that transformers reads."""

    name: str
    place: str
    model_type: str
    max_positions: int

    @property
    def family(self) -> Family:
        """What methods must know of its architecture."""
        return FAMILIES[self.model_type]


def find_base(name: str) -> BaseModel:
    """Finds a base encoder by hub id, local folder, or `minilm` (the packaged one, extra `demo`).

    Raises:
        UserError: it cannot be had, or is not an encoder that can be made a classifier here.
    """
    place = locate_model(name).place
    config = _read_config(name, place)
    if config.model_type not in FAMILIES:
        raise UserError(
            f"model {name!r} is a {config.model_type!r}{nearest(config.model_type, list(FAMILIES))}, "
            f"not a classifier base that is understood here; expected one of {', '.join(FAMILIES)}"
        )
    return BaseModel(
        name=name,
        place=place,
        model_type=config.model_type,
        max_positions=config.max_position_embeddings - FAMILIES[config.model_type].reserved_positions,
    )


def load_tokenizer(base: BaseModel) -> PreTrainedTokenizerFast:
    """The base model's fast tokenizer.

    Raises:
        UserError: it has none (a bundle needs its `tokenizer.json`).
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(base.place)
    except (OSError, ValueError) as error:
        raise UserError(f"model {base.name!r} has no usable tokenizer: {_first_line(error)}") from None
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        # Where its files are missing, transformers makes an empty one that knows no word.
        raise UserError(f"model {base.name!r} has no tokenizer with a vocabulary; expected its tokenizer.json")
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(f"model {base.name!r} has no fast tokenizer (tokenizer.json), which the endpoint needs")
    return tokenizer


def load_classifier(
    base: BaseModel, label_names: tuple[str, ...], *, bits: Literal[4, 8] | None = None
) -> PreTrainedModel:
    """The base model with a head for these labels, in fp32; with `bits`, linear layers of the body quantised.

    A head that the weights do not hold is drawn from torch's present random state: seed before calling.

    Raises:
        UserError: the weights cannot be read, or are of another network.
    """
    labels = dict(enumerate(label_names))
    try:
        model, found = AutoModelForSequenceClassification.from_pretrained(
            base.place,
            num_labels=len(labels),
            id2label=labels,
            label2id={name: number for number, name in labels.items()},
            dtype=torch.float32,
            use_safetensors=True,
            quantization_config=_quantisation(base.family, bits) if bits else None,
            # A head for other labels gives way to a fresh one; what else is amiss is told below.
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(f"cannot load the weights of model {base.name!r}: {_first_line(error)}") from None
    _check_body(base, {*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])})
    hold_weights(model)
    return model


def layer_parts(model: nn.Module, path: str) -> list[Any]:
    """The module at `path` within each layer of an encoder, from the first layer to the last."""
    wanted = re.compile(rf"(?:.+\.)?layer\.\d+\.{re.escape(path)}")
    return [module for name, module in model.named_modules() if wanted.fullmatch(name)]


def body_matrices(model: nn.Module, base: BaseModel) -> dict[str, nn.Linear]:
    """The linear layers below the head, by path."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not set(name.split(".")) & set(base.family.head)
    }


def _check_body(base: BaseModel, not_loaded: set[str]) -> None:
    """Refuses a body that was drawn at random because its weights are of another network."""
    body = sorted(name for name in not_loaded if not set(name.split(".")) & set(base.family.head))
    if body:
        raise UserError(
            f"the weights of model {base.name!r} do not fit its config.json: {len(body)} of its encoder are missing "
            f"or of another size, such as {body[0]}; give a folder as 'save_pretrained' leaves it"
        )


def _quantisation(family: Family, bits: Literal[4, 8]) -> BitsAndBytesConfig:
    # As patterns from the root: a bare name would be sought at the start or the end of a path only.
    # The head stays in fp32: it is trained.
    skipped = [rf"(?:.*\.)?{name}" for name in family.head]
    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
    # QLoRA (Dettmers et al., 2023): nf4 with double quantisation.
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
        llm_int8_skip_modules=skipped,
    )


def _read_config(name: str, place: str) -> PretrainedConfig:
    try:
        return AutoConfig.from_pretrained(place)
    except ValueError as error:
        raise UserError(f"model {name!r} is not one that transformers knows: {_first_line(error)}") from None
    except OSError as error:
        if Path(place).is_dir():
            raise UserError(
                f"model {name!r} is not a folder with a readable config.json: {_first_line(error)}"
            ) from None
        raise UserError(
            f"model {name!r} cannot be had from the model hub (out of reach, or no such model); "
            f"try again online, give a local folder, or use the embedded encoder: --model {EMBEDDED_MODEL}"
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
