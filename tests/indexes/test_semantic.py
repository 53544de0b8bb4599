"""Codes from a category tree, worked out by hand."""

from pathlib import Path

import pytest
from contracts.index_cases import assert_codes_can_be_told_apart, catalog_of, histories_of, written
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.errors import DataError, RecipeError
from llmrec.indexes.base import END, ItemIndex
from llmrec.indexes.semantic import SemanticIndex

SHOP = ["Office > Paper", "Office > Pens", "Office", "Office > Paper", "", "Art > Oil > Brushes | Office > Pens"]
# Sorted: no category 0, Art 1, Office 2; under Office: Paper 0, Pens 1, and its own item 2.
CODES = [(2, 0, 0), (2, 1, 0), (2, 2), (2, 0, 1), (0, 0), (1, 0, 0, 0)]


def build(categories: list[str], **changes: object) -> ItemIndex:
    catalog = catalog_of(len(categories), categories=categories)
    return SemanticIndex.parse(changes, "index").build(catalog, histories_of(catalog, [[0]]))


def grow(index: ItemIndex, categories: list[str]) -> ItemIndex:
    return index.add(catalog_of(len(categories), categories=categories))


def test_a_tree_with_items_in_inner_categories_and_none() -> None:
    index = build(SHOP)
    assert written(index) == CODES
    assert index.codes[2].tolist() == [2, 2, END, END]
    assert index.level_sizes == (3, 3, 2, 1)
    assert index.provenance["collisions"]["before"] == {"colliding": 1, "largest_group": 2}
    assert_codes_can_be_told_apart(index)


def test_the_order_of_items_decides_only_the_last_number() -> None:
    assert written(build(SHOP[::-1])) == [*CODES[:3:-1], (2, 0, 0), (2, 2), (2, 1, 0), (2, 0, 1)]


def test_one_name_in_two_places_is_two_categories() -> None:
    assert written(build(["A > X", "B > X", "B > X > X"])) == [(0, 0, 0), (1, 0, 1), (1, 0, 0, 0)]


def test_deep_paths_can_be_cut() -> None:
    index = build(SHOP, max_depth=1)
    assert written(index) == [(2, 0), (2, 1), (2, 2), (2, 3), (0, 0), (1, 0)]
    assert index.level_sizes == (3, 4)


def test_several_paths() -> None:
    several = ["B | A > X", " | A", "A > X > Y | A > X"]
    assert written(build(several)) == [(1, 0), (0, 1), (0, 0, 0, 0)]  # B; A itself behind X; A > X > Y
    assert written(build(several, choose="deepest")) == [(0, 0, 1), (0, 1), (0, 0, 0, 0)]


def test_separators_and_spaces() -> None:
    index = build(
        ["Toys/ Wooden  blocks", "Toys / Wooden blocks/", "Toys;Games/Chess"], separator="/", alternatives=";"
    )
    assert written(index) == [(0, 0, 0), (0, 0, 1), (0, 1)]


def test_nobody_has_a_category() -> None:
    assert written(build(["", " > ", " | "])) == [(0, 0), (0, 1), (0, 2)]


def test_one_item_alone() -> None:
    assert written(build(["A > B"])) == [(0, 0, 0)]


def test_a_column_that_is_not_there() -> None:
    with pytest.raises(DataError, match=r"no column 'category'.*Did you mean 'categories'"):
        build(SHOP, category="category")


def test_later_items_get_the_next_number_of_their_category(tmp_path: Path) -> None:
    build(SHOP).save(tmp_path)
    index = ItemIndex.load(tmp_path)
    grown = grow(index, [*SHOP, "Office > Pens", "Art > Oil"])
    assert written(grown) == [*CODES, (2, 1, 1), (1, 0, 1)]
    assert grown.level_sizes == index.level_sizes
    assert grow(grown, [*SHOP, "Office > Pens", "Art > Oil", "Art"]).codes[-1].tolist() == [1, 1, END, END]


def test_a_new_category_stands_in_the_nearest_one_that_is_known() -> None:
    later = ["Art > Oil > Canvas > Large", "Art > Chalk", "Toys"]
    assert written(grow(build(SHOP), [*SHOP, *later]))[6:] == [(1, 0, 1), (1, 1), (0, 1)]


def test_a_full_category_hands_its_items_up() -> None:
    """Paper has both of its numbers in use; Office has room once another category sets its level's size."""
    wide = [*SHOP, "Art", "Art", "Art"]  # three items and Oil: four numbers under a first category
    assert written(grow(build(wide), [*wide, "Office > Paper"]))[-1] == (2, 3)


def test_no_place_is_left() -> None:
    without_the_empty = [SHOP[0], SHOP[2]]
    with pytest.raises(RecipeError, match=r"'semantic' has no place for the new item 'i2' of category 'Toys > Games'"):
        grow(build(without_the_empty), [*without_the_empty, "Toys > Games"])
    with pytest.raises(RecipeError, match=r"no place for the new item 'i3' of category 'Office > Paper'"):
        grow(build(SHOP[:3]), [*SHOP[:3], "Office > Paper"])


NAMES = st.lists(st.sampled_from("abc"), max_size=3).map(" > ".join)


@settings(max_examples=60, deadline=None)
@given(st.lists(NAMES, min_size=1, max_size=12), st.lists(NAMES, min_size=1, max_size=4))
def test_any_tree_can_be_told_apart_and_grows_without_a_move(known: list[str], later: list[str]) -> None:
    index = build(known)
    assert_codes_can_be_told_apart(index)
    try:
        grown = grow(index, known + later)
    except RecipeError:
        return
    assert_codes_can_be_told_apart(grown)
    assert written(grown)[: len(known)] == written(index)
    one_by_one = index
    for count in range(1, len(later) + 1):
        one_by_one = grow(one_by_one, known + later[:count])
    assert one_by_one.digest == grown.digest
