"""Rating errors are those of the definition, and the biases those of the formula."""

from __future__ import annotations

import doctest

import numpy as np
import pyarrow as pa
import pytest

from llmrec.data.interactions import Interactions
from llmrec.data.vocabulary import Vocabulary
from llmrec.errors import DataError
from llmrec.evaluation import ratings
from llmrec.evaluation.ratings import evaluate_ratings, fit_biases


def train(with_ratings: bool = True) -> Interactions:
    """Item 0 is rated 4 and 2, item 1 is rated 5; nobody rated item 2."""
    return Interactions.from_columns(
        pa.array(["u", "u", "v"]),
        pa.array(["a", "b", "a"]),
        np.arange(3, dtype=np.int64),
        Vocabulary(pa.array(["a", "b", "c"])),
        np.array([4, 5, 2], np.float32) if with_ratings else None,
    )


def test_docstring_examples_run() -> None:
    result = doctest.testmod(ratings)
    assert (result.attempted > 0, result.failed) == (True, 0)


def test_errors_are_of_questions() -> None:
    found = evaluate_ratings(np.array([5.0, 3.0, 1.0]), np.array([4.0, 3.0, 3.0]), np.array([0, 0, 1]), samples=200)
    assert found.metrics == {"mae": 1.0, "rmse": pytest.approx(np.sqrt(5 / 3))}
    assert found.intervals["mae"] == [0.5, 2.0]  # user 0 alone, user 1 alone
    assert found.intervals["rmse"] == pytest.approx([np.sqrt(0.5), 2.0])
    assert (found.questions, found.users) == (3, 2)


def test_biases_by_hand() -> None:
    found = fit_biases(train(), damping=1)
    mean = 11 / 3
    a = ((4 - mean) + (2 - mean)) / 3
    b = (5 - mean) / 2
    u = ((4 - mean - a) + (5 - mean - b)) / 3
    v = (2 - mean - a) / 2
    np.testing.assert_allclose(found.items, [a, b, 0])
    np.testing.assert_allclose(found.users, [u, v])
    np.testing.assert_allclose(found.predict(np.array([0, 1]), np.array([2, 0])), [mean + u, mean + v + a])


def test_predictions_stay_on_the_scale() -> None:
    found = fit_biases(train(), damping=0)
    assert found.scale == (2, 5)
    assert found.predict(np.array([0]), np.array([1]))[0] == 5.0
    assert found.mean + found.users[0] + found.items[1] > 5.0


def test_what_cannot_be_measured_is_explained() -> None:
    with pytest.raises(DataError, match="no ratings"):
        fit_biases(train(with_ratings=False))
    with pytest.raises(DataError, match="2 ratings came with 1"):
        evaluate_ratings(np.array([1.0, 2.0]), np.array([1.0]), np.array([0, 1]))
    with pytest.raises(DataError, match="no number"):
        evaluate_ratings(np.array([1.0, np.nan]), np.array([1.0, 2.0]), np.array([0, 1]))
