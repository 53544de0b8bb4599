"""SASRec: self-attention over the history, trained at every position (Kang and McAuley, 2018).

https://arxiv.org/abs/1808.09781. With the softmax over all items, or over many drawn ones, it is the baseline that new
models must beat; with the paper's own loss, one negative a position, it is the one that they usually do beat.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from llmrec.errors import RecipeError
from llmrec.recommenders.item_transformer import ItemTransformer, Shape
from llmrec.recommenders.neural import NeuralRecommender


class SASRec(NeuralRecommender):
    """A causal transformer over item vectors; the same vectors are read and predicted.

    Departs from the paper: softmax (`loss: bce` is theirs), dropout in the blocks as in ordinary transformers, layer
    norm before each part of a block and on the inputs, a feed-forward layer of four times the width, and positions
    that count from the oldest item, so that a place means the same in training and in use.

    Args:
        blocks, heads: as in the paper, which has one head. dropout: the paper's .5 for sparse data.
        norm: layer norm `pre` or `post`. temperature: None for plain products, otherwise cosines divided by it.
        The others: see `NeuralRecommender`.
    """

    blocks: int = Field(default=2, ge=1)
    heads: int = Field(default=2, ge=1)
    dropout: float = Field(default=0.5, ge=0, lt=1)
    norm: Literal["pre", "post"] = "pre"
    temperature: float | None = Field(default=None, gt=0)

    kind: ClassVar[str] = "sasrec"

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        check_heads(self.dimensions, self.heads)
        return self

    def network(self, size: int) -> ItemTransformer:
        """A causal transformer."""
        return ItemTransformer(
            Shape(
                size=size,
                length=self.max_history,
                extra=0,
                dimensions=self.dimensions,
                blocks=self.blocks,
                heads=self.heads,
                feedforward=4 * self.dimensions,
                dropout=self.dropout,
                norm=self.norm,
                activation="gelu",
                causal=True,
                from_end=False,
                temperature=self.temperature,
            )
        )


def check_heads(dimensions: int, heads: int) -> None:
    """Heads share the dimensions evenly.

    Raises:
        RecipeError: they cannot.
    """
    if dimensions % heads:
        raise RecipeError(f"{heads} heads cannot share {dimensions} dimensions. Give a multiple of {heads}.")
