"""Events come out grouped by user and in time order, whatever order they went in; histories are views."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.data.interactions import Interactions
from llmrec.data.vocabulary import Vocabulary
from llmrec.errors import DataError

EVENTS = st.lists(st.tuples(st.sampled_from("uvw"), st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=30)


def interactions(events: list[tuple[str, int, int]], ratings: list[float] | None = None) -> Interactions:
    users, items, times = zip(*events, strict=True)
    return Interactions.from_columns(
        pa.array(users),
        pa.array([f"i{item}" for item in items]),
        np.array(times),
        Vocabulary([f"i{row}" for row in range(5)]),
        None if ratings is None else np.array(ratings, np.float32),
    )


def test_worked_example() -> None:
    made = interactions([("b", 3, 20), ("a", 1, 5), ("b", 2, 10), ("b", 0, 20)], ratings=[1.0, 2.0, 3.0, 4.0])
    assert made.users.ids.to_pylist() == ["b", "a"]  # in order of first appearance
    assert made.history(0).tolist() == [2, 3, 0]  # time 10, then the two of time 20 in input order
    assert made.history(1).tolist() == [1]
    assert made.table["time"].to_pylist() == [10, 20, 20, 5]
    assert made.table["rating"].to_pylist() == [3.0, 1.0, 4.0, 2.0]
    assert made.user_rows.tolist() == [0, 0, 0, 1]


@settings(max_examples=60, deadline=None)
@given(EVENTS)
def test_equal_times_keep_input_order(events: list[tuple[str, int, int]]) -> None:
    made = interactions(events)
    for row, user in enumerate(made.users.ids.to_pylist()):
        expected = [item for _, item in sorted(((t, i) for u, i, t in events if u == user), key=lambda pair: pair[0])]
        assert made.history(row).tolist() == expected


def test_histories_share_memory_with_the_table() -> None:
    made = interactions([("a", 1, 0), ("b", 2, 0), ("b", 3, 1)])
    column = made.table["item"].chunk(0).to_numpy()
    assert np.shares_memory(made.history(1), column)
    assert np.shares_memory(made.histories[0], column)


@settings(max_examples=60, deadline=None)
@given(EVENTS, st.data())
def test_filter_keeps_users_and_keep_users_drops_them(events: list[tuple[str, int, int]], data: st.DataObject) -> None:
    made = interactions(events)
    size, users = len(made), len(made.users)
    events_kept = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    filtered = made.filter(events_kept)
    assert filtered.users is made.users
    assert filtered.item_rows.tolist() == made.item_rows[events_kept].tolist()
    assert filtered.user_rows.tolist() == made.user_rows[events_kept].tolist()

    users_kept = np.array(data.draw(st.lists(st.booleans(), min_size=users, max_size=users)))
    fewer = made.keep_users(users_kept)
    kept = np.flatnonzero(users_kept)
    assert [fewer.users[row] for row in range(len(kept))] == [made.users[int(row)] for row in kept]
    assert [h.tolist() for h in fewer.histories] == [made.history(int(row)).tolist() for row in kept]


@settings(max_examples=60, deadline=None)
@given(EVENTS)
def test_without_repeats_keeps_first_events(events: list[tuple[str, int, int]]) -> None:
    made = interactions(events)
    for before, after in zip(made.histories, made.without_repeats().histories, strict=True):
        assert after.tolist() == list(dict.fromkeys(before.tolist()))


def test_unknown_item_and_no_event_are_refused() -> None:
    with pytest.raises(DataError, match=r"row 1 .*'i9'.*\(2 such events\).*unknown_items: drop"):
        interactions([("a", 1, 0), ("a", 9, 0), ("a", 9, 1)])
    empty = pa.array([], pa.string())
    with pytest.raises(DataError, match=r"events\.csv: .*empty"):
        Interactions.from_columns(empty, empty, np.empty(0, np.int64), Vocabulary(["i"]), where="events.csv")
