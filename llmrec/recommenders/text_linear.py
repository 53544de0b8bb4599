"""A linear map from text vectors to a space in which the next item is near: text_knn that has learned what matters.

The linear line of Sheng et al. 2025, "Language Representations Can be What Recommenders Need"
(https://arxiv.org/abs/2407.05441): a single matrix, no item ids, so an item that nobody took yet is scored by its text
like all others. How far it comes says how much of taste the text vectors hold already.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr, model_validator
from torch import Tensor, nn
from torch.nn import functional

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.data.split import Examples
from llmrec.recommenders.neural import PREFIX, ItemNetwork, NeuralRecommender
from llmrec.recommenders.text_knn import text_encoder


class TextLinear(NeuralRecommender):
    """`cos(mean of W x over the history, W y) / temperature`, with `W` trained by the losses of the other baselines.

    Departs from the paper: the map begins as a rotation, the history's order may count (`decay`; 1 is the paper's
    mean), every event of a history is predicted from those before it, and the softmax runs over the whole catalog (they
    draw negatives).

    Args:
        encoder: what makes the vectors, such as `{"kind": "minilm", "fields": ["title"]}`; any of `llmrec.encoders`.
        dimensions: of the map; with those of the vectors or more it begins as `text_knn`.
        decay: an event of age `a` in the history weighs `decay ** a`.
        temperature: of the cosines, the paper's .15.
        The others: see `NeuralRecommender`.
    """

    encoder: dict[str, Any]
    dimensions: int = Field(default=128, ge=1)
    decay: float = Field(default=1.0, gt=0, le=1)
    temperature: float = Field(default=0.15, gt=0)

    kind: ClassVar[str] = "text_linear"

    _vectors: NDArray[np.float32] | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _check_encoder(self) -> Self:
        text_encoder(self.encoder)  # a misspelt one is refused when the recipe is read
        return self

    def fit(self, train: Interactions, catalog: Catalog, valid: Examples | None = None) -> Self:
        """Encode the catalog, then learn the map; see `NeuralRecommender.fit`."""
        self._vectors = text_encoder(self.encoder).fit(catalog, train).vectors
        try:
            return super().fit(train, catalog, valid)
        finally:
            self._vectors = None

    def network(self, size: int) -> ItemNetwork:
        """The map, over the vectors of `fit` or of the folder."""
        vectors = self._arrays[PREFIX + "text"] if self._vectors is None else self._vectors
        return LinearMap(torch.tensor(vectors), self.dimensions, self.decay, self.temperature)


class LinearMap(ItemNetwork):
    """Item vectors `W x` of unit length; a state is the weighted mean of those so far."""

    text: Tensor

    def __init__(self, text: Tensor, dimensions: int, decay: float, temperature: float) -> None:
        super().__init__()
        self.register_buffer("text", text)  # (N, E)
        self.map = nn.Linear(text.shape[1], dimensions, bias=False)
        nn.init.orthogonal_(self.map.weight)  # with room for all dimensions of the text it begins as text_knn
        self.decay, self.temperature = decay, temperature

    def item_vectors(self) -> Tensor:
        """`float[N, D]`; zero for an item without text."""
        return functional.normalize(self.map(self.text), dim=-1)

    def forward(self, rows: Tensor) -> Tensor:
        """States `float[B, T, D]` of item rows `int64[B, T]`."""
        items = functional.pad(self.item_vectors(), (0, 0, 0, 1))  # padding is zero
        steps = torch.arange(rows.shape[1], device=rows.device)
        ages = steps[:, None] - steps
        weights = torch.where(ages >= 0, self.decay ** ages.clamp(min=0), 0.0).to(items.dtype)  # (T, T)
        return functional.normalize(weights @ items[rows], dim=-1) / self.temperature
