"""Intervals hold what they promise, tests agree with what can be worked out by hand, and memory does not grow."""

from __future__ import annotations

import doctest
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.errors import DataError
from llmrec.evaluation import significance
from llmrec.evaluation.significance import holm, interval, intervals, paired


def test_docstring_examples_run() -> None:
    result = doctest.testmod(significance)
    assert result.attempted >= 3
    assert result.failed == 0


def test_the_interval_of_a_mean_is_that_of_the_normal_law_where_it_should_be() -> None:
    values = np.random.default_rng(1).normal(2.0, 3.0, 2000)
    mean, low, high = interval(values, np.arange(2000), samples=4000)
    spread = 1.96 * values.std() / math.sqrt(2000)
    assert mean == pytest.approx(values.mean())
    assert low == pytest.approx(mean - spread, abs=0.1 * spread)
    assert high == pytest.approx(mean + spread, abs=0.1 * spread)


def test_a_true_mean_is_inside_about_as_often_as_the_level_says() -> None:
    rng, inside = np.random.default_rng(2), 0
    for trial in range(200):
        _, low, high = interval((rng.random(150) < 0.3).astype(float), np.arange(150), 0.9, 300, trial)
        inside += low <= 0.3 <= high
    assert 0.84 <= inside / 200 <= 0.96


def test_questions_of_one_user_are_drawn_together() -> None:
    """Forty copies of a user's question tell no more than one: the interval must not shrink."""
    values = (np.random.default_rng(3).random(50) < 0.5).astype(float)
    once = interval(values, np.arange(50), samples=2000)
    copied = interval(np.repeat(values, 40), np.repeat(np.arange(50), 40), samples=2000)
    alone = interval(np.repeat(values, 40), np.arange(2000), samples=2000)
    assert copied == pytest.approx(once)
    assert alone.high - alone.low < (once.high - once.low) / 4


def test_a_user_with_more_questions_weighs_more() -> None:
    found = interval(np.array([1.0, 1.0, 1.0, 0.0]), np.array([7, 7, 7, 9]), samples=500)
    assert found.mean == 0.75
    assert (found.low, found.high) == (0.0, 1.0)  # both users drawn may be the same one


def test_what_is_not_a_number_is_left_out() -> None:
    values, users = np.array([1.0, np.nan, 3.0, 2.0]), np.array([0, 0, 1, 2])
    assert interval(values, users) == interval(values[[0, 2, 3]], users[[0, 2, 3]])
    assert all(math.isnan(value) for value in interval(np.full(3, np.nan), np.arange(3)))


def test_the_same_seed_gives_the_same_interval_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    columns, users = {"a": rng.random(300), "b": rng.random(300)}, rng.integers(0, 90, 300)
    whole = intervals(columns, users, seed=5)
    assert whole == intervals(columns, users, seed=5)
    assert whole != intervals(columns, users, seed=6)
    shared = paired(columns["a"], columns["b"], users, seed=5)
    monkeypatch.setattr(significance, "DRAWS_AT_ONCE", 200)
    assert intervals(columns, users, seed=5) == whole
    assert paired(columns["a"], columns["b"], users, seed=5)[:3] == shared[:3]


def test_no_more_users_are_drawn_at_once_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(significance, "DRAWS_AT_ONCE", 1000)
    shapes = [drawn.shape for _, drawn in significance._draws(400, 11, 0)]
    assert shapes == [(2, 400)] * 5 + [(1, 400)]


def every_sign(differences: list[float]) -> float:
    reached = abs(sum(differences)) - 1e-9
    totals = [sum(s * d for s, d in zip(signs, differences, strict=True)) for signs in all_signs(len(differences))]
    return sum(abs(total) >= reached for total in totals) / len(totals)


def all_signs(count: int) -> list[tuple[int, ...]]:
    return list(itertools.product((-1, 1), repeat=count))


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=8))
def test_few_users_get_the_exact_p_value(differences: list[int]) -> None:
    first = np.array(differences, float)
    found = paired(first, np.zeros(len(first)), np.arange(len(first)), samples=10)
    assert found.p_value == pytest.approx(every_sign([d for d in differences if d] or [0]))


def test_random_flips_agree_with_all_flips() -> None:
    values = np.random.default_rng(5).normal(0.6, 1, 13)
    exact = paired(values, np.zeros(13), np.arange(13)).p_value
    drawn = paired(values, np.zeros(13), np.arange(13), flips=8000).p_value
    assert exact == pytest.approx(every_sign(values.tolist()))
    assert drawn == pytest.approx(exact, abs=0.02)
    assert drawn != exact


def test_equal_runs_do_not_differ() -> None:
    values = np.random.default_rng(6).random(40)
    assert paired(values, values, np.arange(40))[:4] == (0, 0, 0, 1)


def test_under_equality_p_values_are_even_and_a_real_difference_is_found() -> None:
    rng, users = np.random.default_rng(7), np.arange(60)
    null = [paired(rng.random(60), rng.random(60), users, samples=2, flips=500, seed=s).p_value for s in range(200)]
    assert 0.01 <= np.mean(np.array(null) < 0.05) <= 0.10
    better = rng.random(60)
    found = paired(better + 0.2 + 0.1 * rng.random(60), better, users)
    assert found.p_value < 0.001
    assert 0.2 < found.low < found.difference < found.high < 0.3


def test_a_users_questions_flip_together() -> None:
    """Six questions of one user are one observation: no test can tell it from chance."""
    one = paired(np.ones(6), np.zeros(6), np.zeros(6, int))
    six = paired(np.ones(6), np.zeros(6), np.arange(6))
    assert (one.p_value, one.users) == (1.0, 1)
    assert six.p_value == 2 / 64


def test_many_tests_at_once_must_each_be_surer() -> None:
    assert holm([]) == []
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.02, 0.001]) == [0.02, 0.002]


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(DataError, match="no question"):
        interval(np.empty(0), np.empty(0, int))
    with pytest.raises(DataError, match="3 values came with 2 users"):
        interval(np.zeros(3), np.zeros(2, int))
    with pytest.raises(DataError, match=r"level=95"):
        interval(np.zeros(3), np.arange(3), level=95)
    with pytest.raises(DataError, match="3 values are to be compared with 2"):
        paired(np.zeros(3), np.zeros(2), np.arange(3))
