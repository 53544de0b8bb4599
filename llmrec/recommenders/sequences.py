"""Histories as rectangles for a network, in batches of about equal length."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from llmrec.types import Ragged

POOL = 8
"""Batches that are cut from one pool of users, sorted by length."""


def padded(histories: Ragged, users: NDArray[np.int64], length: int, filler: int) -> NDArray[np.int64]:
    """The last `length` items of these users, `int64[B, T]`, on the left; T is the longest of them, at least 1.

    >>> padded(Ragged.from_lists([[5], [1, 2, 3]]), np.array([1, 0]), length=2, filler=9)
    array([[2, 3],
           [5, 9]])
    """
    stops = histories.offsets[users + 1]
    lengths = np.minimum(histories.lengths[users], length)
    columns = np.arange(max(int(lengths.max(initial=0)), 1))
    inside = columns < lengths[:, None]  # (B, T)
    table = np.full(inside.shape, filler, np.int64)
    table[inside] = histories.values[((stops - lengths)[:, None] + columns)[inside]]
    return table


def batches_of_like_length(
    users: NDArray[np.int64], lengths: NDArray[np.int64], size: int, random: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Every user once, in random batches whose users have about equally long histories: little is padding.

    Args:
        users: rows of users. lengths: of their histories, in the same order. size: users a batch.
    """
    order = random.permutation(len(users))
    cut = []
    for start in range(0, len(order), POOL * size):
        pool = order[start : start + POOL * size]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        cut += [pool[first : first + size] for first in range(0, len(pool), size)]
    for number in random.permutation(len(cut)):
        yield users[cut[number]]
