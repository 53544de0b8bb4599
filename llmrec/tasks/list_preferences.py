"""Preferences between whole lists: of the lists that a model proposed, a better one and worse ones.

OneRec (Deng et al., 2025) takes the best and the worst of the model's own beams, by a reward model. That is
`chosen: best`. With `chosen: observed` the better list is what the user took.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llmrec.component import Component
from llmrec.tasks.lists import NextLists
from llmrec.tasks.negatives.base import NONE, Rows2D
from llmrec.types import Rows


@dataclass(frozen=True)
class ListPreferences:
    """`P` choices between lists, sorted by user and position.

    Args:
        users: `int32[P]`. positions: `int32[P]`; the history is the user's first so many train items.
        lists: `int32[P, 1 + R, m]`, the chosen one first; `NONE` behind the end of a list, and for none.
    """

    users: Rows
    positions: Rows
    lists: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.users)

    def options(self, number: int) -> Rows2D:
        """`int32[n, m]`: the lists of one choice, the chosen one first."""
        lists: Rows2D = self.lists[number]
        return lists[lists[:, 0] != NONE]


class JudgedLists(Component):
    """How judged lists become a preference.

    Args:
        chosen: `observed`, what the user took; or `best`, the proposed list with the highest reward.
        rejected: at most so many proposed lists whose reward is lower than the chosen one's, the lowest first and of
            equal ones those that the model put higher. Equal rewards give no preference. A rejected list may hold items
            that the user took; it is worse as a whole.
    """

    chosen: Literal["observed", "best"] = "observed"
    rejected: int = Field(1, ge=1)

    def proposals(self, moments: NextLists, lists: NDArray[np.int32]) -> NDArray[np.int32]:
        """What is judged, `int32[P, n, m]`: the model's lists, and before them what the user took if it is chosen.

        Args:
            lists: `int32[P, beams, m]`, best first.
        """
        return np.concatenate([moments.items[:, None], lists], 1) if self.chosen == "observed" else lists

    def build(self, moments: NextLists, lists: NDArray[np.int32], rewards: NDArray[np.float32]) -> ListPreferences:
        """The preferences; there may be none.

        Args:
            lists: of `proposals`. rewards: `float32[P, n]`, of each.
        """
        real = lists[..., 0] != NONE
        best = np.zeros(len(lists), np.int64)
        if self.chosen == "best":
            best = np.where(real, rewards, -np.inf).argmax(1)
        moment = np.arange(len(lists))[:, None]
        worse = real & (rewards < rewards[moment, best[:, None]])
        lowest = np.argsort(np.where(worse, rewards, np.inf), axis=1, kind="stable")[:, : self.rejected]
        rejected = np.where(worse[moment, lowest][..., None], lists[moment, lowest], NONE)
        kept = worse.any(1)
        options = np.concatenate([lists[moment, best[:, None]], rejected], 1)[kept]
        return ListPreferences(moments.users[kept], moments.positions[kept], options.astype(np.int32))
