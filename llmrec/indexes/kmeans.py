"""k-means that gives the same bytes for the same seed, on any number of cores, for millions of items.

Own code because this promise is the point: distances are computed in chunks of fixed size, each on one BLAS thread;
the chunks run in parallel; their sums are added in float64 and in a fixed order. Memory beside the points is one
chunk's `CHUNK x K` distances a core.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from llmrec.encoders.vectors import one_blas_thread

CHUNK = 8192
"""Rows a chunk. A constant: another value may change the last bits of a result."""

SAMPLE = 64
"""Points a code that the choice of the first centroids looks at; the iterations use all points."""

Points = NDArray[np.float32]
T = TypeVar("T")


@dataclass(frozen=True)
class Clusters:
    """The outcome of `kmeans`.

    Args:
        centroids: `float32[K, D]`.
        labels: `int32[N]`, the nearest centroid of every point; the lowest id where two are equally near.
        distances: `float32[N]`, squared, to that centroid.
    """

    centroids: Points
    labels: NDArray[np.int32]
    distances: NDArray[np.float32]


def kmeans(points: Points, k: int, rng: np.random.Generator, iterations: int = 25, name: str = "k-means") -> Clusters:
    """Lloyd's algorithm from a k-means++ start (Arthur and Vassilvitskii, 2007).

    A code that lost all its points moves to the point that lies farthest from its own centroid. Where there are fewer
    distinct points than codes, the codes left over stay unused.

    Args:
        points: `float32[N, D]`, N at least 1.
        k: codes.
        rng: the source of chance.
        iterations: at most this many; fewer when nothing moves.
        name: what the progress bar says.
    """
    centroids = first_centroids(points, k, rng)
    labels, distances = nearest(points, centroids)
    for _ in tqdm(range(iterations), desc=name, unit="iteration", delay=2, leave=False):
        centroids = _means(points, labels, centroids)
        empty = np.flatnonzero(np.bincount(labels, minlength=k) == 0)
        if empty.size:
            far = np.argsort(-distances, kind="stable")[: empty.size]
            far = far[distances[far] > 0]
            centroids[empty[: far.size]] = points[far]
        before = labels
        labels, distances = nearest(points, centroids)
        if np.array_equal(labels, before):
            break
    return Clusters(centroids, labels, distances)


def first_centroids(points: Points, k: int, rng: np.random.Generator) -> Points:
    """The greedy k-means++ start, `float32[k, D]`.

    Each next centroid is the best of a few points, which are drawn with a chance in proportion to their squared
    distance from the centroids so far. With fewer distinct points than codes, the first centroid fills the rest (a tie
    goes to the lowest id, so these are never used).
    """
    if len(points) > SAMPLE * k:
        points = points[np.sort(rng.choice(len(points), SAMPLE * k, replace=False))]
    centroids = np.repeat(points[[int(rng.integers(len(points)))]], k, axis=0)
    distances = _squared(points - centroids[0])
    draws = 2 + int(np.log(k))
    for code in range(1, k):
        reach = np.cumsum(distances, dtype=np.float64)
        if reach[-1] == 0:
            break
        drawn = np.searchsorted(reach, rng.random(draws) * reach[-1], side="right").clip(max=len(points) - 1)
        left = np.minimum(distances[:, None], squared_distances(points, points[drawn])).sum(axis=0, dtype=np.float64)
        centroids[code] = points[drawn[left.argmin()]]
        distances = np.minimum(distances, _squared(points - centroids[code]))
    return centroids


def nearest(points: Points, centroids: Points) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The nearest centroid of every point: labels `int32[N]` and squared distances `float32[N]`."""
    half_norms = _squared(centroids) / 2

    def chunk(start: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        part = points[start : start + CHUNK]
        labels = (half_norms - part @ centroids.T).argmin(axis=1).astype(np.int32)  # |x|^2 is the same for all codes
        return labels, _squared(part - centroids[labels])

    parts = list(_over_chunks(len(points), chunk))
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def squared_distances(points: Points, centroids: Points) -> NDArray[np.float32]:
    """All of them, `float32[N, K]`; for the few points that need more than the nearest centroid."""
    with one_blas_thread():
        products = points @ centroids.T
    return np.maximum(_squared(points)[:, None] + _squared(centroids) - 2 * products, 0)


def _means(points: Points, labels: NDArray[np.int32], centroids: Points) -> Points:
    """The mean point of every code; a code without points keeps its centroid."""
    from scipy import sparse

    k = len(centroids)

    def chunk(start: int) -> NDArray[np.float64]:
        part = points[start : start + CHUNK].astype(np.float64)
        rows = np.arange(len(part) + 1)
        members = sparse.csr_matrix((np.ones(len(part)), labels[start : start + CHUNK], rows), shape=(len(part), k))
        return np.asarray(members.T @ part)  # (K, D)

    sums = np.zeros(centroids.shape, np.float64)
    for part in _over_chunks(len(points), chunk):
        sums += part
    counts = np.bincount(labels, minlength=k)
    means = centroids.copy()
    means[counts > 0] = sums[counts > 0] / counts[counts > 0, None]
    return means


def _squared(vectors: Points) -> NDArray[np.float32]:
    """The squared length of every row."""
    return np.asarray(np.einsum("nd,nd->n", vectors, vectors), np.float32)


def _over_chunks(count: int, work: Callable[[int], T]) -> Iterator[T]:
    """`work(start)` for every chunk, in parallel, the results in order."""
    with one_blas_thread(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        yield from pool.map(work, range(0, count, CHUNK))
