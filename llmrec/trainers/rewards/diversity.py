"""Reward what the rest of the list does not have: how unlike an item is to the others of its group."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmrec.data.interactions import Interactions
from llmrec.tasks.negatives.base import Rows2D
from llmrec.tasks.next_item import NextItemTask
from llmrec.trainers.rewards.base import Asked, RewardFunction
from llmrec.trainers.rewards.similarity import VectorReward


class Diversity(VectorReward):
    """1 minus the mean cosine to the other items of the group; an item that is drawn twice is wholly alike.

    An item of which nothing is known would be unlike everything, and soon be all that is recommended. It gets the mean
    of its group, which in GRPO neither helps nor harms it.
    """

    encoder: dict[str, Any] = {"kind": "tfidf"}

    def fit(self, task: NextItemTask, train: Interactions, seed: int) -> RewardFunction:
        """See `Reward.fit`: the vectors of all items."""
        vectors = self.vectors(task, train)

        def score(asked: Asked, items: Rows2D) -> NDArray[np.float32]:
            return novelty(vectors[items], items)

        return score


def novelty(vectors: NDArray[np.float32], items: Rows2D) -> NDArray[np.float32]:
    """How unlike each item is to the others of its row.

    Args:
        vectors: `float32[B, n, D]`, unit rows; zero where nothing is known. items: `int32[B, n]`, -1 for none.

    Returns:
        `float32[B, n]`; 1 for a known item beside which there is no other.
    """
    known = vectors.any(-1) & (items >= 0)  # (B, n)
    alike = np.einsum("bnd,bmd->bnm", vectors, vectors)
    alike[items[:, :, None] == items[:, None]] = 1  # exactly, and also where nothing is known
    others = known[:, None] & ~np.eye(items.shape[1], dtype=bool)
    found = 1 - (alike * others).sum(-1) / others.sum(-1).clip(min=1)
    mean = (found * known).sum(1, keepdims=True) / known.sum(1, keepdims=True).clip(min=1)
    return np.where(known, found, mean).astype(np.float32)
