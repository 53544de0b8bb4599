"""Click metrics agree with scikit-learn and with what can be counted by hand."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from llmrec.errors import DataError
from llmrec.evaluation import ctr
from llmrec.evaluation.ctr import auc, evaluate_clicks, fit_logistic, log_losses, user_auc

World = tuple[np.ndarray, np.ndarray, np.ndarray]


def world(seed: int = 0, questions: int = 300) -> World:
    """Labels, scores with many ties that know something of them, and users."""
    rng = np.random.default_rng(seed)
    labels = rng.random(questions) < 0.3
    scores = np.round(rng.normal(size=questions) + labels, 1)
    return labels, scores, rng.integers(0, 40, questions)


def test_docstring_examples_run() -> None:
    result = doctest.testmod(ctr)
    assert (result.attempted > 2, result.failed) == (True, 0)


@pytest.mark.parametrize("seed", range(5))
def test_equal_to_scikit_learn(seed: int) -> None:
    labels, scores, _ = world(seed)
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    probabilities = 1 / (1 + np.exp(-scores))
    assert log_losses(labels, probabilities).mean() == pytest.approx(log_loss(labels, probabilities), abs=1e-12)


def test_grouped_auc_weighs_users_by_their_questions_and_leaves_out_those_of_one_kind() -> None:
    labels, scores, users = world()
    per_user = user_auc(labels, scores, users)
    total, weight, counted = 0.0, 0, 0
    for user in np.unique(users):
        mine = users == user
        if len(np.unique(labels[mine])) == 2:
            total += mine.sum() * roc_auc_score(labels[mine], scores[mine])
            weight, counted = weight + mine.sum(), counted + 1
        else:
            assert np.isnan(per_user[mine]).all()
    found = evaluate_clicks(labels, scores, users, samples=50)
    assert found.metrics["grouped_auc"] == pytest.approx(total / weight)
    assert (found.grouped_users, found.users, found.questions) == (counted, len(np.unique(users)), 300)


def test_grouped_auc_does_not_reward_knowing_who_takes_much() -> None:
    users = np.repeat([0, 1], 50)
    labels = np.arange(100) % np.where(users == 0, 10, 2) == 0
    found = evaluate_clicks(labels, users.astype(float), users, samples=50)
    assert found.metrics["auc"] > 0.7
    assert found.metrics["grouped_auc"] == 0.5


def test_intervals_hold_the_values_and_come_from_users() -> None:
    labels, scores, users = world()
    probabilities = fit_logistic(labels, scores)(scores)
    found = evaluate_clicks(labels, scores, users, probabilities, samples=200)
    assert set(found.metrics) == set(found.intervals) == {"auc", "grouped_auc", "log_loss"}
    for name, (low, high) in found.intervals.items():
        assert low < found.metrics[name] < high
    assert found.metrics["auc"] == auc(labels, scores)
    # One user who asks everything has nobody to be drawn in place of them.
    alone = evaluate_clicks(labels, scores, np.zeros(300, int), samples=20)
    assert alone.intervals["auc"] == [alone.metrics["auc"]] * 2
    assert found.metrics["log_loss"] < found.base_log_loss
    assert found.share == labels.mean()


def test_without_a_user_of_both_kinds_there_is_no_grouped_auc() -> None:
    found = evaluate_clicks(np.array([True, False]), np.array([1.0, 0.0]), np.array([0, 1]), samples=50)
    assert found.metrics == {"auc": 1.0}
    assert found.grouped_users == 0


def test_logistic_regression_states_what_happens() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(40, 7, 20_000)  # far from 0, as log-probabilities and counts are
    labels = rng.random(20_000) < 1 / (1 + np.exp(-(scores - 42) / 3))
    fitted = fit_logistic(labels, scores)
    assert fitted.slope == pytest.approx(1 / 3, rel=0.05)
    assert -fitted.intercept / fitted.slope == pytest.approx(42, abs=0.3)
    stated = fitted(scores)
    assert stated.mean() == pytest.approx(labels.mean(), abs=1e-3)
    assert auc(labels, stated) == pytest.approx(auc(labels, scores))


def test_never_counts_as_the_lowest_score() -> None:
    labels, scores = np.array([True, False, True, False]), np.array([3.0, 1.0, 2.0, -np.inf])
    fitted = fit_logistic(labels, scores)
    assert fitted(scores)[3] == fitted(scores)[1] < fitted(scores)[2]
    assert auc(labels, scores) == 1.0


@pytest.mark.parametrize(
    ("labels", "scores", "probabilities", "words"),
    [
        ([True, True], [1.0, 2.0], None, "all of 2 labels are alike"),
        ([], [], None, "all of 0 labels"),
        ([True, False], [1.0], None, r"the columns have \[1, 2\] values"),
        ([True, False], [1.0, np.nan], None, "1 scores are no numbers"),
        ([True, False], [1.0, 0.0], [-3.2, 0.0], r"not in \[0, 1\].*fit_logistic"),
    ],
)
def test_what_cannot_be_measured_is_explained(
    labels: list[bool], scores: list[float], probabilities: list[float] | None, words: str
) -> None:
    stated = None if probabilities is None else np.array(probabilities)
    with pytest.raises(DataError, match=words):
        evaluate_clicks(np.array(labels, bool), np.array(scores), np.zeros(len(labels), int), stated)
