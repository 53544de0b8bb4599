"""Lists to learn from: after this history the user took these items, one after another.

OneRec (Deng et al., 2025) learns to write a whole session, from sessions that were good: much watched, liked, shared.
Shops rarely log sessions, so a list is here a user's next events, or the next that were rated well. Only train rows are
read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from llmrec.data.interactions import Interactions
from llmrec.errors import DataError
from llmrec.tasks.negatives.base import NONE, Rows2D
from llmrec.tasks.positions import Positions
from llmrec.types import Ragged, Rows


@dataclass(frozen=True)
class NextLists:
    """`P` moments and what came next, sorted by user and position.

    Args:
        train: train rows. users: `int32[P]`. positions: `int32[P]`; the history is the user's first so many items.
        items: `int32[P, m]`, what the user took then, the first first; `NONE` behind the last.
    """

    train: Interactions
    users: Rows
    positions: Rows
    items: Rows2D

    def __len__(self) -> int:
        return len(self.users)

    @property
    def histories(self) -> Ragged:
        """`P` lists: what the user had taken before."""
        moments = zip(self.users, self.positions, strict=True)
        return Ragged.from_lists(self.train.history(user)[:position] for user, position in moments)

    @property
    def observed(self) -> Ragged:
        """`P` lists: `items` without the empty places."""
        real = self.items != NONE
        return Ragged(self.items[real], np.concatenate([[0], np.cumsum(real.sum(1))]))


class ListData(Positions):
    """Which lists are learned from; the other fields are those of `Positions`.

    A list holds wishes only, the history before it whatever the user took.

    Args:
        length: items of a list; where a user's train rows end sooner there are fewer, at least 2.
    """

    length: int = Field(5, ge=2)

    def build(self, train: Interactions, seed: int) -> NextLists:
        """Lists from train rows; the same for the same seed.

        Raises:
            DataError: ratings are asked for that are not there, or no list is left.
        """
        wishes = np.flatnonzero(self.positives(train))  # events
        owners = train.user_rows[wishes]
        ends = np.searchsorted(owners, owners, side="right")  # where the wishes of each one's user end
        begins_a_list = np.zeros(len(train), bool)
        begins_a_list[wishes[ends - np.arange(len(wishes)) >= 2]] = True
        users, positions = self.choose(train, begins_a_list, seed)
        if not len(users):
            raise DataError(
                f"no list is left of {len(train):,} train events.",
                fix="Lower min_history or min_rating, or raise share.",
            )
        first = np.searchsorted(wishes, train.offsets[users] + positions)
        places = first[:, None] + np.arange(self.length)
        there = places < ends[first][:, None]
        items = np.where(there, train.item_rows[wishes[np.where(there, places, 0)]], NONE)
        return NextLists(train, users, positions, items.astype(np.int32))
