"""The plainest reward: whether the user took the item."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llmrec.component import Component
from llmrec.data.interactions import Interactions
from llmrec.tasks.negatives.base import Rows2D
from llmrec.tasks.next_item import NextItemTask
from llmrec.trainers.rewards.base import Asked, RewardFunction


class NextItem(Component):
    """1 for the item that the user took next, less for those taken later, 0 for others.

    Args:
        horizon: how many of the following items count. decay: factor of the reward from one of them to the next.
    """

    horizon: int = Field(1, ge=1)
    decay: float = Field(0.5, ge=0, le=1)

    def fit(self, task: NextItemTask, train: Interactions, seed: int) -> RewardFunction:
        """See `Reward.fit`; there is nothing to learn."""
        return self._score

    def _score(self, asked: Asked, items: Rows2D) -> NDArray[np.float32]:
        found = np.zeros(items.shape, np.float32)
        for number, taken in enumerate(asked.observed):
            for later, row in enumerate(taken[: self.horizon]):
                worth = np.float32(self.decay**later)
                found[number] = np.maximum(found[number], np.where(items[number] == row, worth, 0))
        return found
