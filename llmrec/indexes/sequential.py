"""Items numbered as they first appear: what one user took in a row gets neighbouring numbers.

The sequential indexing of "How to Index Item IDs" (Hua et al., 2023): train histories are walked user by user, and an
item that was not met before gets the next number. A number is written as the digits of a few levels, so that
neighbours share the first of them. The paper leaves the digits to the words of its tokenizer; here all items of a
block share exactly the first level. Whoever comes first decides: another order of the users gives other codes.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from llmrec.component import Component
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.encoders.vectors import require_items
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.numbering import Levels, codes_of, room_for
from llmrec.indexes.provenance import provenance_of


class SequentialIndex(Component):
    """Numbers in the order of the train histories, as digits.

    Args:
        levels: codebook sizes, the most significant digit first; two equal ones that are as small as they can be when
            None, which leaves little room for later items.
    """

    kind: ClassVar[str] = "sequential"

    levels: Levels | None = None

    def build(self, catalog: Catalog, train: Interactions) -> ItemIndex:
        """The codes of every catalog row, from train rows only; items without an event come last, in row order.

        Raises:
            DataError: the catalog has no item.
            RecipeError: there are more items than codes.
        """
        require_items(len(catalog))
        levels = self.levels or [math.isqrt(len(catalog) - 1) + 1] * 2  # the smallest square with room
        room_for(len(catalog), levels)
        codes, sizes = codes_of(order_of_appearance(train, len(catalog)), levels), tuple(levels)
        provenance = provenance_of(self.kind, self.settings(), catalog.items, codes, sizes, resolved_by="numbering")
        return ItemIndex(codes, sizes, provenance)

    def add(self, index: ItemIndex, catalog: Catalog) -> ItemIndex:
        """New items get the next numbers, in row order.

        Raises:
            RecipeError: the numbers are used up.
        """
        levels = list(index.level_sizes)
        room_for(len(catalog), levels)
        codes = codes_of(np.arange(len(index), len(catalog)), levels)
        return index.grown(codes, catalog)


def order_of_appearance(train: Interactions, count: int) -> NDArray[np.int64]:
    """`int64[count]`: 0 for the item of the first user's first event, 1 for the next item that is new, and so on."""
    seen, first_event = np.unique(train.item_rows, return_index=True)
    met = seen[np.argsort(first_event)]
    numbers = np.empty(count, np.int64)
    numbers[np.concatenate([met, np.setdiff1d(np.arange(count), met)])] = np.arange(count)
    return numbers
