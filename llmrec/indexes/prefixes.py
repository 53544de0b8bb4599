"""Figures about the prefixes of codes: who shares one, and do they have more in common than chance gives?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmrec.data.interactions import Interactions

SHUFFLES = 5
"""Random assignments of categories that the chance level of the purity is the mean of."""

WINDOW = 5
"""Two train events of one user are neighbours when they are at most so many positions apart."""

Groups = NDArray[np.int32]


def prefix_groups(codes: NDArray[np.int32]) -> list[Groups]:
    """The prefixes of every depth, numbered from 0 in the order of the code tree.

    Args:
        codes: `int32[N, L]`, `END` behind a shorter code; a code that has ended stays a prefix of its own.

    Returns:
        `L` arrays `int32[N]`: two items have the same number exactly when they share their prefix.
    """
    groups, found = np.zeros(len(codes), np.int64), []
    for column in codes.T:  # renumbering at each level keeps the product below N * level size
        wide = groups * (int(column.max(initial=0)) + 2) + column + 1
        groups = np.unique(wide, return_inverse=True)[1].astype(np.int64)
        found.append(groups.astype(np.int32))
    return found


def purity(groups: Groups, values: Groups) -> float | None:
    """How far the items of a prefix agree in their category.

    The mean, over the items in prefixes with at least two items, of the share of the prefix's most common category:
    `sum_p max_c n(p, c) / sum_p n(p)`. Items without a category do not count.

    Args:
        groups: `int32[N]`, the prefix of each item. values: `int32[N]`, its category, -1 for none.

    Returns:
        1 when every prefix holds one category; None when no prefix has two items.

    Example:
        Prefixes 0 0 0 1 1 2 and categories a a b c c a give `(2 + 2) / (3 + 2) = 0.8`.
    """
    known = values >= 0
    groups, values = groups[known], values[known]
    if not len(groups):
        return None
    shared = np.bincount(groups)[groups] >= 2
    if not shared.any():
        return None
    width = int(values.max()) + 1
    cells, counts = np.unique(groups[shared].astype(np.int64) * width + values[shared], return_counts=True)
    starts = np.flatnonzero(np.diff(cells // width, prepend=-1))
    return float(np.maximum.reduceat(counts, starts).sum() / shared.sum())


def purity_by_chance(groups: Groups, values: Groups) -> float | None:
    """The purity of random codes whose prefixes are as large: the mean over `SHUFFLES` shuffles of the categories.

    Small prefixes are pure by themselves (one of two items is always half), so this level rises with the depth. The
    shuffles are the same in every call.
    """
    rng = np.random.default_rng(0)
    known = np.flatnonzero(values >= 0)
    found = []
    for _ in range(SHUFFLES):
        shuffled = values.copy()
        shuffled[known] = rng.permutation(values[known])
        found.append(purity(groups, shuffled))
    measured = [value for value in found if value is not None]
    return float(np.mean(measured)) if measured else None


class Neighbours(NamedTuple):
    """The number of pairs, and for every depth the share of them that has one prefix, measured and by chance."""

    pairs: int
    shares: list[float]
    chances: list[float]

    def of(self, depth: int) -> tuple[float | None, float | None]:
        """Share and chance of one depth, None where there was no pair."""
        return (self.shares[depth], self.chances[depth]) if self.pairs else (None, None)


def neighbours(groups: Sequence[Groups], train: Interactions, window: int = WINDOW) -> Neighbours:
    """Do items that are taken together share a prefix?

    Of all pairs of events of one user, at most `window` positions apart and of two different items, the share whose
    items have the same prefix; that is `sum C_ij [p_i = p_j] / sum C_ij` over the counts of
    `llmrec.encoders.behaviour.cooccurrence`. Chance is the same share for pairs of different items that are drawn
    independently, each as often as it occurs in pairs: with `m_i = sum_j C_ij` and `m_p` its sum over the items of a
    prefix,

        `(sum_p m_p^2 - sum_i m_i^2) / ((sum_i m_i)^2 - sum_i m_i^2)`.

    Args:
        groups: `int32[N]` a depth, the prefix of each item. train: train rows of these items. window: see above.
    """
    items, users = train.item_rows, train.user_rows
    taken, total, shared = np.zeros(len(train.items)), 0, np.zeros(len(groups), np.int64)
    for distance in range(1, window + 1):
        left, right = items[:-distance], items[distance:]
        kept = (users[:-distance] == users[distance:]) & (left != right)
        left, right = left[kept], right[kept]
        total += len(left)
        taken += np.bincount(left, minlength=len(taken)) + np.bincount(right, minlength=len(taken))
        shared += [int((group[left] == group[right]).sum()) for group in groups]
    if not total:
        return Neighbours(0, [], [])
    alone = float((taken**2).sum())
    pairs = float(taken.sum()) ** 2 - alone
    chances = [(float((np.bincount(group, taken) ** 2).sum()) - alone) / pairs for group in groups]
    return Neighbours(total, (shared / total).tolist(), [max(chance, 0.0) for chance in chances])
