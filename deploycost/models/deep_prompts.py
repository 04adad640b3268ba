"""Deep prompts: trained keys and values that chosen layers attend to beside those of the text.

After prefix tuning (Li and Liang, 2021) and P-tuning v2 (Liu et al., 2022). They take no position from the text, and
cost a request only the attention to a few more keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from deploycost.models.base import FAMILIES, layer_parts
from deploycost.models.prompted_attention import use_prompted_attention

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# As the weights of encoders are drawn (BERT's `initializer_range`).
_START_STD = 0.02


class PrefixNetwork(nn.Module):
    """What makes keys and values while training, after the reparametrisation of Li and Liang (2021), section 4.3.

    One small vector per virtual token, a shared hidden layer with tanh, and a matrix for each layer of the encoder.
    """

    def __init__(self, layers: int, tokens: int, width: int, hidden: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(tokens, hidden))
        self.hidden = nn.Linear(hidden, hidden)
        self.outputs = nn.ModuleList(nn.Linear(hidden, 2 * width) for _ in range(layers))
        for output in self.outputs:
            nn.init.normal_(output.weight, std=_START_STD)  # pyright: ignore[reportArgumentType]
            nn.init.zeros_(output.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, index: int) -> tuple[Tensor, Tensor]:
        """Keys and values [tokens, width] for the layer at `index` among those chosen."""
        keys, values = self.outputs[index](torch.tanh(self.hidden(self.vectors))).chunk(2, dim=-1)
        return keys, values


class DeepPrompts(nn.Module):
    """Keys and values for chosen layers of one encoder, handed to their attention by hooks.

    With `hidden`, a network of that width makes what is added to the start, and it alone is trained; `baked` gives
    the sum, which is all that need be kept.
    """

    def __init__(self, model: PreTrainedModel, layers: Sequence[int], tokens: int, hidden: int | None = None) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.heads, width = model.config.num_attention_heads, model.config.hidden_size
        self.keys = nn.ParameterList(torch.randn(tokens, width) * _START_STD for _ in layers)
        self.values = nn.ParameterList(torch.randn(tokens, width) * _START_STD for _ in layers)
        self.network = PrefixNetwork(len(self.layers), tokens, width, hidden) if hidden else None
        self.enabled = True
        self.keys.requires_grad_(hidden is None)
        self.values.requires_grad_(hidden is None)
        use_prompted_attention(model)
        attentions = layer_parts(model, FAMILIES[model.config.model_type].self_attention)
        for index, layer in enumerate(self.layers):
            # A partial of a bound method is copied along with the model; a closure would go on pointing here.
            attentions[layer].register_forward_pre_hook(partial(self._hand_over, index), with_kwargs=True)

    def at(self, index: int) -> tuple[Tensor, Tensor]:
        """Keys and values [tokens, width] for the layer at `index` among those chosen."""
        keys, values = self.keys[index], self.values[index]
        if self.network is None:
            return keys, values
        more_keys, more_values = self.network(index)
        return keys + more_keys, values + more_values

    @torch.no_grad()
    def baked(self) -> dict[str, Tensor]:
        """The state of the same prompts without a network: `keys.N` and `values.N` [tokens, width]."""
        pairs = [self.at(index) for index in range(len(self.layers))]
        return {
            f"{name}.{index}": pair[which].detach().clone().contiguous()
            for which, name in enumerate(("keys", "values"))
            for index, pair in enumerate(pairs)
        }

    def drop_network(self) -> None:
        """Trains keys and values themselves from here on, as a state from `baked` needs it."""
        if self.network is None:
            return
        self.network = None
        self.keys.requires_grad_(True)
        self.values.requires_grad_(True)

    @torch.no_grad()
    def start_from(self, model: PreTrainedModel, vectors: Tensor, max_positions: int) -> None:
        """Starts from the keys and values that the encoder itself makes of `vectors` [tokens, width] as a text.

        Li and Liang (2021, section 7.4) find activations of real words a better start than noise.
        """
        family = FAMILIES[model.config.model_type]
        attentions = layer_parts(model, family.self_attention)
        seen: dict[int, list[Tensor]] = {layer: [] for layer in self.layers}

        def note(layer: int, _: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            seen[layer].append(given[0] if given else named["hidden_states"])

        handles = [
            attentions[layer].register_forward_pre_hook(partial(note, layer), with_kwargs=True) for layer in self.layers
        ]
        was_training, was_enabled = model.training, self.enabled
        self.enabled = False
        try:
            model.eval()
            for part in vectors.split(max_positions):
                model.base_model(inputs_embeds=part.unsqueeze(0), attention_mask=part.new_ones((1, len(part))).long())
        finally:
            self.enabled = was_enabled
            model.train(was_training)
            for handle in handles:
                handle.remove()
        for index, layer in enumerate(self.layers):
            hidden = torch.cat(seen[layer], dim=1)[0]
            for kept, name in zip((self.keys, self.values), family.keys_and_values, strict=True):
                kept[index].copy_(attentions[layer].get_submodule(name)(hidden))

    def _hand_over(
        self, index: int, _: nn.Module, given: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if not self.enabled:
            return None
        keys, values = (part.unflatten(-1, (self.heads, -1)).transpose(0, 1) for part in self.at(index))
        return given, {**named, "prompt_keys": keys, "prompt_values": values}
