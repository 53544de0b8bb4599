"""One new token an item: the code of an item is its row, and items share nothing.

The independent indexing of "How to Index Item IDs" (Hua et al., 2023): the shortest code that there is, one decoding
step an item, and the largest vocabulary, in which a rare item's token is hardly ever trained.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from llmrec.component import Component
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.encoders.vectors import require_items
from llmrec.errors import RecipeError
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.provenance import provenance_of


class AtomicIndex(Component):
    """A single level with a code for every item. It has no settings."""

    kind: ClassVar[str] = "atomic"

    def build(self, catalog: Catalog, train: Interactions) -> ItemIndex:
        """Codes `int32[N, 1]`, the row numbers; neither texts nor `train` are used.

        Raises:
            DataError: the catalog has no item.
        """
        require_items(len(catalog))
        codes = np.arange(len(catalog), dtype=np.int32)[:, None]
        sizes = (len(catalog),)
        provenance = provenance_of(
            self.kind, self.settings(), catalog.items, codes, sizes, resolved_by="a token of its own"
        )
        return ItemIndex(codes, sizes, provenance)

    def add(self, index: ItemIndex, catalog: Catalog) -> ItemIndex:
        """Refused: a new item would need a new token, of which the model has learned nothing.

        Raises:
            RecipeError: always.
        """
        raise RecipeError(
            f"an index of kind 'atomic' cannot place {len(catalog) - len(index)} new items: each would need a token of "
            "its own, which no model was trained on. Build the index and train again with the new catalog, or use a "
            "kind whose items share tokens, such as rqkmeans."
        )
