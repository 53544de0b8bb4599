"""One state a prompt: what a head reads that scores all items at once, in place of a search for codes.

The embedded way runs the prompts through the model, once, and keeps nothing else; `llmrec.engines.vllm_states` asks
vLLM's pooling runner for the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from llmrec.engines.support import check_length, check_model


class ItemInputs(NamedTuple):
    """What a model reads that takes each item as one vector: ids from `first` on stand for items, and are no tokens.

    Args:
        first: the id of item row 0. read: item rows `int64[n]` -> the vectors `(n, H)`, among the embeddings of words.
    """

    first: int
    read: Callable[[Tensor], Tensor]

    def embed(self, words: Callable[[Tensor], Tensor], ids: Tensor) -> Tensor:
        """The model's inputs `(B, T, H)`.

        Args:
            words: the model's own embedding. ids: `int64[B, T]`.
        """
        is_item = ids >= self.first
        embedded: Tensor = words(ids.masked_fill(is_item, 0))
        return embedded.masked_scatter(is_item[..., None], self.read(ids[is_item] - self.first).to(embedded.dtype))


class StateEngine(Protocol):
    """Gives the last hidden state of prompts."""

    def states(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """`float32[B, H]`, behind the model's final norm, of each prompt's last token.

        Args:
            prompts: `B` lists of token ids, none empty.

        Raises:
            DecodingError: a prompt is longer than the model can see.
        """
        ...


class TransformersStates:
    """States from a causal language model of transformers.

    Args:
        model: in the dtype and on the device to compute with.
        items: of a model that reads items as one vector each.

    Raises:
        DecodingError: see `llmrec.engines.support.check_model`.
    """

    def __init__(self, model: PreTrainedModel, items: ItemInputs | None = None) -> None:
        check_model(model)
        self.model, self.items = model, items

    @torch.inference_mode()
    def states(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """See `StateEngine.states`."""
        check_length(self.model, max(map(len, prompts), default=0), 0)
        device, lengths = self.model.device, torch.tensor([len(prompt) for prompt in prompts])
        ids = torch.zeros(len(prompts), int(lengths.max()), dtype=torch.int64)
        ids[torch.arange(ids.shape[1]) < lengths[:, None]] = torch.tensor([one for prompt in prompts for one in prompt])
        was_training = self.model.training
        self.model.eval()
        try:
            # Right padding: no token sees what stands behind it, so no mask is needed.
            hidden = self.model.get_decoder()(**self._inputs(ids.to(device)), use_cache=False).last_hidden_state
        finally:
            self.model.train(was_training)
        return hidden[torch.arange(len(ids), device=device), lengths.to(device) - 1].float()

    def _inputs(self, ids: Tensor) -> dict[str, Tensor]:
        if self.items is None:
            return {"input_ids": ids}
        return {"inputs_embeds": self.items.embed(self.model.get_input_embeddings(), ids)}
