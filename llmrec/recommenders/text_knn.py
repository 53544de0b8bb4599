"""Recommend what reads like the history: no training, only text vectors of items.

The zero-shot line of Sheng et al. 2025, "Language Representations Can be What Recommenders Need"
(https://arxiv.org/abs/2407.05441): a user is the mean of the vectors of what they took. A model that reads texts and
trains must clear it; `text_linear` is the same with a learned map.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr, model_validator

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.encoders.vectors import one_blas_thread, unit_rows
from llmrec.recommenders.item_graph import below_zero, history_weights
from llmrec.recommenders.scoring import ScoringRecommender
from llmrec.registry import build
from llmrec.types import Ragged

USERS_AT_ONCE = 64


class TextKNN(ScoringRecommender):
    """Cosine between an item's text vector and the weighted mean of those of the history.

    Args:
        encoder: what makes the vectors, such as `{"kind": "minilm", "fields": ["title"]}`; any of `llmrec.encoders`.
        decay: an event of age `a` in the history weighs `decay ** a`; 1 is the plain mean.
        centre: subtract the mean of all vectors first. The vectors of a language model share a large common direction,
            in which all items are alike.

    An item without text scores 0. An empty history, or one without text, is answered by popularity.
    """

    encoder: dict[str, Any]
    decay: float = Field(default=1.0, gt=0, le=1)
    centre: bool = False

    kind: ClassVar[str] = "text_knn"

    _vectors: NDArray[np.float32] | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _check_encoder(self) -> Self:
        text_encoder(self.encoder)  # a misspelt one is refused when the recipe is read
        return self

    def fit(self, train: Interactions, catalog: Catalog) -> Self:
        """Encode the catalog; gives itself back.

        Raises:
            DataError: the encoder cannot use the catalog, or the interactions were not made with it.
        """
        self._vectors = text_encoder(self.encoder).fit(catalog, train).vectors
        return super().fit(train, catalog)

    def learn(self, train: Interactions) -> dict[str, NDArray[Any]]:
        """`vectors float32[N, D]`, unit rows, and `backoff`. Memory: that of the vectors."""
        vectors, self._vectors = self._vectors, None
        assert vectors is not None, "fit encodes the catalog first"
        if self.centre:
            known = np.flatnonzero(vectors.any(axis=1))  # what has no text keeps no direction
            centred = np.zeros_like(vectors)
            centred[known] = vectors[known] - vectors[known].mean(axis=0)
            vectors = unit_rows(centred)
        return {"vectors": vectors, "backoff": below_zero(train)}

    def score(self, histories: Ragged) -> NDArray[np.float32]:
        """`float32[B, N]`: cosines in [-1, 1]."""
        vectors, backoff = self._arrays["vectors"], self._arrays["backoff"]
        users = unit_rows(history_weights(histories, len(vectors), self.decay) @ vectors)  # (B, D)
        scores = in_fixed_batches(users, vectors)
        scores[~users.any(axis=1)] = backoff
        return scores


def in_fixed_batches(users: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """`users @ vectors.T`, `float32[B, N]`, always so many users at once.

    A product of another shape is summed in another order: a list would depend on who else was asked.
    """
    scores = np.empty((len(users), len(vectors)), np.float32)
    with one_blas_thread():
        for start in range(0, len(users), USERS_AT_ONCE):
            part = users[start : start + USERS_AT_ONCE]
            whole = np.zeros((USERS_AT_ONCE, users.shape[1]), np.float32)
            whole[: len(part)] = part
            scores[start : start + len(part)] = (whole @ vectors.T)[: len(part)]
    return scores


def text_encoder(settings: dict[str, Any]) -> Any:
    """The encoder that a recommender's `encoder` names.

    Raises:
        RecipeError: it or one of its settings is unknown.
    """
    return build("encoder", settings, "encoder")
