"""Codes by chance: all distinct, any number of them, and later ones from what is left."""

import numpy as np
import pytest
from contracts.index_cases import assert_codes_can_be_told_apart, catalog_of, histories_of
from hypothesis import given
from hypothesis import strategies as st

from llmrec.errors import RecipeError
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.random import RandomIndex


def build(count: int, **settings: object) -> ItemIndex:
    catalog = catalog_of(count)
    return RandomIndex.parse(settings, "index").build(catalog, histories_of(catalog, [[0]]))


def test_as_many_items_as_codes_use_every_code() -> None:
    index = build(6, levels=[2, 3])
    assert sorted(map(tuple, index.codes.tolist())) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert index.level_sizes == (2, 3)


def test_the_seed_decides_and_nothing_else() -> None:
    catalog = catalog_of(50)
    drawn = build(50, levels=[16, 16], seed=3)
    other_train = RandomIndex(levels=[16, 16], seed=3).build(catalog, histories_of(catalog, [[7, 8], [9]]))
    assert drawn.digest == other_train.digest
    assert drawn.digest != build(50, levels=[16, 16], seed=4).digest


def test_items_next_to_each_other_share_no_more_than_chance() -> None:
    first = build(4000, levels=[20, 400]).codes[:, 0]
    assert np.mean(first[1:] == first[:-1]) == pytest.approx(1 / 20, abs=0.015)  # four standard deviations
    assert np.bincount(first).min() > 140  # 200 of 4,000 on each, and one draw in a million so far below


def test_many_levels_need_no_memory_for_codes_that_nobody_has() -> None:
    index = build(10, levels=[256] * 7)
    assert index.collisions == 0
    assert index.add(catalog_of(20)).collisions == 0


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ([2, 2], r"index.levels \[2, 2\] make 4 codes for 5 items.*Enlarge a level or add one"),
        ([65536] * 4, r"make 18446744073709551616 codes.*Take fewer or smaller levels"),
    ],
)
def test_too_few_and_too_many_codes(levels: list[int], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build(5, levels=levels)


@given(st.integers(1, 11), st.integers(1, 11), st.integers(0, 5))
def test_later_items_draw_from_what_is_left(known: int, new: int, seed: int) -> None:
    index = build(known, levels=[3, 4], seed=seed)
    if known + new > 12:
        with pytest.raises(RecipeError, match=f"make 12 codes for {known + new} items"):
            index.add(catalog_of(known + new))
        return
    grown = index.add(catalog_of(known + new))
    assert_codes_can_be_told_apart(grown)
    np.testing.assert_array_equal(grown.codes[:known], index.codes)


def test_later_items_are_drawn_too() -> None:
    """Any free code, not the first ones."""
    index = build(10, levels=[100, 100])
    first = index.add(catalog_of(60)).codes[10:, 0]
    assert first.min() < 25
    assert first.max() > 75
