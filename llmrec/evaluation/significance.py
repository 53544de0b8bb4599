"""How sure a mean is, and whether two recommenders differ: by resampling users, since a user's questions are alike.

A user who asks many questions is drawn with all of them or not at all (a cluster bootstrap); questions drawn one by one
would make intervals too narrow. All draws come from the seed, in blocks of bounded memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmrec.errors import DataError

Values = NDArray[np.float64]

DRAWS_AT_ONCE = 1 << 21
"""Most users drawn at once, over all samples of a block (16 MiB), however many users there are."""


class Interval(NamedTuple):
    """A mean over questions and what it could have been with other users."""

    mean: float
    low: float
    high: float


class Difference(NamedTuple):
    """How much better the first of two recommenders is than the second on the same questions.

    Args:
        difference: mean of first minus second. low, high: its interval.
        p_value: how often chance alone would give a difference at least as large, either way. users: how many.
    """

    difference: float
    low: float
    high: float
    p_value: float
    users: int


def interval(
    values: Values, users: NDArray[np.integer], level: float = 0.95, samples: int = 1000, seed: int = 0
) -> Interval:
    """The percentile bootstrap of a mean over questions (Efron, 1979), drawing users (Field and Welsh, 2007).

    Args:
        values: `float64[E]`, one a question; NaN where a question has none, which is left out.
        users: `int[E]`, who asked it.
        level: share of the draws that the interval holds. samples: draws.

    Returns:
        NaN three times where no question has a value.

    Raises:
        DataError: there is no question, the lengths differ, or a number makes no sense.

    >>> interval(np.array([0.0, 1.0, 0.0, 1.0]), np.array([0, 1, 2, 3]), samples=200)
    Interval(mean=0.5, low=0.0, high=1.0)
    """
    return intervals({"": values}, users, level, samples, seed)[""]


def intervals(
    columns: Mapping[str, Values],
    users: NDArray[np.integer],
    level: float = 0.95,
    samples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """`interval` for several measures of the same questions, on the same draws."""
    _check_draws(level, samples)
    sums, counts, totals = {}, {}, {}
    owners, size = _owners(users)
    for name, values in columns.items():
        _check_lengths(values, users)
        real = ~np.isnan(values)
        sums[name] = np.bincount(owners, np.where(real, values, 0.0), size)
        counts[name] = np.bincount(owners, real, size)
        totals[name] = np.empty(samples), np.empty(samples)
    for block, drawn in _draws(size, samples, seed):
        for name in columns:
            totals[name][0][block] = sums[name][drawn].sum(axis=1)
            # Where all users have equally many questions, so has every draw.
            same = counts[name].min() == counts[name].max()
            totals[name][1][block] = counts[name][0] * drawn.shape[1] if same else counts[name][drawn].sum(axis=1)
    found = {}
    for name, (total, count) in totals.items():
        means = np.divide(total, count, out=np.full(samples, np.nan), where=count > 0)
        asked = counts[name].sum()
        if not asked:
            found[name] = Interval(np.nan, np.nan, np.nan)
            continue
        low, high = np.nanquantile(means, [(1 - level) / 2, (1 + level) / 2])
        found[name] = Interval(float(sums[name].sum() / asked), float(low), float(high))
    return found


def interval_of(
    statistic: Callable[[Values], float],
    users: NDArray[np.integer],
    level: float = 0.95,
    samples: int = 1000,
    seed: int = 0,
) -> Interval:
    """`interval` of what is no mean over questions, such as an AUC.

    Args:
        statistic: of the questions when question `e` counts `weights[e]` times, `float64[E]`; a draw for which it is
            NaN is left out.
        users: `int[E]`.

    Raises:
        DataError: as for `interval`.
    """
    _check_draws(level, samples)
    owners, size = _owners(users)
    found = [
        statistic(np.bincount(one, minlength=size)[owners].astype(np.float64))
        for _, drawn in _draws(size, samples, seed)
        for one in drawn
    ]
    whole = statistic(np.ones(len(users)))
    if np.isnan(found).all():
        return Interval(float(whole), np.nan, np.nan)
    low, high = np.nanquantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(whole), float(low), float(high))


def paired(
    first: Values,
    second: Values,
    users: NDArray[np.integer],
    level: float = 0.95,
    samples: int = 1000,
    flips: int = 10_000,
    seed: int = 0,
) -> Difference:
    """Whether two recommenders differ on the same questions: interval by bootstrap, p-value by flipping signs.

    Were they equally good, each user's difference could as well have had the other sign (Fisher, 1935); the p-value is
    the share of random sign flips, a user's questions together, whose total is at least as far from 0 (Smucker et al.,
    2007, compare such tests). With few users that differ, all flips are tried, and the p-value is exact; otherwise it
    is `(1 + as far) / (1 + flips)`, never 0.

    Args:
        first, second: `float64[E]`, one a question; questions where either is NaN are left out.
        users: `int[E]`. level, samples: of the interval. flips: random flips at most.

    Raises:
        DataError: the lengths differ, or there is no question.

    >>> paired(np.array([1.0, 1.0, 1.0]), np.array([0.0, 0.0, 0.0]), np.array([0, 1, 2]))
    Difference(difference=1.0, low=1.0, high=1.0, p_value=0.25, users=3)
    """
    if len(first) != len(second):
        raise DataError(
            f"{len(first)} values are to be compared with {len(second)}.", fix="Ask both the same questions."
        )
    _check_lengths(first, users)
    both = ~(np.isnan(first) | np.isnan(second))
    differences, users = (first - second)[both], users[both]
    owners, size = _owners(users)
    sums = np.bincount(owners, differences, size).astype(np.float64)
    mean, low, high = interval(differences, users, level, samples, seed)
    return Difference(mean, low, high, _sign_flip_p(sums[np.abs(sums) > 1e-12], flips, seed), size)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several tests, raised so that all of them hold at once (Holm, 1979), in the order given.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    raised = np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    found = np.empty(len(order))
    found[order] = np.minimum(np.maximum.accumulate(raised), 1.0) if len(order) else raised
    return [round(float(value), 12) for value in found]


def _sign_flip_p(sums: Values, flips: int, seed: int) -> float:
    if not len(sums):
        return 1.0
    reached = abs(sums.sum()) - 1e-9 * np.abs(sums).sum()  # sums of floats in another order are equal too
    if 2 ** min(len(sums), 60) <= flips:
        bits = np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums)) & 1
        return float((np.abs((2 * bits - 1) @ sums) >= reached).mean())
    rng, far = np.random.default_rng(seed), 0
    step = max(1, DRAWS_AT_ONCE // len(sums))
    for start in range(0, flips, step):
        positive = rng.integers(0, 2, (min(step, flips - start), len(sums)), np.uint8)
        far += int((np.abs(2 * (positive @ sums) - sums.sum()) >= reached).sum())
    return (1 + far) / (1 + flips)


def _check_draws(level: float, samples: int) -> None:
    if not (0 < level < 1 and samples >= 1):
        raise DataError(f"level={level}, samples={samples}.", fix="Give a level in (0, 1) and at least one sample.")


def _check_lengths(values: Values, users: NDArray[np.integer]) -> None:
    if len(values) != len(users):
        raise DataError(f"{len(values)} values came with {len(users)} users.", fix="Give the user of every value.")


def _owners(users: NDArray[np.integer]) -> tuple[NDArray[np.int64], int]:
    """The users as numbers from 0, `int64[E]`, and how many there are."""
    if not len(users):
        raise DataError("there is no question.", fix="Check the split, the sample and the values: all may be NaN.")
    distinct, owners = np.unique(users, return_inverse=True)
    return owners, len(distinct)


def _draws(size: int, samples: int, seed: int) -> Iterator[tuple[slice, NDArray[np.int64]]]:
    """Numbers of users, `int64[b, size]` with repetition, for the samples of each block."""
    rng, step = np.random.default_rng(seed), max(1, DRAWS_AT_ONCE // size)
    for start in range(0, samples, step):
        block = slice(start, min(start + step, samples))
        yield block, rng.integers(0, size, (block.stop - block.start, size))
