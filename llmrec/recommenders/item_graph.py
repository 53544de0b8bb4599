"""What recommenders share whose score is a weighted history times a matrix of item to item weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmrec.data.interactions import Interactions
from llmrec.types import Ragged

TIE_BREAK = np.float32(1e-4)
"""What popularity may add to a score, relative to it: on sparse data most scores are equal to others."""


def history_weights(histories: Ragged, size: int, decay: float = 1.0, last: int | None = None) -> Any:
    """The histories as a sparse matrix: an event of age `a` (0 is the newest) weighs `decay ** a`.

    Args:
        histories: `B` lists of item rows. size: items in the catalog.
        decay: in (0, 1]; 1 forgets the order. last: only so many newest events; all when None.

    Returns:
        A SciPy CSR matrix `float32[B, N]`; an item that a history repeats has the sum of its weights.
    """
    from scipy import sparse

    ages = np.repeat(histories.offsets[1:], histories.lengths) - 1 - np.arange(len(histories.values))
    kept = slice(None) if last is None else ages < last
    owners = np.repeat(np.arange(len(histories)), histories.lengths)[kept]
    weights = np.power(decay, ages[kept]).astype(np.float32)
    return sparse.csr_matrix((weights, (owners, histories.values[kept])), shape=(len(histories), size))


def below_zero(train: Interactions) -> NDArray[np.float32]:
    """`float32[N]` in [-1, 0], by train events: the order of the items of which a recommender has nothing to say."""
    counts = np.bincount(train.item_rows, minlength=len(train.items))
    return (counts / max(counts.max(initial=0), 1) - 1).astype(np.float32)


def graph_scores(weights: Any, graph: Any, backoff: NDArray[np.float32]) -> NDArray[np.float32]:
    """`weights @ graph`, of equal ones the more popular item's a trifle higher; the back-off where that is zero.

    Args:
        weights: CSR `float32[B, N]`. graph: CSR `float32[N, N]`, no entry below zero. backoff: see `below_zero`.
    """
    scores = np.asarray((weights @ graph).toarray(), np.float32)  # (B, N)
    return np.where(scores > 0, scores * (1 + TIE_BREAK * (1 + backoff)), backoff).astype(np.float32)


def to_arrays(graph: Any) -> dict[str, NDArray[Any]]:
    """A CSR matrix as three arrays that can be saved."""
    graph.sort_indices()
    return {
        "offsets": graph.indptr.astype(np.int64),
        "items": graph.indices.astype(np.int32),
        "weights": graph.data.astype(np.float32),
    }


def from_arrays(arrays: dict[str, NDArray[Any]], size: int) -> Any:
    """The CSR matrix `float32[size, size]` that `to_arrays` took apart; nothing is copied."""
    from scipy import sparse

    return sparse.csr_matrix((arrays["weights"], arrays["items"], arrays["offsets"]), shape=(size, size), copy=False)
