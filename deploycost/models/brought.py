"""Networks that were trained elsewhere: any sequence classifier of transformers, and PEFT's adapters on one.

What is read is safetensors and JSON; no code that comes with a model is run.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedTokenizerFast,
)

from deploycost.brought_model import BroughtModel, label_names_of
from deploycost.errors import UserError
from deploycost.models import adapter_folder
from deploycost.models.classifier import TunedClassifier
from deploycost.models.quantised import hold_weights

_ADAPTER_WEIGHTS = "adapter_model.safetensors"
# Heads that a quantised base keeps in full precision, by the names that transformers gives them.
_HEADS = ("classifier", "pre_classifier", "pooler", "score", "classification_head")
# What a tokenizer says that was given no limit.
_NO_LIMIT = 1_000_000


@dataclass(frozen=True)
class BroughtNetwork:
    """A brought network in plain fp32, with what its own files say of it."""

    network: TunedClassifier
    architecture: str
    label_names: tuple[str, ...]
    max_tokens: int | None


def load_network(brought: BroughtModel) -> BroughtNetwork:
    """The network of a folder that `save_pretrained` left, or of an adapter folder, merged.

    Raises:
        UserError: the weights cannot be read, are of another network, or hold no trained head; one line.
    """
    if brought.kind == "adapter":
        return _load_adapter(brought)
    model = _load_classifier(repr(brought.spec.source), str(brought.place), set())
    return _network(model, brought.config)


def open_tokenizer(brought: BroughtModel) -> PreTrainedTokenizerFast:
    """The fast tokenizer that belongs to a brought model.

    Raises:
        UserError: it has none that the endpoint could use.
    """
    place = brought.tokenizer_place
    name = str(place if place is not None else brought.base.place if brought.base else brought.place)
    try:
        if place is not None and place.is_file():
            return PreTrainedTokenizerFast(tokenizer_file=str(place))
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # noqa: BLE001 - the library raises nothing more specific for a broken file
        if place is not None and (place / "tokenizer.json").is_file() and not (place / "config.json").is_file():
            return _bare_tokenizer(place / "tokenizer.json")
        raise UserError(f"cannot read the tokenizer in {name}: {_one_line(error)}") from None
    if not getattr(tokenizer, "is_fast", False) or len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise UserError(f"{name} holds no fast tokenizer with a vocabulary (tokenizer.json), which the endpoint needs")
    return tokenizer


def tokenizer_limit(tokenizer: PreTrainedTokenizerFast) -> int | None:
    """The longest sequence that a tokenizer says its model takes, or None."""
    limit = tokenizer.model_max_length
    truncation = tokenizer.backend_tokenizer.truncation
    if limit < _NO_LIMIT:
        return int(limit)
    return int(truncation["max_length"]) if truncation else None


def config_limit(config: dict[str, Any]) -> int | None:
    """The longest sequence of the network that a config.json of transformers describes, or None where it does not say.

    For models that come as a graph: the network is made without weights.
    """
    try:
        with torch.device("meta"):
            described = AutoConfig.for_model(**config)
            return _network_limit(AutoModelForSequenceClassification.from_config(described, trust_remote_code=False))
    except Exception:  # noqa: BLE001 - beside a graph a config may be of anything, and the library raises as it likes
        positions = config.get("max_position_embeddings")
        if not isinstance(positions, int) or positions <= 0:
            return None
        # RoBERTa's kind counts positions from after the padding's id, which is 1 there.
        return positions - 2 if config.get("pad_token_id") == 1 else positions


def _bare_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    try:
        return PreTrainedTokenizerFast(tokenizer_file=str(path))
    except Exception as error:  # noqa: BLE001 - as above
        raise UserError(f"{path} is not a tokenizer: {_one_line(error)}") from None


def _network(model: Any, config: dict[str, Any]) -> BroughtNetwork:  # noqa: ANN401 - a transformers model
    known = model.config.id2label
    names = label_names_of(config) or tuple(str(known.get(at, f"LABEL_{at}")) for at in range(model.config.num_labels))
    return BroughtNetwork(
        network=TunedClassifier(model).requires_grad_(False).eval().cpu(),
        architecture=type(model).__name__,
        label_names=names,
        max_tokens=_network_limit(model),
    )


def _network_limit(model: Any) -> int | None:  # noqa: ANN401 - a transformers model
    """The longest sequence that a network has positions for; None where it counts them without end."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return None
    # These count positions from the padding id.
    return positions - 2 if _counts_from_padding(model) else positions


def _counts_from_padding(model: Any) -> bool:  # noqa: ANN401 - a transformers model
    return any(getattr(module, "padding_idx", None) for name, module in model.named_modules() if "position_emb" in name)


def _load_classifier(what: str, place: str, trained: set[str], **options: Any) -> Any:  # noqa: ANN401 - transformers'
    """A classifier in plain fp32; what its files hold no weights of must be in parts that an adapter has `trained`.

    Raises:
        UserError: it cannot be loaded, or would be drawn at random in part; `what` names it.
    """
    try:
        model, found = AutoModelForSequenceClassification.from_pretrained(
            place,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **options,
        )
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        raise UserError(f"cannot load {what} as a sequence classifier: {_one_line(error)}") from None
    absent = {*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])}
    untrained = sorted(name for name in absent if not set(name.split(".")) & trained)
    if untrained:
        raise UserError(
            f"{what} is not a trained {type(model).__name__}: {len(untrained)} weights are missing or of another "
            f"size, such as {untrained[0]}; give one as 'save_pretrained' leaves it"
        )
    return _plain(model)


def _plain(model: Any) -> Any:  # noqa: ANN401 - a transformers model
    hold_weights(model)
    if getattr(model, "is_quantized", False):
        model = model.dequantize()
    return model.float()


def _load_adapter(brought: BroughtModel) -> BroughtNetwork:
    if (brought.place / "recipe.json").is_file():
        recipe = adapter_folder.read_recipe(brought.place)
        merged = adapter_folder.load_merged(brought.place)
        model: Any = merged.model
        return BroughtNetwork(merged, type(model).__name__, recipe.label_names, None)
    source = brought.spec.source
    config = _peft_config(brought)
    model = _base_for(brought, config)
    try:
        opened: Any = PeftModel.from_pretrained(model, str(brought.place), config=config)
        merged = opened.merge_and_unload(safe_merge=True)
    except (OSError, ValueError, RuntimeError, KeyError, AttributeError, SafetensorError) as error:
        raise UserError(f"the adapter {source!r} does not fit its base: {_one_line(error)}") from None
    return _network(merged, brought.config)


def _peft_config(brought: BroughtModel) -> PeftConfig:
    try:
        config = PeftConfig.from_pretrained(str(brought.place))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"cannot read the adapter {brought.spec.source!r}: {_one_line(error)}") from None
    if config.is_prompt_learning:
        kind = getattr(config.peft_type, "value", config.peft_type)
        raise UserError(
            f"the adapter {brought.spec.source!r} is of the kind {kind}: virtual tokens cannot be merged "
            "into weights; expected one that can, such as LORA"
        )
    return config


def _base_for(brought: BroughtModel, config: PeftConfig) -> Any:  # noqa: ANN401 - a transformers model
    """The base with a head as wide as the adapter's own, dequantised."""
    assert brought.base is not None, "an adapter has a base"  # noqa: S101 - for the types
    place, source = brought.base.place, brought.spec.source
    try:
        base_config = AutoConfig.from_pretrained(place, trust_remote_code=False)
        heads = _head_weights(deepcopy(base_config))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"cannot read the base {brought.base.name!r} of the adapter: {_one_line(error)}") from None
    kept = _shapes(brought.place / _ADAPTER_WEIGHTS)
    width = next((shape[0] for name, shape in kept.items() for head in heads if name.endswith(head)), None)
    trained: set[str] = set(getattr(config, "modules_to_save", None) or ())
    names = label_names_of(brought.config)
    if names is None and width is not None and width != base_config.num_labels:
        names = tuple(f"LABEL_{number}" for number in range(width))
    if width is not None and names is not None and len(names) != width:
        raise UserError(f"the adapter {source!r} has a head of {width} labels, its config.json names {len(names)}")
    options: dict[str, Any] = {}
    if names is not None:
        options = {"num_labels": len(names), "id2label": dict(enumerate(names))}
        options["label2id"] = {name: number for number, name in enumerate(names)}
    if brought.spec.bits is not None:
        options["quantization_config"] = _quantisation(brought.spec.bits, trained)
    what = f"the base {brought.base.name!r} of the adapter {source!r}"
    return _load_classifier(what, place, trained, **options)


def _head_weights(config: Any) -> set[str]:  # noqa: ANN401 - a transformers config
    """The names of the weights whose size is the number of labels, by comparing two networks without weights.

    The config is changed on the way.
    """
    shapes = []
    for labels in (2, 3):
        config.num_labels = labels
        with torch.device("meta"):
            model = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
        shapes.append({name: tuple(tensor.shape) for name, tensor in model.state_dict().items()})
    return {name for name, shape in shapes[0].items() if shapes[1][name] != shape and name.endswith(".weight")}


def _shapes(path: Path) -> dict[str, list[int]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read {path}: {_one_line(error)}") from None


def _quantisation(bits: int, trained: set[str]) -> BitsAndBytesConfig:
    skipped = [rf"(?:.*\.)?{name}" for name in sorted({*_HEADS, *trained})]
    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
        llm_int8_skip_modules=skipped,
    )


def _one_line(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:300]
