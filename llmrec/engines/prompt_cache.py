"""Keys and values of prompt beginnings that were computed before.

Two kinds are kept. The *shared* beginning (the instruction that every prompt starts with) is computed once a process.
Beyond it, up to `most_tokens` tokens of whole prompts are kept, the latest used: a user who comes back with a few more
events then pays for these alone. A prompt continues from the longest beginning that is known, token by token equal, so
nothing has to be said about who asks. When a weight of the model changes, everything is forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

Ids = tuple[int, ...]
Layers = list[tuple[Tensor, Tensor]]
"""Keys and values of each layer, both `(G, P, E)`."""

WORTHWHILE = 0.2
"""Share of a batch's prompt tokens that must be known: below it, the mask that continuing needs costs more."""


class Known(NamedTuple):
    """What can be continued: the tokens of each prompt that are known, and their keys and values."""

    lengths: list[int]
    layers: list[Layers | None]


class PromptCache:
    """Beginnings of prompts for one model.

    Args:
        model: whose keys and values are kept.
        shared: token ids that prompts begin with.
        most_tokens: of whole prompts; 0 keeps none.
    """

    def __init__(self, model: PreTrainedModel, shared: Sequence[int] = (), most_tokens: int = 0) -> None:
        self.model, self.shared, self.most_tokens = model, tuple(shared), most_tokens
        self._prompts: OrderedDict[Ids, Layers] = OrderedDict()
        self._shared: Layers | None = None
        self._weights: tuple[int, ...] = ()

    @property
    def tokens(self) -> int:
        """Tokens of whole prompts that are kept now."""
        return sum(map(len, self._prompts))

    def known(self, prompts: Sequence[Sequence[int]]) -> Known | None:
        """The longest known beginning of each prompt, at most all but its last token; None where it is too little."""
        self._forget_if_changed()
        lengths = sorted(set(map(len, self._prompts)), reverse=True)
        found = [self._longest(tuple(prompt), lengths) for prompt in prompts]
        if sum(length for length, _ in found) < WORTHWHILE * sum(map(len, prompts)):
            return None
        return Known([length for length, _ in found], [layers for _, layers in found])

    def keep(self, prompts: Sequence[Sequence[int]], places: Tensor, cache: DynamicCache) -> None:
        """Remember whole prompts.

        Args:
            prompts: `B`. places: `bool[B, P]`, where each prompt's tokens stand among the first `P` of the cache.
        """
        if not self.most_tokens:
            return
        width = places.shape[1]
        for user, prompt in enumerate(prompts):
            at = places[user].nonzero().squeeze(1)
            self._prompts[tuple(prompt)] = [
                (layer.keys[user, :, :width][:, at].clone(), layer.values[user, :, :width][:, at].clone())
                for layer in cache.layers
            ]
            self._prompts.move_to_end(tuple(prompt))
        tokens = self.tokens
        while tokens > self.most_tokens:
            tokens -= len(self._prompts.popitem(last=False)[0])

    def _longest(self, prompt: Ids, lengths: Sequence[int]) -> tuple[int, Layers | None]:
        """Tokens known, at most all but the last, and their keys and values.

        Args:
            lengths: those of the prompts that are kept, longest first.
        """
        for length in lengths:
            if length <= len(prompt) and (layers := self._prompts.get(prompt[:length])) is not None:
                self._prompts.move_to_end(prompt[:length])
                return min(length, len(prompt) - 1), layers
        length = len(self.shared)
        if length and length < len(prompt) and prompt[:length] == self.shared:
            return length, self._shared_layers()
        return 0, None

    def _shared_layers(self) -> Layers:
        if self._shared is None:
            cache = DynamicCache()
            ids = torch.tensor([self.shared], device=self.model.device)
            self.model.get_decoder()(input_ids=ids, past_key_values=cache, use_cache=True)
            self._shared = [(layer.keys[0], layer.values[0]) for layer in cache.layers]
        return self._shared

    def _forget_if_changed(self) -> None:
        """A training step writes weights in place, which torch counts."""
        now = tuple(p._version if not p.is_inference() else 0 for p in self.model.parameters())
        if now != self._weights:
            self._prompts.clear()
            self._shared, self._weights = None, now
