"""Recommend what most people took: the floor that every other recommender must clear."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from llmrec.data.interactions import Interactions
from llmrec.recommenders.scoring import ScoringRecommender
from llmrec.types import Ragged


class Popularity(ScoringRecommender):
    """The same ranking for everyone, by the number of train events.

    The score is `log p(item)` with one event added to every item, `log((count + 1) / (events + N))`, so an item that
    nobody took keeps a finite score and the scores of all items sum to 1 as probabilities.
    """

    kind: ClassVar[str] = "popularity"

    def learn(self, train: Interactions) -> dict[str, NDArray[Any]]:
        """One log-probability an item: `log_probability float32[N]`."""
        counts = np.bincount(train.item_rows, minlength=len(train.items)) + 1
        return {"log_probability": np.log(counts / counts.sum()).astype(np.float32)}

    def score(self, histories: Ragged) -> NDArray[np.float32]:
        """`float32[B, N]`: the histories change nothing."""
        return np.tile(self._arrays["log_probability"], (len(histories), 1))
