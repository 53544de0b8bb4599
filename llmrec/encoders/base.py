"""The contract of an item encoder: a catalog (and train rows) becomes one vector an item.

What an encoder learned (word weights, a projection) is its *state*: named arrays, saved with an index, so that an item
that is added later stands where it would have stood.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions

State = dict[str, NDArray[Any]]
"""Named arrays of numbers; texts are UTF-8 in `uint8` (see `pack_words`)."""


class Encoded(NamedTuple):
    """What `fit` gives.

    Args:
        vectors: `float32[N, D]`, one row a catalog row, unit length (or all zero where nothing is known of an item).
        state: what `encode` needs to place other items in the same space; empty when it needs nothing.
    """

    vectors: NDArray[np.float32]
    state: State


class ItemEncoder(Protocol):
    """What every encoder offers (a `Component` whose fields are its settings)."""

    def fit(self, catalog: Catalog, train: Interactions) -> Encoded:
        """The vectors of a catalog, from its texts and train rows only, and what was learned."""
        ...

    def encode(self, catalog: Catalog, state: State) -> NDArray[np.float32]:
        """`float32[N, D]`: other items in the space of `fit`, without learning anything."""
        ...


def pack_words(words: list[str]) -> NDArray[np.uint8]:
    """Words without a line break, as an array that a state can hold."""
    return np.frombuffer("\n".join(words).encode(), np.uint8).copy()


def unpack_words(packed: NDArray[np.uint8]) -> list[str]:
    """What `pack_words` got."""
    return packed.tobytes().decode().split("\n")
