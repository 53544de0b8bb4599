"""Preferences between items that a model proposed, by their rewards: a better one and worse ones.

OneRec (Deng et al. 2025, https://arxiv.org/abs/2502.18965) takes the best and the worst of the model's own beams by a
reward model: that is `chosen: best`. With `chosen: observed` the better one is what the user took.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llmrec.component import Component
from llmrec.tasks.negatives.base import NONE, Rows2D
from llmrec.tasks.preferences import Preferences
from llmrec.types import Rows


class JudgedItems(Component):
    """How judged items become a preference.

    Args:
        chosen: `observed`, what the user took; or `best`, the candidate with the highest reward, of equal ones what
            the user took and then what the model put higher.
        rejected: at most so many candidates whose reward is lower than the chosen one's, the lowest first and of equal
            ones those that the model put higher. What the user wishes elsewhere is never rejected.
    """

    chosen: Literal["observed", "best"] = "observed"
    rejected: int = Field(3, ge=1)

    def candidates(self, proposed: Rows2D, taken: Rows) -> Rows2D:
        """What is judged, `int32[P, 1 + n]`: what the user took, then the model's other items; `NONE` fills up.

        Args:
            proposed: `int32[P, n]`, best first. taken: `int32[P]`, `NONE` where nothing is known.
        """
        others = np.where(proposed == taken[:, None], NONE, proposed)
        return np.concatenate([taken[:, None], others], 1).astype(np.int32)

    def build(
        self,
        users: Rows,
        positions: Rows,
        candidates: Rows2D,
        rewards: NDArray[np.float32],
        is_wish: NDArray[np.bool_],
    ) -> Preferences:
        """The preferences; there may be none, since equal rewards give none.

        Args:
            users, positions: `int32[P]` of each choice. candidates: of `candidates`.
            rewards: `float32[P, 1 + n]`. is_wish: `bool[P, 1 + n]`, what the user takes anywhere in the train rows.
        """
        real, choice = candidates != NONE, np.arange(len(candidates))[:, None]
        chosen = np.zeros(len(candidates), np.int64)
        if self.chosen == "best":
            chosen = np.where(real, rewards, -np.inf).argmax(1)
        worse = real & ~is_wish & (rewards < rewards[choice, chosen[:, None]])
        worse &= real[choice, chosen[:, None]]
        lowest = np.argsort(np.where(worse, rewards, np.inf), axis=1, kind="stable")[:, : self.rejected]
        rejected = np.where(worse[choice, lowest], candidates[choice, lowest], NONE)
        kept = worse.any(1)
        return Preferences(
            users[kept], positions[kept], candidates[choice[:, 0], chosen][kept], rejected[kept].astype(np.int32)
        )
