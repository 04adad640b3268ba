"""Bottleneck adapters: two thin matrices after a block's projection, around which the rest is frozen."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from deploycost.models.base import FAMILIES, layer_parts

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Near nothing at first, so that training starts from the encoder as it is (Houlsby et al., 2019, section 2.1).
_START_STD = 1e-3


class Bottleneck(nn.Module):
    """x + up(gelu(down(x))) for x [..., width]."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, inner)
        self.up = nn.Linear(inner, width)
        nn.init.normal_(self.up.weight, std=_START_STD)
        nn.init.zeros_(self.up.bias)

    def forward(self, given: Tensor) -> Tensor:
        """What was given, with the bottleneck's answer added; same shape."""
        return given + self.up(nn.functional.gelu(self.down(given)))


class Bottlenecks(nn.Module):
    """The bottlenecks of one encoder, put after its projections by hooks, before each residual sum and its norm.

    `pfeiffer` has one a layer, after the feed-forward block (Pfeiffer et al., 2021); `houlsby` one after attention
    too (Houlsby et al., 2019).
    """

    def __init__(
        self, model: PreTrainedModel, placement: Literal["houlsby", "pfeiffer"], reduction_factor: int
    ) -> None:
        super().__init__()
        family = FAMILIES[model.config.model_type]
        width = model.config.hidden_size
        places = {"feed_forward": family.feed_forward_output}
        if placement == "houlsby":
            places = {"attention": family.attention_output, **places}
        self.enabled = True
        for name, path in places.items():
            projections = layer_parts(model, path)
            bottlenecks = nn.ModuleList(Bottleneck(width, width // reduction_factor) for _ in projections)
            self.add_module(name, bottlenecks)
            for projection, bottleneck in zip(projections, bottlenecks, strict=True):
                # A partial of a bound method is copied along with the model; a closure would go on pointing here.
                projection.register_forward_hook(partial(self._pass_through, bottleneck))

    def _pass_through(self, bottleneck: nn.Module, _: nn.Module, __: tuple[Any, ...], output: Tensor) -> Tensor:
        return bottleneck(output) if self.enabled else output
