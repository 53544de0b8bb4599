"""The best items of states by their products with item vectors, without ever holding all scores or sorting them.

The catalog is walked in blocks that stay in the cache. Of each block's scores two things stay: the running sum of their
exponentials, which makes scores log-probabilities over the whole catalog, and those items that beat the k-th best so
far. Hardly any do after the first blocks (about `k` for each doubling of what was seen, where items stand in no order):
a block's maximum says for which users there is one, only their scores are looked at, and what is sorted is short.

Products are float32. In bfloat16 a score has eight bits: neighbours in a list would tie, and be ranked by chance.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmrec.types import Ragged, Rows

FIRST_BLOCK = 1024
"""Items of the first block, from which every user's bound comes; each block has twice as many as the one before."""

SCORES_AT_ONCE = 1 << 18
"""Most scores of a block on a CPU (1 MiB): what a core keeps at hand."""

ON_A_GPU = 1 << 24
"""The same elsewhere (64 MiB): there the calls cost more than the passes over memory."""

MANY = 8
"""Newcomers, in multiples of k, from which on a partial sort of the block picks them first."""


class Best(NamedTuple):
    """What was found.

    Args:
        rows: `int64[B, k]`, best first, of equal scores the lower row first; -1 where fewer than k items are allowed.
        scores: `float32[B, k]`, log-probabilities over the whole catalog in nats; -inf where `rows` is -1.
    """

    rows: Tensor
    scores: Tensor


class Pairs:
    """For each user a list of item rows, found again by blocks of items.

    Args:
        lists: `B` lists of item rows. device: where scores are.
    """

    def __init__(self, lists: Ragged, device: torch.device) -> None:
        owners = np.repeat(np.arange(len(lists)), lists.lengths)
        order = np.argsort(lists.values, kind="stable")
        self._sorted: NDArray[np.int32] = lists.values[order]
        self._rows = torch.from_numpy(self._sorted.astype(np.int64)).to(device)
        self._owners = torch.from_numpy(owners[order]).to(device)

    def between(self, start: int, stop: int) -> tuple[Tensor, Tensor] | None:
        """The users and the columns of a block's scores; None where there are none."""
        first, last = np.searchsorted(self._sorted, [start, stop])
        if first == last:
            return None
        return self._owners[first:last], self._rows[first:last] - start


@torch.inference_mode()
def best_items(
    queries: Tensor,
    vectors: Tensor,
    k: int,
    excluded: Ragged | None = None,
    candidates: Rows | Ragged | None = None,
) -> Best:
    """The k items whose vectors have the largest products with each query.

    Args:
        queries: `float32[B, D]`. vectors: `float32[N, D]`, on the same device.
        excluded: `B` lists of item rows that must not come.
        candidates: the only ones that may: ascending rows for all, or `B` lists. They change what is listed, not what
            a score is.
    """
    users, device = len(queries), queries.device
    out = None if excluded is None else Pairs(excluded, device)
    own = Pairs(candidates, device) if isinstance(candidates, Ragged) else None
    shared = candidates if isinstance(candidates, np.ndarray) else None
    best = Best(torch.full((users, k), -1, device=device), queries.new_full((users, k), -torch.inf))
    total = queries.new_full((users,), -torch.inf)
    for start, stop in _blocks(len(vectors), users, SCORES_AT_ONCE if device.type == "cpu" else ON_A_GPU):
        with torch.autocast(device.type, enabled=False):
            scores = queries @ vectors[start:stop].T  # (B, n)
        highest = scores.amax(1)
        summed = (scores - highest[:, None]).exp_().sum(1)
        total = torch.logaddexp(total, highest + summed.log())
        columns: Tensor | None = None
        if out is not None and (left := out.between(start, stop)) is not None:
            scores[left] = -torch.inf
        if own is not None:
            if (there := own.between(start, stop)) is None:
                continue
            kept = torch.full_like(scores, -torch.inf)
            kept[there] = scores[there]
            scores = kept
        elif shared is not None:
            first, last = np.searchsorted(shared, [start, stop])
            if first == last:
                continue
            columns = torch.from_numpy(shared[first:last].astype(np.int64)).to(device)
            scores = scores[:, columns - start]
        _merge(best, scores, start, columns)
    return Best(best.rows, best.scores - total[:, None])


def _blocks(size: int, users: int, at_once: int) -> Iterator[tuple[int, int]]:
    most = max(FIRST_BLOCK, at_once // max(users, 1))
    start, width = 0, FIRST_BLOCK
    while start < size:
        yield start, min(start + width, size)
        start, width = start + width, min(2 * width, most)


def _merge(best: Best, scores: Tensor, start: int, columns: Tensor | None) -> None:
    """Put those of a block among the best. An equal score does not enter: its row is higher."""
    users = (scores.amax(1) > best.scores[:, -1]).nonzero()[:, 0]
    if not len(users):
        return
    k = best.rows.shape[1]
    scores, rows, known = scores[users], best.rows[users], best.scores[users]
    hits = scores > known[:, -1:]
    counts = hits.sum(1)
    if int(counts.max()) > MANY * k and scores.shape[1] > k:
        hits &= scores >= scores.topk(k).values[:, -1:]
        counts = hits.sum(1)
    owners, places = hits.nonzero(as_tuple=True)  # user by user, ascending rows
    within = torch.arange(len(owners), device=owners.device) - (counts.cumsum(0) - counts)[owners]
    new_scores = scores.new_full((len(scores), int(counts.max())), -torch.inf)
    new_scores[owners, within] = scores[owners, places]
    new_rows = torch.full_like(new_scores, -1, dtype=torch.int64)
    new_rows[owners, within] = places + start if columns is None else columns[places]
    both = torch.cat([known, new_scores], 1)
    order = both.sort(dim=1, descending=True, stable=True).indices[:, :k]
    best.scores[users] = both.gather(1, order)
    best.rows[users] = torch.cat([rows, new_rows], 1).gather(1, order)
