"""Metrics against hand-worked values, and against plain loops on random lists."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.errors import LlmrecError
from llmrec.evaluation import metrics
from llmrec.evaluation.metrics import METRICS, first_ranks, hit_rate, is_in, mrr, ndcg, recall, repeats
from llmrec.types import Ragged

ROWS = np.array([[4, 9, 2, 7], [4, 9, 2, 7], [4, 9, -1, -1]], np.int32)
TARGETS = Ragged.from_lists([[2], [7, 9, 100], [5]])


def test_docstring_examples_run() -> None:
    result = doctest.testmod(metrics)
    assert result.attempted >= len(METRICS)
    assert result.failed == 0


def test_hand_worked_values() -> None:
    assert hit_rate(ROWS, TARGETS, 4).tolist() == [1, 1, 0]
    assert hit_rate(ROWS, TARGETS, 1).tolist() == [0, 0, 0]
    assert mrr(ROWS, TARGETS, 4).tolist() == pytest.approx([1 / 3, 1 / 2, 0])
    assert recall(ROWS, TARGETS, 4).tolist() == pytest.approx([1, 2 / 3, 0])
    ideal = 1 + 1 / math.log2(3) + 1 / 2  # three targets on ranks 1 to 3
    second = (1 / math.log2(3) + 1 / math.log2(5)) / ideal  # found on ranks 2 and 4
    assert ndcg(ROWS, TARGETS, 4).tolist() == pytest.approx([1 / math.log2(4), second, 0])
    assert first_ranks(ROWS, TARGETS, 4).tolist() == [3, 2, 0]


def test_ideal_list_is_as_short_as_k() -> None:
    rows, targets = np.array([[1, 2]], np.int32), Ragged.from_lists([[1, 2, 3, 4]])
    assert ndcg(rows, targets, 2).tolist() == pytest.approx([1.0])
    assert recall(rows, targets, 2).tolist() == [0.5]


@pytest.mark.parametrize("name", METRICS)
def test_padding_is_never_a_hit(name: str) -> None:
    empty = np.full((1, 3), -1, np.int32)
    assert METRICS[name](empty, Ragged.from_lists([[-1]]), 3).tolist() == [0]


@pytest.mark.parametrize("name", METRICS)
def test_a_user_without_targets_gets_zero(name: str) -> None:
    assert METRICS[name](np.array([[1, 2]], np.int32), Ragged.from_lists([[]]), 2).tolist() == [0]


def test_repeating_the_target_gains_nothing() -> None:
    once, twice = np.array([[3, 8]], np.int32), np.array([[3, 3]], np.int32)
    targets = Ragged.from_lists([[3, 5]])
    for metric in METRICS.values():
        assert metric(twice, targets, 2).tolist() == metric(once, targets, 2).tolist()


def test_a_target_named_twice_counts_once() -> None:
    rows = np.array([[3, 8]], np.int32)
    for metric in METRICS.values():
        assert metric(rows, Ragged.from_lists([[3, 3]]), 2) == metric(rows, Ragged.from_lists([[3]]), 2)


def test_targets_may_be_a_slice_of_a_longer_array() -> None:
    targets = Ragged(np.array([9, 4, 2, 7], np.int32), np.array([2, 3, 4]))  # [[2], [7]]
    assert hit_rate(np.array([[2, 4], [9, 4]], np.int32), targets, 2).tolist() == [1, 0]


def test_items_of_another_user_are_no_hits() -> None:
    assert is_in(np.array([[1, 0], [1, 0]], np.int32), Ragged.from_lists([[0], [1]])).tolist() == [[0, 1], [1, 0]]


def test_repeats_marks_all_but_the_first() -> None:
    assert repeats(np.array([[5, -1, 5, 5, -1, 2]])).tolist() == [[0, 0, 1, 1, 0, 0]]


@pytest.mark.parametrize("k", [0, 5])
def test_k_outside_the_lists_is_refused(k: int) -> None:
    with pytest.raises(LlmrecError, match=f"k={k} asked of lists of 4 items"):
        hit_rate(ROWS, TARGETS, k)


def test_other_numbers_of_users_are_refused() -> None:
    with pytest.raises(LlmrecError, match="3 users"):
        hit_rate(ROWS, Ragged.from_lists([[1]]), 2)


users = st.lists(
    st.tuples(
        st.lists(st.integers(-1, 9), min_size=6, max_size=6), st.lists(st.integers(0, 9), max_size=4, unique=True)
    ),
    min_size=1,
    max_size=5,
)


@given(users, st.integers(1, 6))
def test_every_metric_equals_its_plain_loop(world: list[tuple[list[int], list[int]]], k: int) -> None:
    rows = np.array([row for row, _ in world], np.int32)
    targets = Ragged.from_lists([wanted for _, wanted in world])
    expected: dict[str, list[float]] = {name: [] for name in METRICS}
    for row, wanted in world:
        ranks = [row.index(item) + 1 for item in wanted if item in row[:k]]
        found_by = {rank: sum(other <= rank for other in ranks) for rank in ranks}
        precision = sum(found_by[rank] / rank for rank in ranks)
        expected["map"].append(precision / len(wanted) if wanted else 0)
        ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(wanted)) + 1))
        expected["hr"].append(float(bool(ranks)))
        expected["recall"].append(len(ranks) / len(wanted) if wanted else 0)
        expected["mrr"].append(1 / min(ranks) if ranks else 0)
        expected["ndcg"].append(sum(1 / math.log2(rank + 1) for rank in ranks) / ideal if wanted else 0)
    for name, metric in METRICS.items():
        values = metric(rows, targets, k)
        assert values.dtype == np.float64
        np.testing.assert_allclose(values, expected[name], atol=1e-12)
