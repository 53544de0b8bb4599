"""Optimal transport on the last level: items under one prefix are spread evenly over the codes, as near as that allows.

Sinkhorn and Knopp's iterations (Cuturi, 2013) in logarithms, so that no cost is too large for them. LC-Rec (Zheng et
al., 2024, arXiv 2311.09049) gives colliding items their last code so; `llmrec.indexes.collisions.transported` decides
who gets a new one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from llmrec.indexes.kmeans import squared_distances

EPSILON = 0.003
"""Of half the widest difference of two costs under a prefix; LC-Rec's value and scale."""

ITERATIONS = 50
"""As in LC-Rec."""

TIE = 0.05
"""What half the widest difference of costs weighs against a code that is filled to the brim, when a plan is rounded."""

BLOCK = 4096
"""Items that are planned for at once, which bounds memory to a few `BLOCK x K` matrices (`K x K` for a full prefix)."""

Vectors = NDArray[np.float32]


def transport_plan(costs: NDArray[np.floating], epsilon: float, iterations: int) -> NDArray[np.float64]:
    """How much of every item goes to every code, when all codes are to be used alike.

    The plan P minimises `sum(P * costs) - epsilon * entropy(P)`; its rows sum to `1 / n` and its columns to `1 / K`.
    The rows are exact, the columns as close as the iterations bring them.

    Args:
        costs: `float[..., n, K]`, finite; one problem for each of the leading indexes.
        epsilon: in units of the costs. Small: close to the cheapest plan, and slow to settle. Large: close to even.
        iterations: each scales the columns, then the rows.

    Returns:
        `float64[..., n, K]`.
    """
    scores = costs.astype(np.float64) / -epsilon
    items, codes = scores.shape[-2:]
    rows = np.zeros((*scores.shape[:-1], 1))
    columns = np.zeros((*scores.shape[:-2], 1, codes))
    for _ in range(iterations):
        columns = -np.log(codes) - _log_sum(scores + rows, axis=-2)
        rows = -np.log(items) - _log_sum(scores + columns, axis=-1)
    shares = scores + columns
    shares = np.exp(shares - shares.max(axis=-1, keepdims=True))  # the last `rows`, exact at any size of the costs
    return np.asarray(shares / shares.sum(axis=-1, keepdims=True) / items)


def spread(points: Vectors, prefixes: NDArray[np.int64], codebook: Vectors) -> NDArray[np.int32]:
    """A code for every point, no two alike under one prefix, all codes as evenly used as can be.

    Every prefix has a transport plan of its own, which is rounded to one point a code (Hungarian method). A plan fills
    each code alike, so it cannot tell apart the codes that only one point reaches, however far they are; there, the
    cost decides, which the paper's largest share of a row does not look at.

    Args:
        points: `float32[N, E]`.
        prefixes: `int64[N]`, each of at most `K` points.
        codebook: `float32[K, E]`.
    """
    from scipy.optimize import linear_sum_assignment

    labels = np.zeros(len(points), np.int32)
    for rows in tqdm(_batches(prefixes), desc="optimal transport", unit="block", delay=2, leave=False):
        costs = squared_distances(points[rows.ravel()], codebook).astype(np.float64).reshape(*rows.shape, -1)
        costs -= costs.min(axis=(1, 2), keepdims=True)
        widest = costs.max(axis=(1, 2), keepdims=True)
        costs /= np.where(widest > 0, widest / 2, 1)  # (G, n, K), 0 to 2
        filled = transport_plan(costs, EPSILON, ITERATIONS) * len(codebook)  # 1: to the brim
        for group, weights in zip(rows, filled - TIE * costs, strict=True):
            labels[group] = linear_sum_assignment(weights, maximize=True)[1]
    return labels


def _batches(prefixes: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Rows of equally large prefixes side by side, `int64[G, n]` each, `G * n` at most `BLOCK` or one prefix."""
    order = np.argsort(prefixes, kind="stable")
    _, starts, sizes = np.unique(prefixes[order], return_index=True, return_counts=True)
    batches = []
    for size in np.unique(sizes):
        rows = order[starts[sizes == size][:, None] + np.arange(size)]
        step = max(1, BLOCK // int(size))
        batches += [rows[first : first + step] for first in range(0, len(rows), step)]
    return batches


def _log_sum(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """`log(sum(exp(values)))` without overflow; the axis stays, with length one."""
    largest = values.max(axis=axis, keepdims=True)
    return np.asarray(np.log(np.exp(values - largest).sum(axis=axis, keepdims=True)) + largest)
