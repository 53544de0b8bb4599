"""k-means in which no cluster gets more than its even share, so that every code of a level is used alike.

Plain k-means follows the catalog: a crowded corner makes one huge cluster, and a model sees a few tokens all the time
and most others rarely. OneRec (Deng et al., 2025, arXiv 2502.18965) therefore clusters with a fixed size. Its clusters
take their share one after the other, so the last get what is left over from all corners; here all points ask at once,
as they do when collisions are resolved, and no order of the clusters matters.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from llmrec.indexes.kmeans import (
    ENOUGH,
    SAMPLE,
    Clusters,
    Points,
    cluster_means,
    distances_to,
    kmeans,
    nearest,
    sample_of,
)
from llmrec.indexes.placement import settle


def balanced_kmeans(
    points: Points, k: int, rng: np.random.Generator, iterations: int = 25, name: str = "k-means"
) -> Clusters:
    """Clusters of at most `ceil(N / k)` points: plain k-means first, then iterations that keep within that size.

    As in plain k-means, a sample is enough to find the centroids among very many points. Equal points are parted where
    they are more than a cluster holds.

    Args:
        points: `float32[N, D]`, N at least 1. k: codes. rng: the source of chance.
        iterations: at most this many of each sort; fewer when nothing moves.
        name: what the progress bars say.

    Returns:
        The clusters; a label is not always the nearest.
    """
    sample = sample_of(points, max(SAMPLE * k, ENOUGH), rng)
    centroids = kmeans(sample, k, rng, iterations, name).centroids
    labels = even_labels(sample, centroids)
    for _ in tqdm(range(iterations), desc=f"{name}, balanced", unit="iteration", delay=2, leave=False):
        centroids = cluster_means(sample, labels, centroids)
        before, labels = labels, even_labels(sample, centroids)
        if np.array_equal(labels, before):
            break
    if len(sample) < len(points):
        labels = even_labels(points, centroids)
    return Clusters(centroids, labels, distances_to(points, centroids, labels))


def even_labels(points: Points, centroids: Points) -> NDArray[np.int32]:
    """A near centroid for every point, `int32[N]`, none for more than `ceil(N / K)` points; see `settle`.

    Memory beside the points is a chunk of distances, as in `nearest`, and the points that got none in the first round.
    """
    room = np.full((1, len(centroids)), -(-len(points) // len(centroids)))

    def nearest_open(waiting: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        open_ones = np.flatnonzero(room[0])
        seekers = points if len(waiting) == len(points) else points[waiting]  # no copy of all
        labels, distances = nearest(seekers, centroids[open_ones])
        return open_ones[labels], distances

    return settle(np.zeros(len(points), np.int64), room, nearest_open)
