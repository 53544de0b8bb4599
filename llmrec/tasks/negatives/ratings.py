"""Negatives from ratings: items that the same user took and did not like."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from llmrec.component import Component
from llmrec.errors import DataError, RecipeError
from llmrec.tasks.negatives.base import Choices, Rows2D


class Ratings(Component):
    """The user's own train items with a low rating, each equally likely; needs `preferences.min_rating`.

    Args:
        at_most: the highest rating that counts as a dislike. count: negatives of each choice; fewer where the user
            disliked fewer.
    """

    at_most: float
    count: int = Field(3, ge=1)

    def draw(self, choices: Choices, rng: np.random.Generator) -> Rows2D:
        """See `Negatives.draw`.

        Raises:
            DataError: the data have no ratings. RecipeError: every event counts as a wish.
        """
        train = choices.train
        if "rating" not in train.table.column_names:
            raise DataError("negatives: the interactions have no ratings.", fix="Take another kind of negatives.")
        if choices.positives.all():
            raise RecipeError(
                "negatives: every train event counts as a wish, so none is a dislike. Set preferences.min_rating, and "
                "at_most below it."
            )
        disliked = train.filter(train.table["rating"].to_numpy() <= self.at_most)
        return choices.draw_from((disliked.history(int(user)) for user in choices.users), self.count, rng)
