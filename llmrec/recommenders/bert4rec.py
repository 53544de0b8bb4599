"""BERT4Rec: hide some items of a history, guess them from both sides (Sun et al., 2019).

https://arxiv.org/abs/1904.06690. Trained briefly it looks weak: Petrov and Macdonald (2022,
https://arxiv.org/abs/2207.07483) needed up to thirty times the authors' default steps to reach the published figures.
So the defaults here train long, stop by validation, and score against the whole catalog.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from llmrec.recommenders.item_transformer import ItemTransformer, Shape
from llmrec.recommenders.neural import Asked, NeuralRecommender
from llmrec.recommenders.sasrec import check_heads


class BERT4Rec(NeuralRecommender):
    """A transformer that sees both sides of a hidden item; to recommend, a hidden one is put behind the history.

    Departs from the paper: no extra layer and no bias between state and item vectors, losses of
    `llmrec.recommenders.item_losses` (`softmax` is theirs), a plain learning rate, masks drawn anew for every epoch.

    Args:
        masked: the chance that an item is hidden; the paper's .6 for Beauty (.2 for MovieLens), at least one a history.
        last_only: the share of histories of which only the last item is hidden, as in use. The authors' code adds one
            such copy to ten with random masks.
        patience: long, for the cloze learns slowly.
        blocks, heads, dropout, norm, temperature: see `SASRec`. The others: see `NeuralRecommender`.
    """

    masked: float = Field(default=0.6, gt=0, lt=1)
    last_only: float = Field(default=0.1, ge=0, le=1)
    blocks: int = Field(default=2, ge=1)
    heads: int = Field(default=2, ge=1)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    norm: Literal["pre", "post"] = "post"
    temperature: float | None = Field(default=None, gt=0)
    epochs: int = Field(default=400, ge=1)
    patience: int | None = Field(default=20, ge=1)

    kind: ClassVar[str] = "bert4rec"

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        check_heads(self.dimensions, self.heads)
        return self

    def network(self, size: int) -> ItemTransformer:
        """A transformer that looks both ways; row `size + 1` of its table is the mask."""
        return ItemTransformer(
            Shape(
                size=size,
                length=self.max_history + 1,
                extra=1,
                dimensions=self.dimensions,
                blocks=self.blocks,
                heads=self.heads,
                feedforward=4 * self.dimensions,
                dropout=self.dropout,
                norm=self.norm,
                activation="gelu",
                causal=False,
                from_end=True,  # so that the place of the mask in use is one of training
                temperature=self.temperature,
            )
        )

    def ask(self, rows: Tensor, size: int) -> Asked:
        """What is hidden in histories `int64[B, T]`."""
        real = rows < size
        last = torch.arange(rows.shape[1], device=rows.device) == real.sum(dim=1, keepdim=True) - 1
        hidden = real & (torch.rand(rows.shape, device=rows.device) < self.masked)
        only_last = torch.rand(len(rows), 1, device=rows.device) < self.last_only
        hidden = torch.where(only_last | ~hidden.any(dim=1, keepdim=True), last, hidden)
        return Asked(rows.masked_fill(hidden, size + 1), hidden, rows[hidden])

    def ask_next(self, rows: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """A mask behind every history."""
        ends = (rows < size).sum(dim=1)
        shown = torch.cat([rows, torch.full_like(rows[:, :1], size)], dim=1)
        shown[torch.arange(len(rows), device=rows.device), ends] = size + 1
        return shown, ends
