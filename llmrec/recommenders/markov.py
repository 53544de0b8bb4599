"""Recommend what followed the last item: the line that a sequence model must beat to have learnt something.

On data whose neighbouring events are strongly patterned (Amazon reviews, for one) this counter comes close to published
neural recommenders, so their numbers mean little without it.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from llmrec.data.interactions import Interactions
from llmrec.recommenders.scoring import ScoringRecommender
from llmrec.types import Ragged


class Markov(ScoringRecommender):
    """First-order transition counts with back-off to popularity.

    The score of an item is the number of train users' steps `last -> item`, plus a part in [0, 0.5] that only orders
    equal counts. Where no step was seen, and for an empty history, only that part is left and it is popularity: so
    items that followed the last item come first, then all others by popularity.

    Args:
        ties: the order of items that followed the last item equally often (with sparse data: most of them).
            `first_seen`: the step that comes first in train, read user by user, wins, as in a plain counter.
            `popularity`: the item with more train events wins.
    """

    ties: Literal["first_seen", "popularity"] = "first_seen"

    kind: ClassVar[str] = "markov"

    def learn(self, train: Interactions) -> dict[str, NDArray[Any]]:
        """The steps as a sparse matrix (CSR), sorted by last item, and the back-off.

        Returns:
            `offsets int64[N + 1]`: the steps from item `i` are `offsets[i]` to `offsets[i + 1]`.
            `items int32[S]`: where they lead; `scores float32[S]`: the scores of these items.
            `backoff float32[N]`: the scores of all other items.
        """
        size, items = len(train.items), train.item_rows.astype(np.int64)
        popularity = np.bincount(items, minlength=size)
        backoff = 0.5 * popularity / max(popularity.max(initial=0), 1)
        same_user = train.user_rows[1:] == train.user_rows[:-1]
        steps = items[:-1][same_user] * size + items[1:][same_user]  # (last, next) as one integer
        distinct, first, counts = np.unique(steps, return_index=True, return_counts=True)
        sources, followers = np.divmod(distinct, max(size, 1))
        offsets = np.searchsorted(sources, np.arange(size + 1))
        order = backoff[followers] if self.ties == "popularity" else _earliest_first(sources, first, offsets)
        return {
            "offsets": offsets,
            "items": followers.astype(np.int32),
            "scores": (counts + order).astype(np.float32),
            "backoff": backoff.astype(np.float32),
        }

    def score(self, histories: Ragged) -> NDArray[np.float32]:
        """`float32[B, N]`: the back-off, overwritten where a step from the last item was seen."""
        scores = np.tile(self._arrays["backoff"], (len(histories), 1))
        users = np.flatnonzero(histories.lengths)  # those with a last item
        last = histories.values[histories.offsets[users + 1] - 1]
        starts, stops = self._arrays["offsets"][last], self._arrays["offsets"][last + 1]
        steps = _ranges(starts, stops)
        owners = np.repeat(users, stops - starts)
        scores[owners, self._arrays["items"][steps]] = self._arrays["scores"][steps]
        return scores


def _earliest_first(
    sources: NDArray[np.int64], first: NDArray[np.int64], offsets: NDArray[np.int64]
) -> NDArray[np.float64]:
    """A number in (0, 0.5) a step: the larger, the earlier it was first seen among the steps of its source."""
    order = np.lexsort((first, sources))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return 0.5 * (offsets[sources + 1] - place) / (offsets[sources + 1] - offsets[sources] + 1)


def _ranges(starts: NDArray[np.int64], stops: NDArray[np.int64]) -> NDArray[np.int64]:
    """`start, ..., stop - 1` of every pair, one after another."""
    lengths = stops - starts
    before = np.cumsum(lengths) - lengths  # positions of the output where each range starts
    return np.arange(lengths.sum()) + np.repeat(starts - before, lengths)
