"""The prompts of a batch through the model, once a user, continuing what is known already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from llmrec.engines.prompt_cache import Known, PromptCache
from llmrec.engines.tree_attention import added


@dataclass(frozen=True)
class Prefill:
    """Prompts that were computed.

    Args:
        cache: keys and values of `P` columns. last: `(B, D)`, the hidden state of each prompt's last token.
        is_prompt: `bool[B, P]`, false on padding. lengths: `int64[B]`, tokens of each prompt.
    """

    cache: DynamicCache
    last: Tensor
    is_prompt: Tensor
    lengths: Tensor

    def of_users(self, users: Tensor) -> Prefill:
        """Of some users `int64[n]`, without what was fed after the prompts; the cache itself is changed."""
        if (extra := self.cache.get_seq_length() - self.is_prompt.shape[1]) > 0:
            self.cache.crop(-extra)
        self.cache.batch_select_indices(users)
        return Prefill(self.cache, self.last[users], self.is_prompt[users], self.lengths[users])


def prefill(model: PreTrainedModel, prompts: Sequence[Sequence[int]], store: PromptCache) -> Prefill:
    """Run the prompts, `B` lists of token ids, none empty."""
    known = store.known(prompts)
    found = _whole(model, prompts) if known is None else _rest(model, prompts, known)
    store.keep(prompts, found.is_prompt, found.cache)
    return found


def _whole(model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> Prefill:
    ids, is_real = _padded(prompts, model.device)
    cache = DynamicCache()
    # A cache that knows the config would drop what lies behind a sliding window, and count the beams as positions.
    # Right padding: a prompt's own tokens never see the padding behind them, so no mask is needed.
    hidden = model.get_decoder()(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state
    lengths = is_real.sum(1)
    return Prefill(cache, hidden[torch.arange(len(ids), device=ids.device), lengths - 1], is_real, lengths)


def _rest(model: PreTrainedModel, prompts: Sequence[Sequence[int]], known: Known) -> Prefill:
    """Only the tokens behind the known ones are fed; they see the known ones and each other's past."""
    device = model.device
    ids, is_real = _padded([prompt[length:] for prompt, length in zip(prompts, known.lengths, strict=True)], device)
    done = torch.tensor(known.lengths, device=device)
    width = int(done.max())
    is_done = torch.arange(width, device=device) < done[:, None]  # (B, W)
    rows = torch.arange(ids.shape[1], device=device)
    causal = (rows[:, None] >= rows).expand(len(ids), -1, -1)
    mask = torch.cat([is_done[:, None].expand(-1, len(rows), -1), causal], -1)[:, None]  # (B, 1, R, W + R)
    cache = _assembled(model, known, width)
    hidden = model.get_decoder()(
        input_ids=ids,
        attention_mask=added(mask, model.dtype),
        position_ids=done[:, None] + rows,
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    last = hidden[torch.arange(len(ids), device=device), is_real.sum(1) - 1]
    return Prefill(cache, last, torch.cat([is_done, is_real], 1), done + is_real.sum(1))


def _assembled(model: PreTrainedModel, known: Known, width: int) -> DynamicCache:
    """A cache of `width` columns; zeros where a user knows fewer."""
    cache = DynamicCache()
    some = next(layers for layers in known.layers if layers is not None)
    for number, pair in enumerate(some):
        keys, values = (
            torch.zeros(len(known.layers), part.shape[0], width, part.shape[2], dtype=part.dtype, device=part.device)
            for part in pair
        )
        for user, (layers, length) in enumerate(zip(known.layers, known.lengths, strict=True)):
            if layers is not None:
                keys[user, :, :length] = layers[number][0][:, :length]
                values[user, :, :length] = layers[number][1][:, :length]
        cache.update(keys, values, number)
    return cache


def _padded(lists: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """`int64[B, R]`, zeros behind the shorter ones, and `bool[B, R]`, where there is a token."""
    width = max(map(len, lists))
    ids = torch.tensor([[*ids, *[0] * (width - len(ids))] for ids in lists], device=device)
    lengths = torch.tensor([len(ids) for ids in lists], device=device)
    return ids, torch.arange(width, device=device) < lengths[:, None]
