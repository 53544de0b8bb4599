"""What recommended lists are like, hit or not: how new, how varied, how much more popular than what users take.

One value a list (NaN for a list that has none), over its real items; empty places (-1) are passed over. `coverage` and
`concentration` are of all lists together: one number, which has no meaning for a single user.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from llmrec.data.catalog import Catalog
from llmrec.data.filters import column_of
from llmrec.data.interactions import Interactions
from llmrec.types import Ragged

Rows2D = NDArray[np.int32]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class ItemFacts:
    """What evaluation knows of the items, from train rows and the catalog alone.

    Args:
        counts: `int64[N]`, train events of each item.
        groups: `int32[N]`, such as a category, -1 for none; None where there is no grouping.
        group_names: of the groups. vectors: `float32[N, D]`, whose cosine says how alike two items are, or None.
        codes: `int32[N, L]` of an item index, or None.
    """

    counts: NDArray[np.int64]
    groups: NDArray[np.int32] | None = None
    group_names: tuple[str, ...] = ()
    vectors: NDArray[np.float32] | None = None
    codes: NDArray[np.int32] | None = None

    @classmethod
    def of(
        cls,
        train: Interactions,
        catalog: Catalog | None = None,
        category: str | None = None,
        vectors: NDArray[np.float32] | None = None,
        codes: NDArray[np.int32] | None = None,
    ) -> Self:
        """Count the train rows, and group the items by a column of the catalog (of a list, its last value).

        Raises:
            DataError: the catalog has no such column.
        """
        counts = np.bincount(train.item_rows, minlength=len(train.items))
        if catalog is None or category is None:
            return cls(counts, vectors=vectors, codes=codes)
        values = [v[-1] if isinstance(v, list) and v else v for v in column_of(catalog.table, category).to_pylist()]
        names = sorted({str(value) for value in values if value not in (None, "", [])})
        numbers = {name: number for number, name in enumerate(names)}
        groups = np.asarray([numbers.get(str(value), -1) for value in values], np.int32)
        return cls(counts, groups, tuple(names), vectors, codes)

    @cached_property
    def log_popularity(self) -> Values:
        """`float64[N]`: `log p(item)` in train, one event added to every item (as in `Popularity`)."""
        return np.log((self.counts + 1) / (self.counts.sum() + len(self.counts)))


def novelty(rows: Rows2D, log_popularity: Values) -> Values:
    """Mean self-information of a list's items, `-log2 p(item)` bits (Zhou et al., 2010): the rarer, the higher.

    >>> novelty(np.array([[0, 1], [1, -1]]), np.log([0.5, 0.25]))
    array([1.5, 2. ])
    """
    return _mean(-log_popularity[rows] / np.log(2), rows >= 0)


def popularity_lift(rows: Rows2D, targets: Ragged, log_popularity: Values) -> Values:
    """Mean log-popularity of a list minus that of the targets: above 0, it is more popular than what was taken.

    A model that leans on what is frequent, where the answer is rare, shows here ("Embers of Autoregression", McCoy et
    al., 2023). In nats: 0.69 means twice as popular.

    >>> popularity_lift(np.array([[0, 0]]), Ragged.from_lists([[1]]), np.log([0.5, 0.25])).round(2)
    array([0.69])
    """
    owners = np.repeat(np.arange(len(targets)), targets.lengths)
    taken = log_popularity[targets.values[targets.offsets[0] : targets.offsets[-1]]]
    truth = np.bincount(owners, taken, len(targets)) / np.maximum(targets.lengths, 1)
    return np.where(targets.lengths > 0, _mean(log_popularity[rows], rows >= 0) - truth, np.nan)


def diversity(rows: Rows2D, vectors: NDArray[np.float32]) -> Values:
    """Intra-list diversity by vectors: the mean of `1 - cosine` over a list's pairs (Ziegler et al., 2005).

    >>> diversity(np.array([[0, 1], [0, 0], [0, -1]]), np.array([[1.0, 0.0], [0.0, 2.0]], np.float32))
    array([ 1.,  0., nan])
    """
    real = rows >= 0
    chosen = vectors[np.where(real, rows, 0)].astype(np.float64)  # (B, n, D)
    lengths = np.linalg.norm(chosen, axis=-1, keepdims=True)
    chosen = np.where(real[..., None], chosen / np.where(lengths > 0, lengths, 1), 0)
    # The squared length of the sum holds every pair twice, and every item with itself.
    alike = (chosen.sum(axis=1) ** 2).sum(axis=-1) - (chosen**2).sum(axis=(1, 2))
    pairs = real.sum(axis=1) * (real.sum(axis=1) - 1.0)
    return 1 - np.divide(alike, pairs, out=np.full(len(rows), np.nan), where=pairs > 0)


def group_diversity(rows: Rows2D, groups: NDArray[np.int32]) -> Values:
    """Intra-list diversity by groups: the share of a list's pairs that are not of one group (category, code prefix).

    Items without a group (-1) are passed over.

    >>> group_diversity(np.array([[0, 1, 2], [0, 1, -1]]), np.array([4, 4, 7])).round(2)
    array([0.67, 0.  ])
    """
    of_items = np.where(rows >= 0, groups[rows], -1)
    real = of_items >= 0
    pairs = real.sum(axis=1) * (real.sum(axis=1) - 1.0)
    same = (of_items[:, :, None] == of_items[:, None, :]) & real[:, :, None] & real[:, None, :]  # (B, n, n)
    alike = same.sum(axis=(1, 2)) - real.sum(axis=1)
    return 1 - np.divide(alike, pairs, out=np.full(len(rows), np.nan), where=pairs > 0)


def coverage(rows: Rows2D, size: int) -> float:
    """Share of the catalog that is in any list (Herlocker et al., 2004). More lists cover more: compare equal numbers.

    >>> coverage(np.array([[0, 1], [1, -1]]), size=8)
    0.25
    """
    return float(len(np.unique(rows[(rows >= 0) & (rows < size)])) / size)


def concentration(rows: Rows2D, size: int) -> float:
    """Gini coefficient of how often each item of the catalog is recommended (Fleder and Hosanagar, 2009).

    0 where all items come equally often, near 1 where a few take all places: `sum (2 i - N - 1) c_i / (N sum c_i)`
    over the counts in ascending order, i from 1.

    >>> concentration(np.array([[0], [0], [1], [1]]), size=2), concentration(np.array([[0], [0]]), size=4)
    (0.0, 0.75)
    """
    counts = np.sort(np.bincount(rows[(rows >= 0) & (rows < size)], minlength=size))
    if not counts.sum():
        return float("nan")
    return float((2 * np.arange(1, size + 1) - size - 1) @ counts / (size * counts.sum()))


def list_measures(rows: Rows2D, targets: Ragged, facts: ItemFacts) -> dict[str, Values]:
    """Everything above that the facts allow: name -> one value a list."""
    rows = np.where((rows >= 0) & (rows < len(facts.counts)), rows, -1)  # what is no item has no popularity
    log_popularity = facts.log_popularity
    found = {
        "novelty": novelty(rows, log_popularity),
        "popularity_lift": popularity_lift(rows, targets, log_popularity),
    }
    if facts.vectors is not None:
        found["diversity"] = diversity(rows, facts.vectors)
    if facts.groups is not None:
        found["group_diversity"] = group_diversity(rows, facts.groups)
    if facts.codes is not None:
        found["code_diversity"] = group_diversity(rows, facts.codes[:, 0])
    return found


def _mean(values: Values, real: NDArray[np.bool_]) -> Values:
    """Of each row the mean of the values that are real, NaN where none is."""
    counts = real.sum(axis=1)
    return np.divide(np.where(real, values, 0).sum(axis=1), counts, out=np.full(len(values), np.nan), where=counts > 0)
