"""The weights of an item-projection head: item vectors from text and from a table, and a map from states to them.

Lite-LLM4Rec (Wang et al. 2024, https://arxiv.org/abs/2402.09543) puts such a head in the place of beam search.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

TABLE_SCALE = 0.02


class ItemProjection(nn.Module):
    """`score(item) = <S norm(state), W text(item) + table(item)>`.

    Args:
        text: `float32[N, E]`, frozen; E may be 0, for a table alone.
        hidden: width of the language model's states, `H`. dimensions: of the item vectors, `D`.
        reads: whether the language model reads items as one vector each: then `R vector(item)` is its input.
    """

    text: Tensor

    def __init__(self, text: Tensor, hidden: int, dimensions: int, reads: bool = False) -> None:
        super().__init__()
        self.register_buffer("text", text, persistent=False)  # of the encoder, which gives it again; saved by itself
        self.table = nn.Parameter(TABLE_SCALE * torch.randn(len(text), dimensions))
        # Rows of text have length one: what text gives begins as large as what the table gives.
        self.of_text = nn.Parameter(TABLE_SCALE * torch.randn(dimensions, text.shape[1]))
        self.of_state = nn.Parameter(torch.randn(dimensions, hidden) / hidden**0.5)
        self.read = nn.Parameter(torch.randn(hidden, dimensions) / dimensions**0.5) if reads else None

    @property
    def dimensions(self) -> int:
        """Of item vectors and queries."""
        return self.table.shape[1]

    def vectors(self, rows: Tensor | None = None) -> Tensor:
        """`float32[n, D]` of some item rows, or of all."""
        text, table = (self.text, self.table) if rows is None else (self.text[rows], self.table[rows])
        with torch.autocast(table.device.type, enabled=False):
            return functional.linear(text, self.of_text) + table

    def queries(self, states: Tensor) -> Tensor:
        """`float32[..., D]` of states `(..., H)`, whose length does not count: base models of any scale begin alike."""
        with torch.autocast(states.device.type, enabled=False):
            return functional.linear(functional.rms_norm(states.float(), states.shape[-1:]), self.of_state)

    def inputs(self, vectors: Tensor) -> Tensor:
        """What a language model reads of items, `(n, H)`, out of their vectors `float32[n, D]`."""
        assert self.read is not None
        return functional.linear(vectors, self.read)

    @torch.no_grad()
    def match_scale(self, words: Tensor) -> None:
        """Make what is read of items as long as the rows of words `(V, H)`, before training."""
        if self.read is not None:
            usual = words.float().norm(dim=1).median()
            self.read.mul_(usual / self.inputs(self.vectors()).norm(dim=1).median())
