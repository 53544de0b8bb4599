"""Ragged lists."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llmrec.types import Ragged


@given(st.lists(st.lists(st.integers(0, 99), max_size=4), min_size=1, max_size=6), st.data())
def test_lists_are_taken_in_the_order_asked_for(lists: list[list[int]], data: st.DataObject) -> None:
    wanted = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=8))
    taken = Ragged.from_lists(lists).take(np.array(wanted, np.int64))
    assert [rows.tolist() for rows in taken] == [lists[number] for number in wanted]
    assert len(taken.values) == sum(len(lists[number]) for number in wanted)
    assert taken.values.dtype == np.int32


def test_a_part_of_a_longer_array_leaves_the_rest_behind() -> None:
    part = Ragged(np.arange(9, dtype=np.int32), np.array([2, 4, 4, 7]))
    assert [rows.tolist() for rows in part.take(np.array([2, 0, 1]))] == [[4, 5, 6], [2, 3], []]
    assert [rows.tolist() for rows in part.slice(1, 9)] == [[], [4, 5, 6]]
    assert part.slice(1, 9).values.tolist() == [4, 5, 6]
