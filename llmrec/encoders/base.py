"""The contract of an item encoder: a catalog (and train rows) becomes one vector an item."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions


class ItemEncoder(Protocol):
    """What every encoder offers (a `Component` whose fields are its settings)."""

    def encode(self, catalog: Catalog, train: Interactions) -> NDArray[np.float32]:
        """`float32[N, D]`, one row a catalog row, unit length (or all zero where nothing is known of an item)."""
        ...
