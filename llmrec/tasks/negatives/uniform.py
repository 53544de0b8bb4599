"""Negatives drawn from the whole catalog, each item equally likely: what S-DPO (Chen et al., 2024) takes."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from llmrec.component import Component
from llmrec.tasks.negatives.base import Choices, Rows2D
from llmrec.tasks.negatives.weighted import draw_weighted


class Uniform(Component):
    """Every item is equally likely.

    Args:
        count: negatives of each choice.
    """

    count: int = Field(3, ge=1)

    def draw(self, choices: Choices, rng: np.random.Generator) -> Rows2D:
        """See `Negatives.draw`."""
        return draw_weighted(choices, np.ones(len(choices.index)), self.count, rng)
