"""Negatives that share the first codes with the chosen item: alike, and so hard to tell from it.

The first tokens of both codes are then the same, and only the later levels learn from the pair.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from llmrec.component import Component
from llmrec.errors import RecipeError
from llmrec.tasks.negatives.base import Choices, Rows2D


class InPrefix(Component):
    """Any other item under the chosen item's prefix, each equally likely.

    Args:
        count: negatives of each choice; fewer where the prefix holds fewer. depth: levels that are shared.
    """

    count: int = Field(3, ge=1)
    depth: int = Field(1, ge=1)

    def draw(self, choices: Choices, rng: np.random.Generator) -> Rows2D:
        """See `Negatives.draw`.

        Raises:
            RecipeError: the codes have no level below this depth.
        """
        codes = choices.index.codes
        if self.depth >= codes.shape[1]:
            raise RecipeError(
                f"negatives: in_prefix has depth {self.depth}, and codes have {codes.shape[1]} level(s): only the item "
                "itself would share them. Lower depth, or take another kind."
            )
        group = np.unique(codes[:, : self.depth], axis=0, return_inverse=True)[1].reshape(-1)
        order = np.argsort(group, kind="stable").astype(np.int32)
        ends = np.cumsum(np.bincount(group))
        members = [order[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
        return choices.draw_from((members[group[item]] for item in choices.chosen), self.count, rng)
