"""Which choices of the train rows an alignment learns from: positions in histories, whose item the user wished for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llmrec.component import Component
from llmrec.data.interactions import Interactions
from llmrec.errors import DataError
from llmrec.types import Rows


class Positions(Component):
    """The latest choices of some users.

    Args:
        per_user: the latest so many positions of a user; all when None.
        min_history: items that a history has at least. share: share of the users, drawn by the seed.
        min_rating: the lowest rating that counts as a wish; every event is one when None. Only wishes are choices.
    """

    per_user: int | None = Field(1, ge=1)
    min_history: int = Field(1, ge=0)
    share: float = Field(1.0, gt=0, le=1)
    min_rating: float | None = None

    def positives(self, train: Interactions) -> NDArray[np.bool_]:
        """`bool[E]`: the train events that are wishes.

        Raises:
            DataError: ratings are asked for that are not there.
        """
        if self.min_rating is None:
            return np.ones(len(train), bool)
        if "rating" not in train.table.column_names:
            raise DataError("min_rating is set, and the interactions have no ratings.", fix="Remove min_rating.")
        return train.table["rating"].to_numpy() >= self.min_rating

    def now(self, train: Interactions, seed: int) -> tuple[Rows, Rows]:
        """User and position behind the last train event: a question whose answer no train row holds.

        Args:
            train: train rows only. seed: of the users that are drawn.

        Returns:
            `int32[P]` each, sorted by user; `per_user` and `min_rating` have no part in it.
        """
        lengths = np.diff(train.offsets)
        users = np.flatnonzero(self._drawn(train, seed) & (lengths >= self.min_history)).astype(np.int32)
        return users, lengths[users].astype(np.int32)

    def _drawn(self, train: Interactions, seed: int) -> NDArray[np.bool_]:
        """`bool[U]`: the users that take part."""
        return np.random.default_rng([seed, 0]).random(len(train.users)) < self.share

    def choose(self, train: Interactions, positives: NDArray[np.bool_], seed: int) -> tuple[Rows, Rows]:
        """User and position of every choice, `int32[P]` each, sorted by both.

        Args:
            train: train rows only. positives: of `positives`. seed: of the users that are drawn.
        """
        users = train.user_rows
        positions = (np.arange(len(train)) - train.offsets[users]).astype(np.int32)
        usable = np.flatnonzero(positives & (positions >= self.min_history))
        if self.share < 1:
            usable = usable[self._drawn(train, seed)[users[usable]]]
        if self.per_user is not None:
            counts = np.bincount(users[usable], minlength=len(train.users))
            behind = np.cumsum(counts)[users[usable]] - np.arange(len(usable))  # 1 for the latest of a user
            usable = usable[behind <= self.per_user]
        return users[usable], positions[usable]
