"""Slices worked by hand, and together always all the questions."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.data.split import Examples
from llmrec.evaluation import slices
from llmrec.evaluation.beyond_accuracy import ItemFacts
from llmrec.evaluation.slices import (
    Slicing,
    by_category,
    by_first_code,
    by_history_length,
    by_newness,
    by_popularity,
    by_prompt,
    by_repetition,
    by_value,
    sliced,
    slicings,
)
from llmrec.types import Ragged

HISTORIES = Ragged.from_lists([[0], [1, 2], [0, 1, 2, 3], [3] * 60])
TARGETS = Ragged.from_lists([[1], [2, 0], [4], [3]])
EXAMPLES = Examples(np.array([0, 1, 2, 2], np.int32), HISTORIES, TARGETS, np.array([5, 60, 5, 900]))
COUNTS = np.array([9, 3, 3, 1, 0])


def shown(slicing: Slicing) -> list[str]:
    return [slicing.labels[number] if number >= 0 else "none" for number in slicing.of]


def test_docstring_examples_run() -> None:
    result = doctest.testmod(slices)
    assert result.attempted >= 2
    assert result.failed == 0


def test_slices_by_hand() -> None:
    assert shown(by_history_length(EXAMPLES)) == ["1", "2", "3-4", "50 or more"]
    assert shown(by_popularity(EXAMPLES, COUNTS)) == ["3", "3", "0", "1"]
    assert shown(by_first_code(EXAMPLES, COUNTS, np.array([0, 1, 0, 1, 2], np.int32))) == ["4", "12", "0", "4"]
    assert shown(by_prompt(EXAMPLES, COUNTS)) == ["9", "3", "4", "1"]
    assert shown(by_newness(EXAMPLES, COUNTS)) == ["in train", "in train", "cold", "in train"]
    assert shown(by_repetition(EXAMPLES)) == ["new", "repeat", "new", "repeat"]
    assert shown(by_category(EXAMPLES, np.array([-1, 1, 1, 0, -1], np.int32), ["pens", "lamps"])) == [
        "lamps", "lamps", "none", "pens",
    ]  # fmt: skip


def test_the_rarest_categories_are_one_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "CATEGORIES", 1)
    found = by_category(EXAMPLES, np.array([2, 1, 1, 0, 2], np.int32), ["a", "b", "c"])
    assert found.labels == ("b", "all others")
    assert shown(found) == ["b", "b", "all others", "all others"]


def test_all_slicings_of_real_questions_and_none_that_says_nothing() -> None:
    facts = ItemFacts(COUNTS, np.array([0, 1, 1, 0, 0], np.int32), ("pens", "lamps"))
    names = [slicing.name for slicing in slicings(EXAMPLES, facts)]
    assert names == [
        *("history_length", "target_popularity", "history_popularity"),
        *("target_age", "target_seen", "category", "time_gap"),
    ]
    same = EXAMPLES.take(np.array([0, 0]))
    assert slicings(same, facts) == []


@given(st.lists(st.integers(-3, 3) | st.just(None), min_size=1, max_size=60), st.integers(1, 12))
def test_parts_are_ascending_nearly_equal_and_never_divide_equals(numbers: list[int | None], parts: int) -> None:
    values = np.array([np.nan if number is None else number for number in numbers], float)
    found = by_value("x", values, parts)
    assert ((found.of < 0) == np.isnan(values)).all()
    assert len(found.labels) <= parts
    for number in {n for n in numbers if n is not None}:
        assert len(set(found.of[values == number])) == 1
    for part in range(1, len(found.labels)):
        assert values[found.of == part - 1].max() < values[found.of == part].min()


def test_distinct_values_make_equal_parts() -> None:
    found = by_value("x", np.random.default_rng(0).permutation(200).astype(float))
    assert np.bincount(found.of).tolist() == [20] * 10
    assert found.labels[:2] == ("0-19", "20-39")
    assert by_value("x", np.array([-2.5, -1.5]), 1).labels == ("-2.5 to -1.5",)


def test_every_slice_has_its_count_means_and_intervals() -> None:
    values = {"hr@2": np.array([1.0, 0.0, 1.0, 0.0])}
    found = sliced([by_repetition(EXAMPLES), by_newness(EXAMPLES, COUNTS)], values, EXAMPLES.users, samples=200)
    assert found["target_seen"] == [
        {"slice": "repeat", "examples": 2, "users": 2, "metrics": {"hr@2": 0.0}, "intervals": {"hr@2": [0.0, 0.0]}},
        {"slice": "new", "examples": 2, "users": 2, "metrics": {"hr@2": 1.0}, "intervals": {"hr@2": [1.0, 1.0]}},
    ]
    old = found["target_age"][1]
    assert (old["examples"], old["users"]) == (3, 3)
    assert old["metrics"]["hr@2"] == 0.333333
    assert old["intervals"]["hr@2"] == [0.0, 1.0]


def test_slices_without_a_question_are_left_out() -> None:
    found = sliced([by_history_length(EXAMPLES)], {"hr@1": np.zeros(4)}, EXAMPLES.users, samples=5)
    assert [entry["slice"] for entry in found["history_length"]] == ["1", "2", "3-4", "50 or more"]
    assert sum(entry["examples"] for entry in found["history_length"]) == 4
