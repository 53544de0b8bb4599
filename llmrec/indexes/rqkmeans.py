"""Residual k-means: alike items share the first numbers of their codes.

The first level clusters the item vectors, each further level what the levels before left over (RQ-KMeans, as in
OneRec, Deng et al., 2025; the shape of the codes is TIGER's, Rajput et al., 2023). No network is trained, so nothing
can collapse, and the same seed gives the same codes on any number of cores. The papers' codes may collide; these never
do (`llmrec.indexes.collisions`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
from pydantic import Field

from llmrec.encoders.base import State
from llmrec.indexes.balanced import balanced_kmeans
from llmrec.indexes.kmeans import Clusters, kmeans, subtract
from llmrec.indexes.numbering import Levels
from llmrec.indexes.quantized import QuantizedIndex, Quantizer, Vectors


class RQKMeansIndex(QuantizedIndex):
    """Codes by residual k-means; see `QuantizedIndex` for the settings that all quantizers share.

    Args:
        levels: codebook sizes, first level first.
        iterations: most k-means iterations a level.
        balanced: no code of a level is given to more than its even share of the items, as in OneRec; see
            `llmrec.indexes.balanced`. What resolves collisions, and items that come later, may then add to it.
    """

    kind: ClassVar[str] = "rqkmeans"

    levels: Levels = [256, 256, 256]
    iterations: int = Field(default=25, ge=1)
    balanced: bool = False

    def fit_quantizer(self, vectors: Vectors) -> Quantizer:
        """See `residual_kmeans`."""
        cluster = balanced_kmeans if self.balanced else kmeans
        clusters = residual_kmeans(vectors, self.levels, self.seed, self.iterations, cluster)
        codes = np.column_stack([level.labels for level in clusters]) if self.balanced else None
        return Quantizer(vectors, [level.centroids for level in clusters], codes=codes)

    def latents(self, vectors: Vectors, state: State) -> Vectors:
        """The vectors themselves."""
        return vectors


def residual_kmeans(
    vectors: Vectors,
    levels: list[int],
    seed: int,
    iterations: int,
    cluster: Callable[[Vectors, int, np.random.Generator, int, str], Clusters] = kmeans,
) -> list[Clusters]:
    """Cluster the vectors, then what is left of them, level by level.

    Args:
        vectors: `float32[N, D]`.
        levels: codes a level.
        seed: of the starts.
        iterations: most iterations of each k-means.
        cluster: `kmeans`, or what is called like it.

    Returns:
        The clusters of every level.
    """
    residuals, found = vectors.copy(), []
    for level, size in enumerate(levels):
        name = f"k-means, level {level + 1} of {len(levels)}"
        clusters = cluster(residuals, size, np.random.default_rng([seed, level]), iterations, name)
        subtract(residuals, clusters.centroids, clusters.labels)
        found.append(clusters)
    return found
