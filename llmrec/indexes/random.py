"""Distinct codes drawn by chance: the control that shows what a meaningful code is worth.

The random indexing of "How to Index Item IDs" (Hua et al., 2023), with numbers of a few levels in place of the digits
that their tokenizer makes of a number. Items share tokens, and what they share says nothing about them.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llmrec.component import Component
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.encoders.vectors import require_items
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.numbering import Levels, codes_of, room_for
from llmrec.indexes.provenance import provenance_of


class RandomIndex(Component):
    """A draw without replacement from all codes that the levels make.

    Args:
        levels: codebook sizes, first level first.
        seed: of the draw.
    """

    kind: ClassVar[str] = "random"

    levels: Levels = [256, 256]
    seed: int = Field(default=0, ge=0)

    def build(self, catalog: Catalog, train: Interactions) -> ItemIndex:
        """One code a catalog row; neither texts nor `train` are used.

        Raises:
            DataError: the catalog has no item.
            RecipeError: there are more items than codes.
        """
        require_items(len(catalog))
        drawn = self._draw(np.zeros(0, np.int64), len(catalog))
        codes, sizes = codes_of(drawn, self.levels), tuple(self.levels)
        provenance = provenance_of(
            self.kind, self.settings(), catalog.items, codes, sizes, resolved_by="a draw without replacement"
        )
        return ItemIndex(codes, sizes, provenance)

    def add(self, index: ItemIndex, catalog: Catalog) -> ItemIndex:
        """New items draw among the free codes; the same index and number of items give the same draw.

        Raises:
            RecipeError: fewer codes are free than items come.
        """
        taken = np.sort(np.ravel_multi_index(tuple(index.codes.T), index.level_sizes))
        drawn = self._draw(taken, len(catalog) - len(index))
        return index.grown(codes_of(drawn, self.levels), catalog)

    def _draw(self, taken: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """Numbers of `count` codes that are not in `taken` (sorted)."""
        free = room_for(len(taken) + count, self.levels) - len(taken)
        ranks = np.random.default_rng([self.seed, len(taken)]).choice(free, count, replace=False)
        # `taken[i] - i` free codes lie below taken code i: so many of them does the free code of a given rank pass.
        return ranks + np.searchsorted(taken - np.arange(len(taken)), ranks, side="right")
