"""What rewards of likeness share: vectors of the items, and the cosine to the item that the user took."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmrec.component import Component
from llmrec.data.interactions import Interactions
from llmrec.encoders.base import ItemEncoder
from llmrec.registry import build
from llmrec.tasks.negatives.base import Rows2D
from llmrec.tasks.next_item import NextItemTask
from llmrec.trainers.rewards.base import Asked, RewardFunction


class VectorReward(Component):
    """A reward that knows items by their vectors.

    Args:
        encoder: what makes the vectors, such as `{kind: minilm, fields: [title]}`; any of `llmrec.encoders`.
    """

    encoder: dict[str, Any]

    def model_post_init(self, context: Any) -> None:
        """A misspelt encoder is refused when the recipe is read."""
        self._built()

    def vectors(self, task: NextItemTask, train: Interactions) -> NDArray[np.float32]:
        """`float32[N, D]`, unit rows; zero where nothing is known of an item."""
        return self._built().fit(task.catalog, train).vectors

    def _built(self) -> ItemEncoder:
        encoder: ItemEncoder = build("encoder", self.encoder, "rewards.encoder")
        return encoder


class LikeTheNext(VectorReward):
    """The cosine between an item and the one that the user took next, in [-1, 1]; 0 where one of them is unknown."""

    def fit(self, task: NextItemTask, train: Interactions, seed: int) -> RewardFunction:
        """See `Reward.fit`: the vectors of all items."""
        vectors = self.vectors(task, train)

        def score(asked: Asked, items: Rows2D) -> NDArray[np.float32]:
            taken = asked.next_items()
            wanted = vectors[taken] * (taken >= 0)[:, None]  # (B, D)
            return np.einsum("bnd,bd->bn", vectors[items], wanted)

        return score
