"""Attention of the tree steps on a CPU: the query heads of a group as further rows of one matrix product.

With grouped-query attention, `transformers` repeats keys and values for every query head when there is a mask, and
torch's CPU kernel walks them in small blocks. A tree step has few keys and many queries, so plain matrix products are
about twice as fast there. The result is that of `attn_implementation="eager"`: scores in the model's type, softmax in
float32. Prefill keeps torch's kernel, which skips what lies behind the diagonal.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "llmrec_tree"


def grouped_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """An attention function of `transformers`.

    Args:
        query: `(B, H, T, E)`. key, value: `(B, G, S, E)`, `H` a multiple of `G`.
        attention_mask: `(B, 1, T, S)`, added to the scores.

    Returns:
        `(B, T, H, E)`.
    """
    special = any(others.get(name) is not None for name in ("softcap", "s_aux", "position_bias"))
    if attention_mask is None or attention_mask.shape[1] != 1 or dropout or special:  # Doge has a mask for each head
        out: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
        )
        return out
    users, heads, rows, width = query.shape
    groups, columns = key.shape[1], key.shape[2]
    scale = width**-0.5 if scaling is None else scaling
    scores = (query * scale).reshape(users, groups, -1, width) @ key.transpose(2, 3)
    by_head = scores.view(users, groups, heads // groups, rows, columns)
    by_head += attention_mask[:, :, None]
    found = by_head.softmax(-1).view(users, groups, -1, columns) @ value
    return found.view(users, heads, rows, -1).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, grouped_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


@contextmanager
def tree_attention(decoder: PreTrainedModel) -> Iterator[None]:
    """Use `grouped_attention` inside, where it is faster."""
    config = decoder.config
    before = config._attn_implementation
    if before == "sdpa" and decoder.device.type == "cpu":
        config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before


def added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask `bool[...]` as what is added to scores: every implementation takes that, eager attention no other."""
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, -torch.inf)
