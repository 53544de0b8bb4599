"""Negatives in proportion to how often an item is taken in the train rows, to a power.

The power 0.75 is that of word2vec (Mikolov et al., 2013). Popular negatives teach a model not to answer everybody with
what is popular; they are also the likeliest to be false.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from llmrec.component import Component
from llmrec.tasks.negatives.base import Choices, Rows2D
from llmrec.tasks.negatives.weighted import draw_weighted


class Popularity(Component):
    """An item is as likely as its count of train events to a power; what nobody took is never drawn.

    Args:
        count: negatives of each choice. power: 1 for the counts themselves, 0 for all taken items alike.
    """

    count: int = Field(3, ge=1)
    power: float = Field(0.75, ge=0)

    def draw(self, choices: Choices, rng: np.random.Generator) -> Rows2D:
        """See `Negatives.draw`."""
        counts = np.bincount(choices.train.item_rows, minlength=len(choices.index)).astype(np.float64)
        return draw_weighted(choices, np.where(counts > 0, counts**self.power, 0.0), self.count, rng)
