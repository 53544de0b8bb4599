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

    def encode(self, catalog: Catalog, train: Interactions) -> NDArray[np.float32]:
        """`float32[N, hidden size]` unit rows; zero for an item without text. `train` is not used.

        Raises:
            DataError: a field is not a column.
            ArtifactError: the model cannot be found.
        """
        from llmrec.base_models import load_model

        require_items(len(catalog))
        texts = catalog.texts(self.fields)
        model, tokenizer = load_model(self.model, layers=self.layers)
        vectors = mean_pooled(
            model, tokenizer, texts, batch_size=self.batch_size, max_tokens=self.max_tokens, device=self.device
        )
        known = vectors.any(axis=1)
        if self.centre and known.sum() > 1:
            vectors[known] -= vectors[known].mean(axis=0, dtype=np.float64).astype(np.float32)
        return unit_rows(vectors)
