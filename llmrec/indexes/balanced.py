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
from llmrec.indexes.placement import rank_within


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
    """A near centroid for every point, `int32[N]`, none for more than `ceil(N / K)` points.

    Rounds in which every point without a place asks for its nearest centroid with room; of those that ask for one, the
    closest get it. Equal distances go by row order. Memory beside the points is a chunk of distances, as in `nearest`.
    """
    room = np.full(len(centroids), -(-len(points) // len(centroids)))
    labels = np.zeros(len(points), np.int32)
    waiting, seekers = np.arange(len(points)), points
    while waiting.size:  # each round fills a centroid, or is the last
        open_ones = np.flatnonzero(room)
        labels_of_open, distances = nearest(seekers, centroids[open_ones])
        wishes = open_ones[labels_of_open]
        accepted = rank_within(wishes, distances) < room[wishes]
        labels[waiting[accepted]] = wishes[accepted]
        room -= np.bincount(wishes[accepted], minlength=len(room))
        waiting, seekers = waiting[~accepted], seekers[~accepted]
    return labels
