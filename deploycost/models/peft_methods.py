"""Deep prompts and bottlenecks as methods of PEFT: made, saved and loaded as its own are.

register()
model = get_peft_model(model, DeepPromptConfig(task_type="SEQ_CLS", layers=[0, 1], virtual_tokens=20))
model.save_pretrained(folder)
PeftModel.from_pretrained(model, folder)
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils import ModulesToSaveWrapper, PeftType, register_peft_method
from torch import Tensor, nn

from deploycost.models.bottlenecks import Bottlenecks
from deploycost.models.deep_prompts import DeepPrompts

Part = DeepPrompts | Bottlenecks
# Where a part's weights are kept in an adapter file, whatever the adapter is called in the program.
_KEPT = "base_model.part."


class _PartConfig(Protocol):
    inference_mode: bool

    def make_part(self, model: Any) -> Part: ...  # noqa: ANN401 - a transformers model


@dataclass
class DeepPromptConfig(PeftConfig):
    """Trained keys and values on `layers` (from 0); `hidden` is the width of the network that makes them, if any."""

    layers: list[int] = field(default_factory=list)
    virtual_tokens: int = 20
    hidden: int | None = None
    modules_to_save: list[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PeftType["DEEP_PROMPT"]

    @property
    def is_adaption_prompt(self) -> bool:
        """PEFT's word for a tuner that is not made of layers of its own; always true."""
        return True

    def make_part(self, model: Any) -> DeepPrompts:  # noqa: ANN401 - a transformers model
        """The prompts, attached to the model. A network is there only to train from the beginning."""
        return DeepPrompts(model, self.layers, self.virtual_tokens, None if self.inference_mode else self.hidden)


@dataclass
class BottleneckConfig(PeftConfig):
    """Bottlenecks by placement and reduction factor (layer width over bottleneck width)."""

    placement: Literal["houlsby", "pfeiffer"] = "pfeiffer"
    reduction_factor: int = 16
    modules_to_save: list[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PeftType["BOTTLENECK"]

    @property
    def is_adaption_prompt(self) -> bool:
        """PEFT's word for a tuner that is not made of layers of its own; always true."""
        return True

    def make_part(self, model: Any) -> Bottlenecks:  # noqa: ANN401 - a transformers model
        """The bottlenecks, attached to the model."""
        return Bottlenecks(model, self.placement, self.reduction_factor)


class PartTuner(nn.Module):
    """What PEFT asks of a tuner, for a part that hooks tie to a frozen model."""

    def __init__(self, model: nn.Module, peft_config: dict[str, Any], adapter_name: str, **_: Any) -> None:  # noqa: ANN401
        super().__init__()
        config: _PartConfig = peft_config[adapter_name]
        model.requires_grad_(False)
        self.peft_config = peft_config
        self.active_adapters = [adapter_name]
        # Quantised layers are loaded onto a GPU where there is one.
        self.part = config.make_part(model).to(next(model.parameters()).device)
        self.model = model
        if config.inference_mode:
            self.part.requires_grad_(False)

    def forward(self, *given: Any, **named: Any) -> Any:  # noqa: ANN401 - the model's own
        """What the model answers."""
        return self.model(*given, **named)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the model's own
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "model":
                raise
            return getattr(self.model, name)

    def set_adapter(self, adapter_name: str, inference_mode: bool = False) -> None:
        """There is one adapter, always active; its gradients follow `inference_mode`."""
        del adapter_name
        if inference_mode:
            self.part.requires_grad_(False)

    def enable_adapter_layers(self) -> None:
        """Lets the part take effect."""
        self.part.enabled = True

    def disable_adapter_layers(self) -> None:
        """Lets the model answer as if there were no part."""
        self.part.enabled = False

    def _temporarily_active(self, adapter_name: str) -> AbstractContextManager[None]:
        """Asked for while weights are loaded; the one adapter is always active."""
        del adapter_name
        return nullcontext()

    def detach_head(self) -> Any:  # noqa: ANN401 - a transformers model
        """The model with the trained head in the place of PEFT's wrapper; the part stays tied to it."""
        for name, module in list(self.model.named_modules()):
            if isinstance(module, ModulesToSaveWrapper):
                parent, _, child = name.rpartition(".")
                setattr(self.model.get_submodule(parent), child, module.modules_to_save[self.active_adapters[0]])
        return self.model

    @classmethod
    def _get_adapter_state_dict(cls, model: Any, **_: Any) -> dict[str, Tensor]:  # noqa: ANN401 - a PeftModel
        part: Part = model.base_model.part
        state = part.baked() if isinstance(part, DeepPrompts) else part.state_dict()
        return {f"{_KEPT}{name}": tensor for name, tensor in state.items()}

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        del adapter_name
        return key

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls,
        model: Any,  # noqa: ANN401 - a PeftModel
        config: object,
        adapter_name: str,
        state_dict: dict[str, Tensor],
    ) -> dict[str, Tensor]:
        """Raises ValueError where weights are missing, which PEFT would let pass."""
        del config, adapter_name
        part: Part = model.base_model.part
        if isinstance(part, DeepPrompts):
            part.drop_network()
        missing = {f"{_KEPT}{name}" for name in part.state_dict()} - state_dict.keys()
        if missing:
            raise ValueError(f"weights are missing: {', '.join(sorted(missing)[:3])}")
        return state_dict


def register() -> None:
    """Makes the two methods known to PEFT; a second call changes nothing."""
    methods: dict[str, type[PeftConfig]] = {"deep_prompt": DeepPromptConfig, "bottleneck": BottleneckConfig}
    for name, config in methods.items():
        if name.upper() not in PEFT_TYPE_TO_CONFIG_MAPPING:
            _add_type(name.upper())
            register_peft_method(name=name, config_cls=config, model_cls=PartTuner)


def _add_type(name: str) -> None:
    """Adds a member to PEFT's enumeration of methods, which registering asks for and gives no way to do."""
    member = str.__new__(PeftType, name)
    member._name_, member._value_ = name, name
    type.__setattr__(PeftType, name, member)
    PeftType._member_map_[name] = member
    PeftType._member_names_.append(name)
    PeftType._value2member_map_[name] = member
