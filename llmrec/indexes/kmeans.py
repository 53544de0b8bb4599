"""k-means that gives the same bytes for the same seed, on any number of cores, for millions of items.

Own code because this promise is the point: distances are computed in chunks of fixed size, each on one BLAS thread;
the chunks run in parallel; their sums are added in float64 and in a fixed order. Of very many points a sample is
enough to find the centroids. Memory beside the points is that sample and one chunk's `CHUNK x K` distances a core.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from llmrec.encoders.vectors import one_blas_thread

CHUNK = 8192
"""Rows a chunk. A constant: another value may change the last bits of a result."""

START = 128
"""Points a code that the choice of the first centroids looks at, at most."""

SAMPLE = 2048
"""Points a code that the iterations look at, at most. `benchmarks/index_build.py --items 1000000 --sample ...`: three
levels of 256 codes leave .6435 of the squared length of a million vectors, .6463 with half as many points a code, .6415
with all points."""

ENOUGH = 100_000
"""As many points the iterations look at in any case, however few the codes are."""

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


def kmeans(
    points: Points,
    k: int,
    rng: np.random.Generator,
    iterations: int = 25,
    name: str = "k-means",
    start: Points | None = None,
) -> Clusters:
    """Lloyd's algorithm from a k-means++ start (Arthur and Vassilvitskii, 2007).

    A code that lost all its points moves to the point that lies farthest from its own centroid. Where there are fewer
    distinct points than codes, the codes left over stay unused.

    Of more points than `SAMPLE` a code (and `ENOUGH`) the iterations see a sample, as in Faiss (Johnson, Douze and
    Jegou, 2017); then every point takes the nearest centroid.

    Args:
        points: `float32[N, D]`, N at least 1.
        k: codes.
        rng: the source of chance.
        iterations: at most this many; fewer when nothing moves.
        name: what the progress bar says.
        start: `float32[k, D]`, the first centroids instead of those that would be drawn.
    """
    sample = sample_of(points, max(SAMPLE * k, ENOUGH), rng)
    centroids = first_centroids(sample, k, rng) if start is None else start
    labels = _labels(sample, centroids)
    for _ in tqdm(range(iterations), desc=name, unit="iteration", delay=2, leave=False):
        means = cluster_means(sample, labels, centroids)
        empty = np.flatnonzero(np.bincount(labels, minlength=k) == 0)
        if empty.size:
            distances = distances_to(sample, centroids, labels)
            far = np.argsort(-distances, kind="stable")[: empty.size]
            far = far[distances[far] > 0]
            means[empty[: far.size]] = sample[far]
        before, centroids, labels = labels, means, _labels(sample, means)
        if np.array_equal(labels, before):
            break
    if len(sample) < len(points):
        labels = _labels(points, centroids)
    return Clusters(centroids, labels, distances_to(points, centroids, labels))


def first_centroids(points: Points, k: int, rng: np.random.Generator) -> Points:
    """The greedy k-means++ start, `float32[k, D]`.

    Each next centroid is the best of a few points, which are drawn with a chance in proportion to their squared
    distance from the centroids so far. With fewer distinct points than codes, the first centroid fills the rest (a tie
    goes to the lowest id, so these are never used).
    """
    points = sample_of(points, START * k, rng)
    centroids = np.repeat(points[[int(rng.integers(len(points)))]], k, axis=0)
    lengths = _squared(points)
    distances = np.full(len(points), np.inf, np.float32)
    draws = 2 + int(np.log(k))

    def approach(code: int) -> Callable[[int], None]:
        def chunk(start: int) -> None:
            rows = slice(start, start + CHUNK)
            distances[rows] = np.minimum(distances[rows], _squared(points[rows] - centroids[code]))

        return chunk

    def left_by(drawn: Points) -> Callable[[int], NDArray[np.float64]]:
        def chunk(start: int) -> NDArray[np.float64]:
            rows = slice(start, start + CHUNK)
            reached = _expanded(points[rows], lengths[rows], drawn)
            return np.minimum(distances[rows, None], reached).sum(axis=0, dtype=np.float64)

        return chunk

    for code in range(k):
        if code:
            reach = np.cumsum(distances, dtype=np.float64)
            if reach[-1] == 0:
                break
            drawn = np.searchsorted(reach, rng.random(draws) * reach[-1], side="right").clip(max=len(points) - 1)
            left = sum(_over_chunks(len(points), left_by(points[drawn])))
            centroids[code] = points[drawn[np.argmin(left)]]
        list(_over_chunks(len(points), approach(code)))
    return centroids


def nearest(points: Points, centroids: Points) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The nearest centroid of every point: labels `int32[N]` and squared distances `float32[N]`."""
    labels = _labels(points, centroids)
    return labels, distances_to(points, centroids, labels)


def left_over(points: Points, codebooks: Sequence[Points], codes: NDArray[np.integer]) -> Points:
    """What the codes `[N, L]` leave of `float32[N, E]`, a new array; one `float32[K, E]` codebook a level."""
    residuals = points.copy()
    for codebook, column in zip(codebooks, codes.T, strict=True):
        subtract(residuals, codebook, column)
    return residuals


def subtract(points: Points, centroids: Points, labels: NDArray[np.integer]) -> None:
    """Take from every point its centroid, in place: what is left for the next level."""

    def chunk(start: int) -> None:
        points[start : start + CHUNK] -= centroids[labels[start : start + CHUNK]]

    list(_over_chunks(len(points), chunk))


def squared_distances(points: Points, centroids: Points) -> NDArray[np.float32]:
    """All of them, `float32[N, K]`; for the few points that need more than the nearest centroid."""
    with one_blas_thread():
        return _expanded(points, _squared(points), centroids)


def _expanded(points: Points, lengths: NDArray[np.float32], centroids: Points) -> NDArray[np.float32]:
    """Squared distances `float32[N, K]` from the squared `lengths` of the points, on the BLAS threads of the caller."""
    return np.maximum(lengths[:, None] + _squared(centroids) - 2 * (points @ centroids.T), 0)


def sample_of(points: Points, count: int, rng: np.random.Generator) -> Points:
    """At most so many of the points, in their order; the points themselves where there are no more."""
    if len(points) <= count:
        return points
    return points[np.sort(rng.choice(len(points), count, replace=False))]


def _labels(points: Points, centroids: Points) -> NDArray[np.int32]:
    """The nearest centroid of every point, `int32[N]`."""
    half_lengths = _squared(centroids) / 2
    labels = np.empty(len(points), np.int32)

    def chunk(start: int) -> None:
        scores = points[start : start + CHUNK] @ centroids.T
        scores -= half_lengths  # -|x - c|^2 / 2 without |x|^2 / 2, which is the same for all codes
        labels[start : start + CHUNK] = scores.argmax(axis=1)

    list(_over_chunks(len(points), chunk))
    return labels


def distances_to(points: Points, centroids: Points, labels: NDArray[np.int32]) -> NDArray[np.float32]:
    """The squared distance of every point to its centroid, `float32[N]`."""
    distances = np.empty(len(points), np.float32)

    def chunk(start: int) -> None:
        rows = slice(start, start + CHUNK)
        distances[rows] = _squared(points[rows] - centroids[labels[rows]])

    list(_over_chunks(len(points), chunk))
    return distances


def cluster_means(points: Points, labels: NDArray[np.int32], centroids: Points) -> Points:
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
    with one_blas_thread():
        if count <= CHUNK:  # no threads for the many short calls of a small catalog
            yield from map(work, range(0, count, CHUNK))
            return
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            yield from pool.map(work, range(0, count, CHUNK))
