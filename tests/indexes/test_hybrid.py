"""Clusters that are shared, and a token that is not."""

import pytest
from contracts.index_cases import assert_codes_can_be_told_apart, catalog_of, histories_of, written

from llmrec.errors import RecipeError
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.collaborative import CollaborativeIndex
from llmrec.indexes.hybrid import HybridIndex

BLOCKS = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
RAGGED = BLOCKS * 6 + [[*BLOCKS[0], *BLOCKS[1]], [7, 8]]  # clusters of two levels for 0-7, of one for 8-11


def build(count: int, histories: list[list[int]], **clusters: int) -> ItemIndex:
    catalog = catalog_of(count)
    return HybridIndex(collaborative=CollaborativeIndex(**clusters)).build(catalog, histories_of(catalog, histories))


def test_clusters_of_one_depth_have_a_level_with_a_token_for_every_item() -> None:
    index = build(8, [[0, 2, 4, 6], [1, 3, 5, 7]] * 3 + [[6, 1]], clusters=2, leaf_size=4)
    assert written(index) == [(row % 2, row) for row in range(8)]
    assert index.level_sizes == (2, 8)


def test_a_token_behind_clusters_of_another_depth_is_no_cluster_and_nobody_elses() -> None:
    index = build(12, RAGGED, clusters=2, leaf_size=4)
    own = [(0, 0, n) for n in range(4)] + [(0, 1, n) for n in range(4, 8)] + [(1, n) for n in range(2, 6)]
    assert written(index) == own
    assert index.level_sizes == (2, 6, 8)  # 2 and 2 clusters, 4 and 8 items
    tokens = {(len(code), code[-1]) for code in own}
    assert len(tokens) == 12
    assert not tokens & {(level + 1, code[level]) for code in own for level in range(len(code) - 1)}
    assert_codes_can_be_told_apart(index)


def test_the_clusters_are_those_of_the_collaborative_index() -> None:
    catalog = catalog_of(12)
    plain = CollaborativeIndex(clusters=2, leaf_size=4).build(catalog, histories_of(catalog, RAGGED))
    hybrid = build(12, RAGGED, clusters=2, leaf_size=4)
    assert [code[:-1] for code in written(hybrid)] == [code[:-1] for code in written(plain)]
    assert hybrid.provenance["collisions"]["before"] == plain.provenance["collisions"]["before"]


def test_one_item_and_items_that_nobody_took() -> None:
    assert written(build(1, [[0]])) == [(0,)]
    assert written(build(5, [[3]], clusters=2, leaf_size=3)) == [(0, 0), (0, 1), (0, 2), (1, 3), (1, 4)]


def test_later_items_are_refused_with_a_way_out() -> None:
    with pytest.raises(RecipeError, match=r"cannot place 2 new items.*a token of its own.*such as rqkmeans"):
        build(3, [[0, 1]]).add(catalog_of(5))


def test_a_misspelt_setting_of_the_clusters_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"index.collaborative.leaf_sise.*Did you mean 'leaf_size'\?"):
        HybridIndex.parse({"collaborative": {"leaf_sise": 3}}, "index")
