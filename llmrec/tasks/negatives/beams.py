"""Negatives that the model itself would recommend: its own constrained beams, best first.

OneRec (Deng et al., 2025) calls them self-hard negatives. The better the model, the likelier a beam is what the user
would have liked as well; the user's other train items are left out, what the user has not met yet cannot be.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field
from tqdm.auto import tqdm

from llmrec.component import Component
from llmrec.errors import RecipeError
from llmrec.tasks.negatives.base import NONE, Choices, Rows2D
from llmrec.types import Ragged

AT_ONCE = 4096
"""Choices that the model is asked at once: many, so that those of like length are decoded together."""


class Beams(Component):
    """The best items of the model before alignment that are not positive for the user.

    Args:
        count: negatives of each choice. beams: items that are decoded for each choice, at least `count`; those that
            the user takes elsewhere fall out of it.
    """

    count: int = Field(3, ge=1)
    beams: int = Field(20, ge=1)

    def draw(self, choices: Choices, rng: np.random.Generator) -> Rows2D:
        """See `Negatives.draw`; nothing is random here.

        Raises:
            RecipeError: there is no model to ask.
        """
        if choices.ranker is None:
            raise RecipeError(
                "negatives: beams needs the model that is aligned. Give the recommender, or take another."
            )
        histories, wanted, parts = choices.histories, max(self.beams, self.count), []
        with tqdm(total=len(choices), desc="beams", unit="choice", leave=False) as bar:
            for start in range(0, len(choices), AT_ONCE):
                some = Ragged(histories.values, histories.offsets[start : start + AT_ONCE + 1])
                parts.append(choices.ranker.recommend(some, wanted, True).rows)
                bar.update(len(some))
        found = np.concatenate(parts) if parts else np.empty((0, wanted), np.int32)  # (P, beams)
        which = np.broadcast_to(np.arange(len(found))[:, None], found.shape)
        usable = (found >= 0) & ~choices.is_positive(which.ravel(), found.ravel()).reshape(found.shape)
        first = np.argsort(~usable, axis=1, kind="stable")[:, : self.count]  # the usable ones, in their order
        return np.where(np.take_along_axis(usable, first, 1), np.take_along_axis(found, first, 1), NONE)
