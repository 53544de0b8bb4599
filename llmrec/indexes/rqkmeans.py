"""Residual k-means: alike items share the first numbers of their codes.

The first level clusters the item vectors, each further level what the levels before left over (RQ-KMeans, as in
OneRec, Deng et al., 2025; the shape of the codes is TIGER's, Rajput et al., 2023). No network is trained, so nothing
can collapse, and the same seed gives the same codes on any number of cores. The papers' codes may collide; these never
do (`llmrec.indexes.collisions`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from llmrec.component import Component
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.encoders.base import ItemEncoder
from llmrec.encoders.fusion import fuse
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.collisions import collision_report, nearest_free, with_digit
from llmrec.indexes.kmeans import kmeans
from llmrec.indexes.provenance import items_digest, level_usage
from llmrec.registry import build

Vectors = NDArray[np.float32]


class RQKMeansIndex(Component):
    """Codes from item texts, and from behaviour where asked, by residual k-means.

    Args:
        encoder: the item encoder, `{"kind": "tfidf", ...}`.
        levels: codebook sizes, first level first.
        behaviour: settings of a second encoder (kind `behaviour` unless it names one) whose vectors are fused in.
        behaviour_weight: its share in the squared distances that are clustered; 0 is text alone.
        collisions: `digit` appends a level that numbers the items on one code; `nearest` keeps the number of levels
            and moves an item whose code is taken to the nearest free one.
        seed: of the k-means starts.
        iterations: most k-means iterations a level.
    """

    encoder: dict[str, Any]
    levels: list[Annotated[int, Field(ge=1)]] = Field(default=[256, 256, 256], min_length=1)
    behaviour: dict[str, Any] | None = None
    behaviour_weight: float = Field(default=0.5, ge=0, le=1)
    collisions: Literal["digit", "nearest"] = "digit"
    seed: int = Field(default=0, ge=0)
    iterations: int = Field(default=25, ge=1)

    @model_validator(mode="after")
    def _check_encoders(self) -> RQKMeansIndex:
        self._encoders()  # a misspelt encoder is refused when the recipe is read, not after the data are
        return self

    def build(self, catalog: Catalog, train: Interactions) -> ItemIndex:
        """Unique codes for every catalog row, from item texts and train rows only.

        Raises:
            DataError: an encoder cannot use the catalog.
            RecipeError: `collisions: nearest` with fewer codes than items.
        """
        vectors = self._vectors(catalog, train)
        codebooks, plain, errors = residual_kmeans(vectors, self.levels, self.seed, self.iterations)
        if self.collisions == "digit":
            codes, sizes = with_digit(plain, self.levels)
        else:
            codes, sizes = nearest_free(vectors, codebooks), tuple(self.levels)
        provenance = {
            "kind": "rqkmeans",
            "settings": self.settings(),
            "items": items_digest(catalog.items),
            "collisions": {
                "resolved_by": self.collisions,
                "before": collision_report(plain),
                "after": collision_report(codes),
                "moved": int((codes[:, : plain.shape[1]] != plain).any(axis=1).sum()),
            },
            "levels": level_usage(codes, sizes),
            "reconstruction_error": [round(error, 6) for error in errors],
        }
        return ItemIndex(codes, sizes, provenance)

    def _encoders(self) -> tuple[ItemEncoder, ItemEncoder | None]:
        behaviour = None if self.behaviour is None else {"kind": "behaviour", **self.behaviour}
        return (
            build("encoder", self.encoder, "index.encoder"),
            None if behaviour is None else build("encoder", behaviour, "index.behaviour"),
        )

    def _vectors(self, catalog: Catalog, train: Interactions) -> Vectors:
        text, behaviour = self._encoders()
        vectors = text.encode(catalog, train)
        if behaviour is None or self.behaviour_weight == 0:
            return vectors
        return fuse(vectors, behaviour.encode(catalog, train), self.behaviour_weight)


def residual_kmeans(
    vectors: Vectors, levels: list[int], seed: int, iterations: int
) -> tuple[list[Vectors], NDArray[np.int32], list[float]]:
    """Cluster the vectors, then what is left of them, level by level.

    Args:
        vectors: `float32[N, D]`.
        levels: codes a level.
        seed: of the starts.
        iterations: most iterations of each k-means.

    Returns:
        One codebook `float32[K, D]` a level; codes `int32[N, L]`, not unique; and after every level the mean squared
        length of what is left (vectors have length one, so this is the share not yet described).
    """
    residuals, codebooks, columns, errors = vectors, [], [], []
    for level, size in enumerate(levels):
        name = f"k-means, level {level + 1} of {len(levels)}"
        clusters = kmeans(residuals, size, np.random.default_rng([seed, level]), iterations, name)
        residuals = residuals - clusters.centroids[clusters.labels]
        codebooks.append(clusters.centroids)
        columns.append(clusters.labels)
        errors.append(float(clusters.distances.mean(dtype=np.float64)))
    return codebooks, np.column_stack(columns), errors
