"""Sampled ranking: the target among a few drawn items, as many papers report it. Not the default, for good reason.

A rank among a hundred drawn items is not the rank in the catalog, and it may order two models the other way round
(Krichene and Rendle, 2020, "On Sampled Metrics for Item Recommendation", https://doi.org/10.1145/3394486.3403226). It
is here to reproduce figures that were published so; the protocol of a result that was measured in this way says it, and
compares with none that was not drawn alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from llmrec.data.split import Examples
from llmrec.types import Ragged, Rows

TRIES = 8
"""Draws with rejection before what is left is listed and drawn from exactly."""


@dataclass(frozen=True)
class SampledRanking:
    """How the items beside the targets are drawn.

    Args:
        negatives: items beside the targets of a question; fewer where the catalog has no more. seed: of the draws.
        weights: `float64[N]`, such as train events: an item is drawn with this share, after those before it have been
            taken out; None is uniform. Items of no weight never come.
    """

    negatives: int
    seed: int
    weights: NDArray[np.float64] | None = None

    def candidates(self, examples: Examples, size: int, first: int = 0) -> Ragged:
        """The only items that may be recommended: for each question its targets and what is drawn beside them.

        What is drawn is no target and not in the history. The draws of a question depend on the seed and on its number
        alone, so they are the same for every model.

        Args:
            size: items of the catalog. first: the number of the first of these questions.
        """
        lists = []
        for number, (history, targets) in enumerate(zip(examples.histories, examples.targets, strict=True), first):
            random = np.random.default_rng([self.seed, number])
            closed = np.concatenate([history, targets])
            lists.append(np.concatenate([np.unique(targets), self._drawn(random, closed, size)]))
        return Ragged.from_lists(lists)

    def in_words(self) -> str:
        """For the protocol."""
        how = "uniformly" if self.weights is None else "by popularity"
        return f"SAMPLED ranking among {self.negatives:,} items drawn {how} (seed {self.seed}) beside the targets"

    @cached_property
    def _totals(self) -> NDArray[np.float64] | None:
        """Sums of the weights up to each item, once for all batches."""
        return None if self.weights is None else np.cumsum(self.weights)

    def _drawn(self, random: np.random.Generator, closed: Rows, size: int) -> Rows:
        """Distinct items, none of them closed: drawn and, where taken or closed, drawn again."""
        found, totals = np.empty(0, np.int64), self._totals
        for _ in range(TRIES):
            if totals is None:
                more = random.integers(size, size=2 * self.negatives)
            else:
                more = np.searchsorted(totals, random.random(2 * self.negatives) * totals[-1], side="right")
                more = np.minimum(more, size - 1)  # a product may be rounded up to the total
            found = np.concatenate([found, more[~np.isin(more, closed)]])
            found = found[np.sort(np.unique(found, return_index=True)[1])]
            if len(found) >= self.negatives:
                return found[: self.negatives].astype(np.int32)
        return np.concatenate([found, self._of_the_rest(random, closed, size, found)]).astype(np.int32)

    def _of_the_rest(
        self, random: np.random.Generator, closed: Rows, size: int, found: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """What is missing, where few items are left or have any weight."""
        open_ones = np.setdiff1d(np.arange(size), np.concatenate([closed, found]))
        weights = None if self.weights is None else self.weights[open_ones]
        if weights is not None:
            open_ones, weights = open_ones[weights > 0], weights[weights > 0]
        count = min(self.negatives - len(found), len(open_ones))
        shares = None if weights is None or not count else weights / weights.sum()
        return random.choice(open_ones, count, replace=False, p=shares) if count else open_ones[:0]
