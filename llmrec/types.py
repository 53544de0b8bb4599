"""The small values that every layer passes on: ragged integer lists, scored items and scored lists of items."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Rows = NDArray[np.int32]
"""Item rows (positions in the catalog), oldest first where they are a history."""


@dataclass(frozen=True)
class Ragged:
    """Lists of int32 of different lengths in one array; `ragged[i]` is a zero-copy slice.

    Args:
        values: `int32[total]`, the lists one after another.
        offsets: `int64[N + 1]`, list `i` is `values[offsets[i]:offsets[i + 1]]`.
    """

    values: NDArray[np.int32]
    offsets: NDArray[np.int64]

    @classmethod
    def from_lists(cls, lists: Iterable[ArrayLike]) -> Ragged:
        arrays = [np.asarray(item, dtype=np.int32) for item in lists]
        offsets = np.zeros(len(arrays) + 1, dtype=np.int64)
        np.cumsum([len(a) for a in arrays], out=offsets[1:])
        return cls(np.concatenate(arrays) if arrays else np.empty(0, np.int32), offsets)

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Rows:
        if not -len(self) <= index < len(self):
            raise IndexError(f"list {index} of {len(self)}")
        index %= len(self)
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def __iter__(self) -> Iterator[Rows]:
        return (self[i] for i in range(len(self)))

    def slice(self, start: int, stop: int) -> Ragged:
        """The lists from `start` on and before `stop`, without a copy."""
        offsets = self.offsets[start : min(stop, len(self)) + 1]
        return Ragged(self.values[offsets[0] : offsets[-1]], offsets - offsets[0])

    def take(self, lists: NDArray[np.int64]) -> Ragged:
        """Some of the lists, `int64[n]`, in the order given; the new values belong to them alone."""
        lengths = self.lengths[lists]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        places = np.repeat(self.offsets[:-1][lists] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Ragged(self.values[places], offsets)


@dataclass(frozen=True)
class ScoredItems:
    """The best items of each history, best first.

    Args:
        rows: `int32[B, k]` item rows; -1 where fewer than k items were allowed.
        scores: `float32[B, k]`, non-increasing along k; `-inf` where `rows` is -1. For a language model the score is
            `log p(item | history)`; other recommenders state their own meaning.
        exact: `bool[B]`, true where the list is proven to be the true top k (a search pruned nothing that could have
            entered it). Recommenders that score every item leave the default, all true.
    """

    rows: NDArray[np.int32]
    scores: NDArray[np.float32]
    exact: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, bool))

    def __post_init__(self) -> None:
        if len(self.exact) != len(self.rows):
            object.__setattr__(self, "exact", np.ones(len(self.rows), bool))


@dataclass(frozen=True)
class ScoredLists:
    """The best lists of several items for each history, best list first.

    Args:
        rows: `int32[B, n, m]` item rows in their order; -1 behind the end of a list that found fewer items allowed, and
            where there is no list.
        scores: `float32[B, n]`, non-increasing along n: `log p(list | history)`, the sum over its items, each after
            the history and the items before it; `-inf` where there is no list.
        exact: `bool[B]`, true where these are proven to be the n best lists.
    """

    rows: NDArray[np.int32]
    scores: NDArray[np.float32]
    exact: NDArray[np.bool_]


@dataclass(frozen=True)
class PreparedCandidates:
    """Candidates that many calls share, checked once; made by `Recommender.prepare_candidates`.

    Args:
        rows: `int32[C]`, distinct item rows, ascending. form: what that one recommender made of them.
    """

    rows: Rows
    form: Any = None


Candidates = Rows | Ragged | PreparedCandidates
"""The only items that may be recommended: rows, or prepared ones, for all histories; a list of rows for each history,
where an empty list leaves that history no item."""
