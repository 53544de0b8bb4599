"""The contract of negatives: for every choice of a user, items that the user did not choose.

What counts as a *false* negative is decided here once: an item that the same user takes anywhere in the train rows,
before or after the choice, is never drawn. Validation and test rows are not looked at, not even to exclude an item: an
item that a user takes there may be drawn, as it might be in a live system that does not know the future.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from llmrec.data.interactions import Interactions
from llmrec.indexes.base import ItemIndex
from llmrec.types import Ragged, Rows, ScoredItems

Rows2D = NDArray[np.int32]
NONE = -1
"""What fills a list of negatives where there are too few."""


class Ranker(Protocol):
    """The model that is aligned, as far as negatives know it; any recommender."""

    def recommend(self, histories: Ragged, k: int, exclude_seen: bool) -> ScoredItems:
        """The best k items of each history."""
        ...


@dataclass(frozen=True)
class Choices:
    """Which item was chosen by whom and where.

    Args:
        train: train rows only. index: codes of the items.
        users: `int32[P]`. positions: `int32[P]`; the chosen item is `train.history(user)[position]`.
        positives: `bool[E]`, the train events that count as a wish for their item.
        ranker: the model before alignment; None where there is none.
    """

    train: Interactions
    index: ItemIndex
    users: Rows
    positions: Rows
    positives: NDArray[np.bool_]
    ranker: Ranker | None = None

    def __len__(self) -> int:
        return len(self.users)

    @cached_property
    def events(self) -> NDArray[np.int64]:
        """`int64[P]`: the train event of each choice."""
        return self.train.offsets[self.users] + self.positions

    @cached_property
    def chosen(self) -> Rows:
        """`int32[P]`: the item of each choice."""
        return self.train.item_rows[self.events]

    @cached_property
    def histories(self) -> Ragged:
        """`P` lists: what the user had taken before the choice."""
        starts = self.train.offsets[self.users]
        rows = self.train.item_rows
        return Ragged.from_lists(rows[start:end] for start, end in zip(starts, self.events, strict=True))

    @cached_property
    def _positive_keys(self) -> NDArray[np.int64]:
        kept = self.positives
        return np.unique(self.train.user_rows[kept].astype(np.int64) * len(self.index) + self.train.item_rows[kept])

    def is_positive(self, which: NDArray[np.int64], rows: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Whether the user of choice `which[i]` wishes item `rows[i]` anywhere in the train rows."""
        keys = self.users[which].astype(np.int64) * len(self.index) + rows
        places = np.searchsorted(self._positive_keys, keys)
        return self._positive_keys[np.minimum(places, len(self._positive_keys) - 1)] == keys

    def draw_from(self, lists: Iterable[Rows], count: int, rng: np.random.Generator) -> Rows2D:
        """At most `count` different allowed items of each choice's own list, each subset equally likely.

        Args:
            lists: `P` lists of item rows.

        Returns:
            `int32[P, count]`, filled with `NONE`.
        """
        drawn = np.full((len(self), count), NONE, np.int32)
        for number, rows in enumerate(lists):
            rows = np.unique(rows).astype(np.int32)
            rows = rows[~self.is_positive(np.full(len(rows), number), rows)]
            found = rng.permutation(rows)[:count]
            drawn[number, : len(found)] = found
        return drawn


class Negatives(Protocol):
    """What every technique offers (a `Component` whose fields are its settings)."""

    count: int

    def draw(self, choices: Choices, rng: np.random.Generator) -> Rows2D:
        """`int32[P, count]`: different items that are not positive for the user; `NONE` where there are too few."""
        ...

    def fingerprint(self) -> str:
        """Changes when a file that `draw` reads changes; see `Component.fingerprint`."""
        ...
