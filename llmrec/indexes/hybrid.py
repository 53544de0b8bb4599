"""The way down a tree of clusters, then a token that no other item has.

The hybrid indexing of "How to Index Item IDs" (Hua et al., 2023), collaborative codes before independent ones: what is
taken together shares tokens, and still each item has a row to learn what is its own alone.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from llmrec.component import Component
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.errors import RecipeError
from llmrec.indexes.base import END, ItemIndex
from llmrec.indexes.collaborative import CollaborativeIndex, paths_of
from llmrec.indexes.numbering import sizes_of, with_numbers
from llmrec.indexes.provenance import provenance_of


class HybridIndex(Component):
    """The clusters of a `CollaborativeIndex`, and an own token an item in place of its number there.

    An own token stands on the level behind its item's clusters; where clusters end on different levels, each level
    has the own tokens of the items that end there, behind its clusters. So there are as many own tokens as items.

    Args:
        collaborative: settings of the clusters, see `CollaborativeIndex`.
    """

    kind: ClassVar[str] = "hybrid"

    collaborative: CollaborativeIndex = CollaborativeIndex()

    def build(self, catalog: Catalog, train: Interactions) -> ItemIndex:
        """Codes of different lengths for every catalog row, from train rows only.

        Raises:
            DataError: the catalog has no item.
        """
        paths = paths_of(self.collaborative.leaves(catalog, train), len(catalog))
        depth_of_item = (paths != END).sum(axis=1)  # (N,)
        own = np.empty(len(catalog), np.int64)
        for depth in np.unique(depth_of_item):
            ends_here = np.flatnonzero(depth_of_item == depth)
            clusters = int(paths[:, depth].max()) + 1 if depth < paths.shape[1] else 0
            own[ends_here] = clusters + np.arange(len(ends_here))
        codes = with_numbers(paths, own)
        sizes = sizes_of(codes)
        provenance = provenance_of(
            self.kind, self.settings(), catalog.items, codes, sizes, resolved_by="a token of its own", plain=paths
        )
        return ItemIndex(codes, sizes, provenance)

    def add(self, index: ItemIndex, catalog: Catalog) -> ItemIndex:
        """Refused: nobody has taken a new item, and it would need a token of which the model has learned nothing.

        Raises:
            RecipeError: always.
        """
        raise RecipeError(
            f"an index of kind 'hybrid' cannot place {len(catalog) - len(index)} new items: it knows items by who took "
            "them, and each would need a token of its own. Build the index and train again with the new catalog, or "
            "use a kind that reads texts, such as rqkmeans."
        )
