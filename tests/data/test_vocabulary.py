"""A vocabulary answers as a dictionary would."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.data.vocabulary import UNKNOWN, Vocabulary
from llmrec.errors import DataError

IDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@settings(max_examples=60, deadline=None)
@given(st.lists(IDS, unique=True, max_size=30), st.lists(IDS, max_size=10))
def test_same_answers_as_a_dictionary(ids: list[str], asked: list[str]) -> None:
    vocabulary, expected = Vocabulary(ids), {name: row for row, name in enumerate(ids)}
    asked = asked + ids
    assert vocabulary.rows(asked).tolist() == [expected.get(name, UNKNOWN) for name in asked]
    assert [vocabulary.row(name) for name in asked] == [expected.get(name, UNKNOWN) for name in asked]
    assert [name in vocabulary for name in asked] == [name in expected for name in asked]
    assert [vocabulary[row] for row in range(len(vocabulary))] == ids


def test_rows_are_int32_also_for_chunks_and_categories() -> None:
    vocabulary = Vocabulary(["b", "a"])
    asked = pa.chunked_array([pa.array(["a"]).dictionary_encode(), pa.array(["b", "c"]).dictionary_encode()])
    rows = vocabulary.rows(asked)
    assert rows.dtype == np.int32
    assert rows.tolist() == [1, 0, UNKNOWN]
    assert Vocabulary(pa.array([7, 12])).rows(["12", "8"]).tolist() == [1, UNKNOWN]


@pytest.mark.parametrize("row", [-1, 2])
def test_rows_outside_are_an_index_error(row: int) -> None:
    with pytest.raises(IndexError, match="of 2"):
        Vocabulary(["a", "b"])[row]


def test_repeated_and_missing_ids_are_refused() -> None:
    with pytest.raises(DataError, match="'b' appears twice"):
        Vocabulary(["a", "b", "b"])
    with pytest.raises(DataError, match=r"row 1 .*id is empty"):
        Vocabulary(pa.array(["a", None]))
