"""A penalty for the misses of a group that holds the next item: the higher the model put one, the more it costs.

The ranking reward of ReRe (Tan et al. 2025, https://arxiv.org/abs/2510.12211), which MiniOneRec
(https://arxiv.org/abs/2510.24431) trains with. An exact hit tells an item from all others and the others not from each
other; this tells them apart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmrec.component import Component
from llmrec.data.interactions import Interactions
from llmrec.tasks.negatives.base import Rows2D
from llmrec.tasks.next_item import NextItemTask
from llmrec.trainers.rewards.base import Asked, RewardFunction


class RankPenalty(Component):
    """`-(1 / log2(r + 1)) / sum of all 1 / log2(s + 1)` for a miss at rank `r`, counted from 1; 0 for the next item.

    The sum goes over all ranks of the group, that of the hit too. A group without a hit gets 0: its order says nothing
    about what the user wanted, and to push its first item down most would be arbitrary. Both are as in MiniOneRec's
    program; the papers' formula has no such exception. Use it beside `next_item`, which rewards the hit.
    """

    def fit(self, task: NextItemTask, train: Interactions, seed: int) -> RewardFunction:
        """See `Reward.fit`; there is nothing to learn."""
        return self._score

    def _score(self, asked: Asked, items: Rows2D) -> NDArray[np.float32]:
        shares = 1 / np.log2(np.arange(items.shape[1]) + 2.0)
        hits = (items == asked.next_items()[:, None]) & (items >= 0)  # (B, n)
        penalties = np.where(hits, 0.0, -shares / shares.sum())
        return np.where(hits.any(1, keepdims=True), penalties, 0.0).astype(np.float32)
