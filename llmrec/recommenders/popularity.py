"""Recommend what most people took, ever or lately: the floor that every other recommender must clear."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llmrec.data.interactions import Interactions
from llmrec.recommenders.scoring import ScoringRecommender
from llmrec.types import Ragged


class Popularity(ScoringRecommender):
    """The same ranking for everyone, by the number of train events, of which old ones may count less or not at all.

    The score is `log p(item)` with one event added to every item, `log((count + 1) / (events + N))`, so an item that
    nobody took keeps a finite score and the scores of all items sum to 1 as probabilities.

    Args:
        window: an event counts when it is at most so much older than the newest train event; all count when None.
        half_life: an event that is so much older than the newest counts half, one of twice that age a quarter; all
            count the same when None.

    Both are in the unit of the data's `time` (seconds, for most sources). Data whose `time` is a position in the
    user's history has no common clock, and no "lately".
    """

    window: float | None = Field(default=None, ge=0)
    half_life: float | None = Field(default=None, gt=0)

    kind: ClassVar[str] = "popularity"

    @property
    def log_probabilities(self) -> bool:
        """Always."""
        return True

    def learn(self, train: Interactions) -> dict[str, NDArray[Any]]:
        """One log-probability an item: `log_probability float32[N]`."""
        times = train.table["time"].to_numpy()
        age = (times.max() - times).astype(np.float64) if len(times) else np.zeros(0)
        weights = np.ones(len(age)) if self.half_life is None else np.exp2(-age / self.half_life)
        if self.window is not None:
            weights[age > self.window] = 0
        counts = np.bincount(train.item_rows, weights, minlength=len(train.items)) + 1
        return {"log_probability": np.log(counts / counts.sum()).astype(np.float32)}

    def score(self, histories: Ragged) -> NDArray[np.float32]:
        """`float32[B, N]`: the histories change nothing."""
        return np.tile(self._arrays["log_probability"], (len(histories), 1))
