"""Ranking metrics on item rows, one value a user, so that means, intervals and paired tests can all follow.

A hit is an item row among the targets; -1 (an empty place) is never one, and an item that a list repeats counts once.
Every metric takes the recommended `rows` (`int32[B, n]`, best first), the `targets` (`B` lists of item rows) and `k`,
looks at the first `k` places and gives `float64[B]` in [0, 1]. A user without targets gets 0.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from llmrec.errors import LlmrecError
from llmrec.types import Ragged

Rows2D = NDArray[np.int32]
Metric = Callable[[Rows2D, Ragged, int], NDArray[np.float64]]


def hit_rate(rows: Rows2D, targets: Ragged, k: int) -> NDArray[np.float64]:
    """HR@k: 1 if any of the first k items is a target, else 0.

    >>> hit_rate(np.array([[7, 3], [7, 3]]), Ragged.from_lists([[3], [5]]), k=2)
    array([1., 0.])
    """
    return np.asarray(hits(rows, targets, k).any(axis=1), np.float64)


def recall(rows: Rows2D, targets: Ragged, k: int) -> NDArray[np.float64]:
    """Recall@k = (targets among the first k items) / (targets). Equal to HR@k when a user has one target.

    >>> recall(np.array([[7, 3, 5]]), Ragged.from_lists([[3, 5, 8, 9]]), k=3)
    array([0.5])
    """
    found = hits(rows, targets, k).sum(axis=1).astype(np.float64)
    return np.divide(found, np.maximum(_distinct_targets(targets), 1))


def mrr(rows: Rows2D, targets: Ragged, k: int) -> NDArray[np.float64]:
    """MRR@k = 1 / rank of the first target, ranks from 1; 0 if none is among the first k items.

    >>> mrr(np.array([[7, 3, 5]]), Ragged.from_lists([[5, 3]]), k=3)
    array([0.5])
    """
    ranks = first_ranks(rows, targets, k)
    return np.divide(1.0, ranks, out=np.zeros(len(ranks)), where=ranks > 0)


def ndcg(rows: Rows2D, targets: Ragged, k: int) -> NDArray[np.float64]:
    r"""NDCG@k with binary gains = DCG / ideal DCG (Järvelin & Kekäläinen, 2002).

    DCG = sum over hits of `1 / log2(rank + 1)`; the ideal list has its `min(k, targets)` hits first, so a perfect
    list scores 1 however many targets there are. With one target this is `1 / log2(rank + 1)`.

    >>> ndcg(np.array([[7, 3, 5]]), Ragged.from_lists([[3]]), k=3).round(4)  # 1 / log2(3)
    array([0.6309])
    """
    discounts = 1.0 / np.log2(np.arange(2, k + 2))  # (k,)
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])[np.minimum(_distinct_targets(targets), k)]  # (B,)
    return hits(rows, targets, k) @ discounts / np.where(ideal > 0, ideal, 1.0)


def average_precision(rows: Rows2D, targets: Ragged, k: int) -> NDArray[np.float64]:
    """AP@k = sum over hits of (hits so far / rank), divided by the targets; MAP@k is its mean, as in trec_eval.

    All targets are counted, also where they are more than k places, so that a list of k hits is perfect only if no
    target is left. With one target this is MRR@k.

    >>> average_precision(np.array([[7, 3, 5]]), Ragged.from_lists([[5, 3]]), k=3).round(4)  # (1/2 + 2/3) / 2
    array([0.5833])
    """
    found = hits(rows, targets, k)
    precisions = np.cumsum(found, axis=1) / np.arange(1, k + 1)
    return np.where(found, precisions, 0).sum(axis=1) / np.maximum(_distinct_targets(targets), 1)


METRICS: dict[str, Metric] = {
    "hr": hit_rate,
    "ndcg": ndcg,
    "mrr": mrr,
    "recall": recall,
    "map": average_precision,
}
"""Name -> function; `evaluate` writes `name@k`."""


def hits(rows: Rows2D, targets: Ragged, k: int) -> NDArray[np.bool_]:
    """`bool[B, k]`: which of the first k places hold a target, each target at most once.

    Raises:
        LlmrecError: k is not between 1 and the length of the lists, or the numbers of users differ.

    >>> hits(np.array([[3, 3, -1, 5]]), Ragged.from_lists([[3, 5]]), k=4)
    array([[ True, False, False,  True]])
    """
    if not 1 <= k <= rows.shape[1]:
        raise LlmrecError(f"k={k} asked of lists of {rows.shape[1]} items. Recommend at least k items, and k >= 1.")
    first = rows[:, :k]
    return is_in(first, targets) & ~repeats(first)


def first_ranks(rows: Rows2D, targets: Ragged, k: int) -> NDArray[np.int32]:
    """`int32[B]`: the rank of the first target among the first k places, from 1; 0 if there is none.

    >>> first_ranks(np.array([[7, 3], [7, 3]]), Ragged.from_lists([[3], [5]]), k=2)
    array([2, 0], dtype=int32)
    """
    hit = hits(rows, targets, k)
    return np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, 0).astype(np.int32)


def is_in(rows: Rows2D, lists: Ragged) -> NDArray[np.bool_]:
    """`bool[B, n]`: whether each item of `rows[b]` is in list `b`; never for -1.

    >>> is_in(np.array([[1, -1], [1, 2]]), Ragged.from_lists([[1, -1], [2]]))
    array([[ True, False],
           [False,  True]])
    """
    if len(rows) != len(lists):
        raise LlmrecError(f"{len(rows)} users were recommended to, {len(lists)} have lists. Give one list a user.")
    owners = np.broadcast_to(np.arange(len(rows))[:, None], rows.shape)
    values = lists.values[lists.offsets[0] : lists.offsets[-1]]
    width = 1 + max(rows.max(initial=0), values.max(initial=0))  # so that (user, item) is one integer
    known = np.repeat(np.arange(len(lists)), lists.lengths) * width + values
    return np.isin(owners * width + rows, known) & (rows >= 0)


def repeats(rows: Rows2D) -> NDArray[np.bool_]:
    """`bool[B, n]`: places whose item already stood earlier in the same list; never for -1.

    >>> repeats(np.array([[4, 9, 4, -1, -1]]))
    array([[False, False,  True, False, False]])
    """
    order = np.argsort(rows, axis=1, kind="stable")
    ordered = np.take_along_axis(rows, order, axis=1)
    again = np.zeros(rows.shape, bool)
    again[:, 1:] = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    places = np.zeros(rows.shape, bool)
    np.put_along_axis(places, order, again, axis=1)
    return places


def _distinct_targets(targets: Ragged) -> NDArray[np.int64]:
    values = targets.values[targets.offsets[0] : targets.offsets[-1]]
    pairs = np.stack([np.repeat(np.arange(len(targets)), targets.lengths), values])
    return np.bincount(np.unique(pairs, axis=1)[0], minlength=len(targets))
