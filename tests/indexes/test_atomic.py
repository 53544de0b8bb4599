"""One token an item."""

import numpy as np
import pytest
from contracts.index_cases import catalog_of, histories_of, written

from llmrec.errors import DataError, RecipeError
from llmrec.indexes.atomic import AtomicIndex


def test_the_code_of_an_item_is_its_row() -> None:
    catalog = catalog_of(3)
    index = AtomicIndex().build(catalog, histories_of(catalog, [[2, 0]]))
    assert written(index) == [(0,), (1,), (2,)]
    assert index.level_sizes == (3,)


def test_one_item_alone() -> None:
    catalog = catalog_of(1)
    assert written(AtomicIndex().build(catalog, histories_of(catalog, [[0]]))) == [(0,)]


def test_later_items_are_refused_with_a_way_out() -> None:
    catalog = catalog_of(2)
    index = AtomicIndex().build(catalog, histories_of(catalog, [[0]]))
    with pytest.raises(RecipeError, match=r"cannot place 3 new items: each would need a token.*such as rqkmeans"):
        index.add(catalog_of(5))


def test_no_items_and_no_settings() -> None:
    catalog = catalog_of(1)
    with pytest.raises(DataError, match="the catalog has no item"):
        AtomicIndex().build(catalog.take(np.zeros(0, np.int32)), histories_of(catalog, [[0]]))
    with pytest.raises(RecipeError, match=r"index.levels: unknown setting"):
        AtomicIndex.parse({"levels": [3]}, "index")
