"""The space that an index quantizes: text vectors, with behaviour fused in where asked."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.encoders.base import Encoded, ItemEncoder, State
from llmrec.encoders.fusion import fuse
from llmrec.registry import build


class ItemSpace(NamedTuple):
    """An encoder of texts, perhaps one of behaviour, and the weight between them.

    Args:
        text: the item encoder. behaviour: its companion, or None.
        weight: share of behaviour in squared distances, 0 (text alone) to 1 (behaviour alone).
    """

    text: ItemEncoder
    behaviour: ItemEncoder | None
    weight: float

    @classmethod
    def parse(cls, text: dict[str, Any], behaviour: dict[str, Any] | None, weight: float) -> ItemSpace:
        """From a recipe's `encoder`, `behaviour` (kind `behaviour` unless it names one) and `behaviour_weight`.

        Raises:
            RecipeError: an encoder or one of its settings is unknown.
        """
        return cls(
            build("encoder", text, "index.encoder"),
            None if behaviour is None else build("encoder", {"kind": "behaviour", **behaviour}, "index.behaviour"),
            weight,
        )

    def fit(self, catalog: Catalog, train: Interactions) -> Encoded:
        """The catalog's vectors, and what places later items.

        Raises:
            DataError: an encoder cannot use the catalog.
        """
        text = self.text.fit(catalog, train)
        state = _prefixed("text", text.state)
        if self.behaviour is None or self.weight == 0:
            return Encoded(text.vectors, state)
        behaviour = self.behaviour.fit(catalog, train)
        vectors, learned = fuse(text.vectors, behaviour.vectors, self.weight)
        return Encoded(vectors, state | _prefixed("behaviour", behaviour.state) | _prefixed("fusion", learned))

    def encode(self, catalog: Catalog, state: State) -> NDArray[np.float32]:
        """Later items, from their texts; the behaviour that they lack is what their texts predict."""
        vectors = self.text.encode(catalog, _under("text", state))
        if self.behaviour is None or self.weight == 0:
            return vectors
        behaviour = self.behaviour.encode(catalog, _under("behaviour", state))
        return fuse(vectors, behaviour, self.weight, _under("fusion", state))[0]


def _prefixed(name: str, state: State) -> State:
    return {f"{name}.{key}": value for key, value in state.items()}


def _under(name: str, state: State) -> State:
    return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
