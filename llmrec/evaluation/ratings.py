"""Rating prediction: how many stars, as a number (MAE, RMSE).

The line to beat is `fit_biases`, which knows only that some items are liked more and some users are more generous. A
language model answers with stars, and its prediction is their mean under its probabilities:

    answers = ask(model, ChoiceTask(template, catalog, tokenizer, STARS), judgements)
    found = evaluate_ratings(judgements.values, answers.probabilities @ np.arange(1, 6), judgements.users)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmrec.data.interactions import Interactions
from llmrec.errors import DataError
from llmrec.evaluation.significance import intervals
from llmrec.types import Rows

Values = NDArray[np.float64]


class RatingErrors(NamedTuple):
    """How far predictions are from ratings, in stars.

    Args:
        metrics: `mae` and `rmse`. intervals: of each, `[low, high]`, users drawn. questions, users: asked.
    """

    metrics: dict[str, float]
    intervals: dict[str, list[float]]
    questions: int
    users: int


def evaluate_ratings(
    ratings: NDArray[np.floating],
    predicted: NDArray[np.floating],
    users: NDArray[np.integer],
    level: float = 0.95,
    samples: int = 1000,
    seed: int = 0,
) -> RatingErrors:
    """Mean absolute error and root of the mean squared error, over questions (not over users).

    Args:
        ratings, predicted: `float[E]`. users: `int[E]`, who rated. level, samples, seed: of the intervals.

    Raises:
        DataError: there is no question, lengths differ, or a number is none.

    >>> evaluate_ratings(np.array([4.0, 2.0]), np.array([3.0, 2.0]), np.array([0, 1])).metrics["mae"]
    0.5
    """
    if len(ratings) != len(predicted):
        raise DataError(f"{len(ratings)} ratings came with {len(predicted)} predictions.", fix="Give one a question.")
    errors = np.asarray(predicted, np.float64) - np.asarray(ratings, np.float64)
    if not np.isfinite(errors).all():
        raise DataError("a rating or a prediction is no number.", fix="Leave out questions without a prediction.")
    found = intervals({"mae": np.abs(errors), "mse": errors**2}, users, level, samples, seed)
    # The root keeps the order of the draws, so the interval's root is the root's interval.
    absolute, squared = found["mae"], found["mse"]
    return RatingErrors(
        {"mae": absolute.mean, "rmse": float(np.sqrt(squared.mean))},
        {
            "mae": [absolute.low, absolute.high],
            "rmse": [float(np.sqrt(squared.low)), float(np.sqrt(squared.high))],
        },
        len(errors),
        len(np.unique(users)),
    )


class Biases(NamedTuple):
    """`mean + item bias + user bias`, kept within the scale of the train ratings.

    Args:
        mean: of all train ratings. items: `float64[N]`. users: `float64[U]`, 0 where nothing is known.
        scale: the lowest and the highest train rating.
    """

    mean: float
    items: Values
    users: Values
    scale: tuple[float, float]

    def predict(self, users: Rows, items: Rows) -> Values:
        """`float64[E]`: the ratings of these pairs."""
        return np.clip(self.mean + self.users[users] + self.items[items], *self.scale)


def fit_biases(train: Interactions, damping: float = 5.0) -> Biases:
    """Damped means, items first (Koren, Bell and Volinsky, 2009; with damping as in Funk, 2006).

    `b_i = sum (r - mean) / (n_i + damping)`, then `b_u = sum (r - mean - b_i) / (n_u + damping)`.

    Args:
        train: with ratings; neither valid nor test rows. damping: ratings at the mean that everything begins with.

    Raises:
        DataError: there are no ratings.
    """
    if "rating" not in train.table.column_names or not len(train):
        raise DataError("the train rows have no ratings.", fix="Name the column in the source's column map.")
    ratings = train.table["rating"].to_numpy().astype(np.float64)
    mean = float(ratings.mean())

    def damped(left: Values, owners: Rows, size: int) -> Values:
        counts = np.bincount(owners, minlength=size) + damping
        return np.divide(np.bincount(owners, left, size), counts, out=np.zeros(size), where=counts > 0)

    items = damped(ratings - mean, train.item_rows, len(train.items))
    users = damped(ratings - mean - items[train.item_rows], train.user_rows, len(train.users))
    return Biases(mean, items, users, (float(ratings.min()), float(ratings.max())))
