"""TF-IDF of the item texts, reduced by a truncated SVD (latent semantic analysis; Deerwester et al., 1990).

The encoder that needs no model: seconds on a laptop, and strong where titles share exact words.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from tqdm.auto import tqdm

from llmrec.component import Component
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.encoders.base import Encoded, State, pack_words, unpack_words
from llmrec.encoders.vectors import require_items, truncated_svd, unit_rows
from llmrec.errors import DataError


class TfidfEncoder(Component):
    """Words, weighted by how rare they are, in a few dimensions.

    Args:
        fields: catalog columns whose text is used.
        dimensions: columns of the result; fewer where the catalog is small or its texts are alike.
        max_words: the most frequent words that are kept.
        seed: of the SVD's random start.
    """

    fields: list[str] = Field(default=["title"], min_length=1)
    dimensions: int = Field(default=128, ge=1)
    max_words: int = Field(default=200_000, ge=1)
    seed: int = 0

    def fit(self, catalog: Catalog, train: Interactions) -> Encoded:
        """Unit rows; zero for an item without a known word. `train` is not used.

        Raises:
            DataError: a field is not a column, or no item has a word.
        """
        require_items(len(catalog))
        vectorizer = self._vectorizer()
        try:
            words = vectorizer.fit_transform(tqdm(catalog.texts(self.fields), desc="tf-idf", unit="item", delay=2))
        except ValueError as error:  # scikit-learn's "empty vocabulary"
            raise DataError(
                f"no item has a word of two letters or more in {self.fields}.",
                fix=f"Choose other fields; the catalog has {catalog.table.column_names}.",
            ) from error
        left, values, right = truncated_svd(words, self.dimensions, self.seed)
        known = pack_words(vectorizer.get_feature_names_out().tolist())
        return Encoded(
            unit_rows(left * values), {"words": known, "rarity": vectorizer.idf_.astype(np.float32), "axes": right}
        )

    def encode(self, catalog: Catalog, state: State) -> NDArray[np.float32]:
        """The same words, weights and axes for other items; words that `fit` did not meet count for nothing."""
        vectorizer = self._vectorizer(vocabulary=unpack_words(state["words"]))
        vectorizer.idf_ = state["rarity"]
        words = vectorizer.transform(catalog.texts(self.fields))
        return unit_rows(words @ state["axes"])

    def _vectorizer(self, **settings: Any) -> Any:
        from sklearn.feature_extraction.text import TfidfVectorizer

        return TfidfVectorizer(max_features=self.max_words, sublinear_tf=True, dtype=np.float32, **settings)
