"""The network of `sasrec` and `bert4rec`: item vectors, learned positions, transformer blocks, tied output."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from llmrec.recommenders.neural import ItemNetwork


class Shape(NamedTuple):
    """What a transformer is made of.

    Args:
        size: items. length: positions. extra: rows of the table beside items and padding, such as a mask.
        dimensions: of vectors. blocks, heads: layers, and attention heads in each. feedforward: width inside a block.
        dropout: on inputs, attention weights and what blocks add.
        norm: layer norm `pre` (before each part of a block, and at the end) or `post` (after each part).
        activation: inside a block. causal: a position sees itself and what is before it, not what is after.
        from_end: positions count from the newest item, not from the oldest.
        temperature: None for plain products as logits, otherwise cosines divided by it.
    """

    size: int
    length: int
    extra: int
    dimensions: int
    blocks: int
    heads: int
    feedforward: int
    dropout: float
    norm: Literal["pre", "post"]
    activation: Literal["relu", "gelu"]
    causal: bool
    from_end: bool
    temperature: float | None


class ItemTransformer(ItemNetwork):
    """States of a history by self-attention. The same table holds what is read and what is compared with."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.items = nn.Embedding(shape.size + 1 + shape.extra, shape.dimensions, padding_idx=shape.size)
        self.positions = nn.Embedding(shape.length, shape.dimensions)
        for table in (self.items, self.positions):
            nn.init.normal_(table.weight, std=0.02)
        self.read = nn.LayerNorm(shape.dimensions)
        self.dropout = nn.Dropout(shape.dropout)
        block = nn.TransformerEncoderLayer(
            shape.dimensions, shape.heads, shape.feedforward, shape.dropout, shape.activation,
            batch_first=True, norm_first=shape.norm == "pre",
        )  # fmt: skip
        last = nn.LayerNorm(shape.dimensions) if shape.norm == "pre" else None
        self.blocks = nn.TransformerEncoder(block, shape.blocks, last, enable_nested_tensor=False)

    def forward(self, rows: Tensor) -> Tensor:
        """States `float[B, T, D]` of item rows `int64[B, T]`."""
        steps, empty = torch.arange(rows.shape[1], device=rows.device), rows == self.shape.size
        places = ((~empty).sum(dim=1, keepdim=True) - 1 - steps).clamp(min=0) if self.shape.from_end else steps
        states = self.dropout(self.read(self.items(rows) + self.positions(places)))
        if self.shape.causal:  # padding is at the end, where no item looks
            states = self.blocks(states, mask=steps[:, None] < steps, is_causal=True)
        else:
            states = self.blocks(states, src_key_padding_mask=empty)
        if self.shape.temperature is None:
            return states
        return functional.normalize(states, dim=-1) / self.shape.temperature

    def item_vectors(self) -> Tensor:
        """The rows of the items."""
        vectors = self.items.weight[: self.shape.size]
        return vectors if self.shape.temperature is None else functional.normalize(vectors, dim=-1)
