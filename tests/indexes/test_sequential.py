"""Numbers in the order of the train histories."""

import numpy as np
import pyarrow as pa
import pytest
from contracts.index_cases import catalog_of, histories_of, written

from llmrec.data.interactions import Interactions
from llmrec.errors import RecipeError
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.sequential import SequentialIndex

HISTORIES = [[2, 0], [0, 3, 2, 1]]  # so the order is 2, 0, 3, 1; items 4 and 5 were never taken


def build(count: int = 6, **settings: object) -> ItemIndex:
    catalog = catalog_of(count)
    return SequentialIndex.parse(settings, "index").build(catalog, histories_of(catalog, HISTORIES))


def test_the_order_of_first_appearance_as_digits() -> None:
    index = build()  # 6 items: two levels of 3
    assert written(index) == [(0, 1), (1, 0), (0, 0), (0, 2), (1, 1), (1, 2)]
    assert index.level_sizes == (3, 3)


def test_other_levels() -> None:
    assert written(build(levels=[2, 2, 2])) == [(0, 0, 1), (0, 1, 1), (0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 0, 1)]
    assert written(build(levels=[9])) == [(1,), (3,), (0,), (2,), (4,), (5,)]
    assert written(build(levels=[2, 10])) == [(0, 1), (0, 3), (0, 0), (0, 2), (0, 4), (0, 5)]


@pytest.mark.parametrize(("count", "size"), [(4, 2), (5, 3), (9, 3), (10, 4), (2420, 50)])
def test_the_levels_are_as_small_as_they_can_be(count: int, size: int) -> None:
    assert build(count).level_sizes == (size, size)


def test_a_history_is_walked_by_time() -> None:
    catalog = catalog_of(3)
    train = Interactions.from_columns(
        pa.array(["b", "b", "a"]), pa.array(["i0", "i1", "i2"]), np.array([9, 3, 1]), catalog.items
    )
    # User b comes first in the table, and took i1 before i0; then user a.
    assert written(SequentialIndex(levels=[3]).build(catalog, train)) == [(1,), (0,), (2,)]


def test_one_item_alone() -> None:
    catalog = catalog_of(1)
    assert written(SequentialIndex().build(catalog, histories_of(catalog, [[0, 0]]))) == [(0, 0)]


def test_later_items_get_the_next_numbers() -> None:
    index = build()
    assert written(index.add(catalog_of(9)))[6:] == [(2, 0), (2, 1), (2, 2)]
    assert index.add(catalog_of(7)).add(catalog_of(9)).digest == index.add(catalog_of(9)).digest


def test_numbers_are_used_up() -> None:
    with pytest.raises(RecipeError, match=r"index.levels \[3, 3\] make 9 codes for 10 items.*Enlarge a level"):
        build().add(catalog_of(10))
    with pytest.raises(RecipeError, match=r"index.levels \[2, 2\] make 4 codes for 6 items"):
        build(levels=[2, 2])
