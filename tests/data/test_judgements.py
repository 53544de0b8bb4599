"""Questions about one item find the rating that was given, whatever the split, and never draw what was taken."""

from __future__ import annotations

import doctest

import numpy as np
import pyarrow as pa
import pytest

from llmrec.data import judgements
from llmrec.data.interactions import Interactions
from llmrec.data.judgements import rated, with_drawn_items
from llmrec.data.split import Examples, global_temporal, leave_one_out
from llmrec.data.vocabulary import Vocabulary
from llmrec.errors import DataError
from llmrec.types import Ragged

ITEMS = Vocabulary(pa.array([f"i{row}" for row in range(9)]))


def interactions(with_ratings: bool = True) -> Interactions:
    """Two users; user `v` rates item 3 twice."""
    users, items = list("uvuvuvvu"), [0, 3, 1, 4, 2, 3, 5, 6]
    ratings = np.array([1, 2, 3, 4, 5, 1.5, 2.5, 3.5], np.float32)
    ids = pa.array([f"i{row}" for row in items])
    times = np.arange(8, dtype=np.int64)
    return Interactions.from_columns(pa.array(users), ids, times, ITEMS, ratings if with_ratings else None)


def test_docstring_examples_run() -> None:
    result = doctest.testmod(judgements)
    assert (result.attempted > 0, result.failed) == (True, 0)


def test_the_rating_of_the_last_item_is_asked() -> None:
    events = interactions()
    split = leave_one_out(events)
    test, valid = rated(events, split.test), rated(events, split.valid)
    assert (test.items.tolist(), test.values.tolist()) == ([6, 5], [3.5, 2.5])
    assert (valid.items.tolist(), valid.values.tolist()) == ([2, 3], [5, 1.5])
    assert [list(history) for history in valid.histories] == [[0, 1], [3, 4]]
    assert valid.history_values is not None
    assert valid.history_values.tolist() == [1, 3, 2, 4]
    assert test.liked(3).tolist() == [True, False]


def test_every_late_event_is_asked_of_a_temporal_split() -> None:
    events = interactions()
    test = rated(events, global_temporal(events, 0.25, 0.375).test)
    assert list(zip(test.users.tolist(), test.items.tolist(), test.values.tolist(), strict=True)) == [
        (0, 6, 3.5),
        (1, 3, 1.5),
        (1, 5, 2.5),
    ]
    assert [list(history) for history in test.histories] == [[0, 1, 2], [3, 4], [3, 4, 3]]


def test_a_sample_keeps_ratings_beside_their_items() -> None:
    events = interactions()
    test = rated(events, global_temporal(events, 0.25, 0.375).test)
    rating_of = {(0, 0): 1, (0, 1): 3, (0, 2): 5}
    for seed in range(5):
        few = test.sample(1, seed)
        assert len(few) == 1
        assert few.history_values is not None
        assert len(few.history_values) == len(few.histories.values)
        if few.users[0] == 0:
            assert few.history_values.tolist() == [rating_of[0, row] for row in few.histories[0].tolist()]
    assert test.sample(3, 0) is test


def test_what_has_no_ratings_or_comes_from_elsewhere_is_refused() -> None:
    events, without = interactions(), interactions(with_ratings=False)
    test = leave_one_out(events).test
    with pytest.raises(DataError, match=r"no ratings.*with_drawn_items"):
        rated(without, test)
    with pytest.raises(DataError, match="do not fit"):
        rated(leave_one_out(events).train, test)
    others = Examples(test.users, test.histories, Ragged.from_lists([[6], [6]]))
    with pytest.raises(DataError, match="other items"):
        rated(events, others)


def test_drawn_items_were_never_taken_and_come_back_with_the_seed() -> None:
    test = leave_one_out(interactions()).test
    found = with_drawn_items(test, size=9, count=3, seed=1)
    assert found.values.tolist() == [1, 0, 0, 0] * 2
    assert found.items[[0, 4]].tolist() == [6, 5]
    for number in range(8):
        example = number // 4
        taken = {*test.histories[example].tolist(), *test.targets[example].tolist()}
        assert (int(found.items[number]) in taken) == (number % 4 == 0)
        assert list(found.histories[number]) == list(test.histories[example])
    assert len(set(found.items[1:4].tolist())) == 3
    np.testing.assert_array_equal(found.items, with_drawn_items(test, 9, 3, 1).items)
    assert found.items.tolist() != with_drawn_items(test, 9, 3, 2).items.tolist()
    with pytest.raises(DataError, match="took all but"):
        with_drawn_items(test, size=9, count=6)
