"""Item vectors from the language model that is to be adapted: its own mean-pooled hidden states.

The codes then follow what the model already knows about the texts, and nothing but the base model is needed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llmrec.component import Component
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.encoders.base import Encoded, State
from llmrec.encoders.pooling import mean_pooled
from llmrec.encoders.vectors import require_items, unit_rows


class LanguageModelEncoder(Component):
    """Mean of the last hidden states of a causal language model over an item's text.

    Args:
        model: a folder or a Hub name, found as base models are.
        layers: use only this many first blocks; all when None. Middle layers often describe a text better than the
            last, which is busy with the next token.
        fields: catalog columns whose text is used.
        centre: subtract the mean vector before scaling. Hidden states share a large common direction (Ethayarajh,
            2019), beside which the differences between items would vanish.
        batch_size: texts a batch.
        max_tokens: tokens kept of each text.
        device: torch's name of it; a GPU when there is one.
    """

    model: str
    layers: int | None = Field(default=None, ge=1)
    fields: list[str] = Field(default=["title"], min_length=1)
    centre: bool = True
    batch_size: int = Field(default=32, ge=1)
    max_tokens: int = Field(default=128, ge=1)
    device: str | None = None

    def fit(self, catalog: Catalog, train: Interactions) -> Encoded:
        """`float32[N, hidden size]` unit rows; zero for an item without text. `train` is not used.

        Raises:
            DataError: a field is not a column.
            ArtifactError: the model cannot be found.
        """
        require_items(len(catalog))
        states = self._states(catalog)
        known = states.any(axis=1)
        if not (self.centre and known.sum() > 1):
            return Encoded(unit_rows(states), {})
        state = {"centre": states[known].mean(axis=0, dtype=np.float64).astype(np.float32)}
        return Encoded(_centred(states, state), state)

    def encode(self, catalog: Catalog, state: State) -> NDArray[np.float32]:
        """Other items, around the same centre."""
        return _centred(self._states(catalog), state)

    def _states(self, catalog: Catalog) -> NDArray[np.float32]:
        from llmrec.base_models import load_model

        model, tokenizer = load_model(self.model, layers=self.layers)
        return mean_pooled(
            model,
            tokenizer,
            catalog.texts(self.fields),
            batch_size=self.batch_size,
            max_tokens=self.max_tokens,
            device=self.device,
        )


def _centred(states: NDArray[np.float32], state: State) -> NDArray[np.float32]:
    """Unit rows around the centre; an item without text stays zero."""
    if "centre" in state:
        states = np.where(states.any(axis=1, keepdims=True), states - state["centre"], states)
    return unit_rows(states)
