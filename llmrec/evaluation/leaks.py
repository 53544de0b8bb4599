"""Has a recommender seen what it is asked? Three checks, from the surest to what is left when nothing else can be done.

- `leaked_events`: of a split. Does train hold an event that a question asks for?
- `planted_targets`: of a way of fitting. The targets are replaced by items drawn blindly, which nobody can guess; who
  still finds more of them than chance has looked.
- `better_than_validation`: of finished models, whose training cannot be repeated. Who has learnt the test targets, but
  not those of validation, answers them far better.

And a check of the evaluation itself: with `shuffled_targets`, every recommender must fall to the level of `chance`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import erf, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmrec.data.interactions import Interactions
from llmrec.data.split import Examples, Split
from llmrec.errors import DataError
from llmrec.evaluation.metrics import hit_rate, is_in, repeats
from llmrec.evaluation.protocol import Evaluation, evaluate
from llmrec.evaluation.significance import paired
from llmrec.recommenders.base import Recommender
from llmrec.types import Ragged

SURE = 1e-4
"""Chance gives such a p-value once in ten thousand honest checks."""


class LeakCheck(NamedTuple):
    """What was found beside what chance would give.

    Args:
        found: mean hit rate, or the mean on the test questions. expected: by chance, or the mean on validation.
        p_value: how often an honest recommender finds so much. leaks: whether that is too seldom to believe.
    """

    found: float
    expected: float
    p_value: float
    leaks: bool


def leaked_events(train: Interactions, examples: Examples) -> NDArray[np.int64]:
    """Positions of the questions with a target that train holds as an event of the user behind the history.

    A target that the user also took before the question is no leak, since that is in the history too.

    Returns:
        `int64[n]`, ascending.
    """
    owners = np.repeat(np.arange(len(examples)), examples.targets.lengths)  # of each target, its question
    targets = examples.targets.values[examples.targets.offsets[0] : examples.targets.offsets[-1]]
    width = len(train.items)
    events, counts = np.unique(train.user_rows.astype(np.int64) * width + train.item_rows, return_counts=True)
    wanted = examples.users[owners].astype(np.int64) * width + targets
    at = np.searchsorted(events, wanted).clip(max=max(len(events) - 1, 0))
    trained = np.where(events[at] == wanted, counts[at], 0) if len(events) else np.zeros(len(wanted), np.int64)
    suspects = np.flatnonzero(trained)
    histories = examples.histories.take(owners[suspects])
    same = histories.values == np.repeat(targets[suspects], histories.lengths)
    before = np.bincount(np.repeat(np.arange(len(suspects)), histories.lengths), same, len(suspects))
    return np.unique(owners[suspects[trained[suspects] > before]])


def check_split(split: Split) -> None:
    """Refuse a split whose train rows hold what its questions ask for.

    Raises:
        DataError: with the first such question.
    """
    for name, examples in (("validation", split.valid), ("test", split.test)):
        if len(found := leaked_events(split.train, examples)):
            user = int(examples.users[found[0]])
            raise DataError(
                f"train holds the target of {len(found):,} of {len(examples):,} {name} questions, first of user "
                f"'{split.train.users[user]}'.",
                fix="Cut train before the first question of each user.",
            )


def planted_targets(
    fit: Callable[[Split], Recommender], split: Split, k: int = 10, seed: int = 0, exclude_seen: bool = True
) -> LeakCheck:
    """Whether what `fit` gives back has looked at the test targets of the split.

    They are replaced by items drawn evenly from those that may be recommended. Train rows and validation stay, so an
    honest recommender is what it always is, and hits each with probability k / (items that may be recommended).

    Args:
        fit: makes a recommender of a split, all of which it may read. k: length of the lists. seed: of the draw.

    Raises:
        DataError: a history holds the whole catalog.
    """
    size, random = len(split.train.items), np.random.default_rng(seed)
    planted, allowed = _drawn_targets(split.test, size, random, exclude_seen)
    recommender = fit(replace(split, test=planted))
    found = evaluate(recommender, planted, (k,), exclude_seen, metrics=["hr"], progress=False)
    return _beside_chance(found.per_example[f"hr@{k}"], np.minimum(k / allowed, 1.0))


def shuffled_targets(evaluation: Evaluation, examples: Examples, k: int = 10, seed: int = 0) -> LeakCheck:
    """The same lists against the targets of other questions, beside `chance`; honest or not, it must be equal.

    Raises:
        DataError: the evaluation has no lists of k items.
    """
    if evaluation.rows.shape[1] < k:
        raise DataError(f"there are lists of {evaluation.rows.shape[1]} items, not of {k}.", fix="Lower k.")
    order = np.random.default_rng(seed).permutation(len(examples))
    others = examples.targets.take(order)
    return _beside_chance(hit_rate(evaluation.rows, others, k), chance(evaluation.rows, examples.targets, k))


def chance(rows: NDArray[np.int32], targets: Ragged, k: int) -> NDArray[np.float64]:
    """Probability that a list hits the targets of a question drawn at random, `float64[B]`.

    With one target a question it is the share of questions whose target is among the first k. With more it is the sum
    over items, an upper bound.

    >>> chance(np.array([[1, 2], [3, 3]]), Ragged.from_lists([[1], [1], [2], [3]]), k=2)
    array([0.75, 0.25])
    """
    values = targets.values[targets.offsets[0] : targets.offsets[-1]]
    first = rows[:, :k]
    shares = np.bincount(values, minlength=1 + int(max(rows.max(initial=0), values.max(initial=0)))) / len(targets)
    counted = (first >= 0) & ~repeats(first)
    return np.minimum(np.where(counted, shares[np.where(counted, first, 0)], 0).sum(axis=1), 1.0)


def better_than_validation(
    test: NDArray[np.float64], valid: NDArray[np.float64], users: NDArray[np.integer], ratio: float = 1.5
) -> LeakCheck:
    """Whether a finished model does so much better on test than on validation that it must have learnt the test part.

    Leave-one-out asks each user both questions, of equal kind; models that trained on neither differ little, either way
    (Markov on Office: .0477 and .0595). It finds no model that has learnt both parts, and none that forgot what it saw.

    Args:
        test, valid: `float64[U]`, a metric of the same users in the same order. users: `int[U]`.
        ratio: how many times better it must be, beside being significantly so.
    """
    found = paired(test, valid, users)
    means = float(np.nanmean(test)), float(np.nanmean(valid))
    p_value = found.p_value if found.difference > 0 else 1.0
    return LeakCheck(*means, p_value, bool(p_value < 10 * SURE and means[0] > ratio * means[1]))


def _drawn_targets(
    examples: Examples, size: int, random: np.random.Generator, exclude_seen: bool
) -> tuple[Examples, NDArray[np.int64]]:
    """The same questions, each with one target drawn evenly from what is allowed, and how many items that is."""
    seen = examples.histories
    allowed = np.full(len(examples), size)
    if exclude_seen:
        owners = np.repeat(np.arange(len(seen)), seen.lengths)
        values = seen.values[seen.offsets[0] : seen.offsets[-1]]
        allowed -= np.bincount(np.unique(owners * size + values) // size, minlength=len(seen))
    if not allowed.all():
        raise DataError("a history holds the whole catalog.", fix="Set exclude_seen=False.")
    drawn = random.integers(0, size, len(examples)).astype(np.int32)
    again = is_in(drawn[:, None], seen)[:, 0] if exclude_seen else np.zeros(len(examples), bool)
    while again.any():  # of evenly drawn items those that are allowed are evenly drawn
        drawn[again] = random.integers(0, size, int(again.sum()))
        again = is_in(drawn[:, None], seen)[:, 0]
    return replace(examples, targets=Ragged(drawn, np.arange(len(examples) + 1))), allowed


def _beside_chance(hits: NDArray[np.float64], probabilities: NDArray[np.float64]) -> LeakCheck:
    """Hits beside what independent draws would give: one-sided, by the exact law where hits are few."""
    count, expected = round(float(hits.sum())), float(probabilities.sum())
    if expected < 1000:  # the Poisson law has a heavier tail than such draws (Hoeffding, 1956)
        terms = np.cumsum(np.concatenate([[0.0], np.log(max(expected, 1e-12)) - np.log(np.arange(1, max(count, 1)))]))
        p_value = max(0.0, 1.0 - float(np.exp(terms - expected).sum())) if count else 1.0
    else:
        spread = sqrt(float((probabilities * (1 - probabilities)).sum())) or 1.0
        p_value = 0.5 * (1 - erf((count - 0.5 - expected) / spread / sqrt(2)))
    size = len(hits)
    return LeakCheck(count / size, expected / size, p_value, p_value < SURE)
