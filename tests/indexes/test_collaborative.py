"""Clusters of what is taken together, worked out by hand on graphs of a few blocks."""

import numpy as np
import pytest
from contracts.index_cases import assert_codes_can_be_told_apart, catalog_of, histories_of, written
from contracts.index_contract import clustered_world
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from llmrec.errors import RecipeError
from llmrec.indexes import collaborative
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.collaborative import CollaborativeIndex, leaves_of, spectral_labels

EVEN, ODD = [0, 2, 4, 6], [1, 3, 5, 7]


def build(count: int, histories: list[list[int]], **changes: object) -> ItemIndex:
    catalog = catalog_of(count)
    return CollaborativeIndex.parse(changes, "index").build(catalog, histories_of(catalog, histories))


def test_two_blocks_with_a_bridge_part_at_the_bridge() -> None:
    index = build(8, [EVEN, ODD] * 3 + [[6, 1]], clusters=2, leaf_size=4)
    assert written(index) == [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2), (0, 3), (1, 3)]
    assert index.level_sizes == (2, 4)
    assert index.provenance["collisions"]["before"] == {"colliding": 6, "largest_group": 4}


def test_two_blocks_without_a_bridge() -> None:
    codes = np.array([code[0] for code in written(build(8, [EVEN, ODD], clusters=2, leaf_size=3))])
    assert codes.tolist() == [0, 1] * 4


def test_a_part_that_is_small_enough_ends_earlier() -> None:
    """Blocks 0-3 and 4-7 are taken together at times, block 8-11 hangs on a single pair: it parts first."""
    blocks = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    index = build(12, blocks * 6 + [[*blocks[0], *blocks[1]], [7, 8]], clusters=2, leaf_size=4)
    numbers = range(4)
    assert written(index) == [(0, 0, n) for n in numbers] + [(0, 1, n) for n in numbers] + [(1, n) for n in numbers]
    assert index.level_sizes == (2, 4, 4)
    assert_codes_can_be_told_apart(index)


def test_only_pairs_within_the_window_count() -> None:
    """With a window of one, a history is a chain, and its two halves are the best cut."""
    index = build(8, [[0, 4, 1, 5, 2, 6, 3, 7]], clusters=2, leaf_size=4, window=1)
    assert [code[0] for code in written(index)] == [0, 0, 1, 1, 0, 0, 1, 1]


def test_items_that_nobody_took_get_a_branch_behind_the_clusters() -> None:
    index = build(11, [EVEN, ODD] * 3 + [[6, 1]], clusters=2, leaf_size=4)
    assert written(index)[8:] == [(2, 0), (2, 1), (2, 2)]
    assert index.level_sizes == (3, 4)


def test_a_small_group_apart_joins_them() -> None:
    index = build(12, [EVEN, ODD] * 3 + [[6, 1], [9, 11]], clusters=2, leaf_size=4)
    assert written(index)[8:] == [(2, 0), (2, 1), (2, 2), (2, 3)]


def test_without_a_pair_items_are_cut_in_row_order() -> None:
    """7 items: 4 and 3, and the four again 2 and 2."""
    codes = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0), (1, 1), (1, 2)]
    assert written(build(7, [[3]], clusters=2, leaf_size=3)) == codes


def test_small_groups_are_cut_group_after_group() -> None:
    """Pairs 0 5, 1 4 and 2 3 in two pieces of three: the second pair is cut."""
    first = [code[0] for code in written(build(6, [[0, 5], [1, 4], [2, 3]], clusters=2, leaf_size=3))]
    assert first == [0, 0, 1, 1, 1, 0]


def test_a_cluster_that_does_not_split_is_cut_in_row_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collaborative, "spectral_labels", lambda graph, clusters, rng: np.zeros(graph.shape[0], int))
    codes = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0), (1, 1), (1, 2)]
    assert written(build(7, [list(range(7))], clusters=2, leaf_size=3)) == codes


@pytest.mark.parametrize("histories", [[list(range(60))], [[0, row] for row in range(1, 60)]], ids=["clique", "star"])
def test_a_graph_without_clusters_comes_to_an_end(histories: list[list[int]]) -> None:
    index = build(60, histories, clusters=3, leaf_size=4, window=60)
    assert_codes_can_be_told_apart(index)
    assert max(index.level_sizes) <= 4


def test_one_item_and_few_items() -> None:
    assert written(build(1, [[0]])) == [(0,)]
    assert written(build(3, [[2, 1]])) == [(0,), (1,), (2,)]


def test_the_first_level_finds_the_topics() -> None:
    world = clustered_world()
    index = CollaborativeIndex(clusters=5, leaf_size=12).build(world.catalog, world.train)
    assert index.codes[:, 0].tolist() == world.topics.tolist()
    assert index.level_sizes == (5, 12)


def test_labels_are_numbered_as_they_appear() -> None:
    block = np.ones((3, 3)) - np.eye(3)
    graph = sparse.csr_matrix(np.block([[block, np.full((3, 3), 0.01)], [np.full((3, 3), 0.01), block]]))
    for seed in range(4):
        assert spectral_labels(graph, 2, np.random.default_rng(seed)).tolist() == [0, 0, 0, 1, 1, 1]


def test_a_pair_that_everybody_takes_does_not_part_from_its_block() -> None:
    """Degrees are divided out: the bridge between 3 and 4 is the cheapest cut, however heavy 0 and 1 are."""
    block = np.ones((4, 4)) - np.eye(4)
    weights = np.block([[block, np.zeros((4, 4))], [np.zeros((4, 4)), block]])
    weights[0, 1] = weights[1, 0] = 100
    weights[3, 4] = weights[4, 3] = 0.05
    for seed in range(4):
        labels = spectral_labels(sparse.csr_matrix(weights), 2, np.random.default_rng(seed))
        assert labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(0, 60), st.integers(2, 5), st.integers(1, 6), st.integers(0, 3))
def test_any_graph_becomes_a_tree(items: int, edges: int, clusters: int, leaf_size: int, seed: int) -> None:
    rng = np.random.default_rng([items, edges, seed])
    ends = rng.integers(items, size=(2, edges))
    ends = ends[:, ends[0] != ends[1]]
    half = sparse.csr_matrix((np.ones(ends.shape[1]), (ends[0], ends[1])), shape=(items, items))
    leaves = leaves_of((half + half.T).tocsr(), clusters, leaf_size, seed)
    assert sorted(np.concatenate([leaf.rows for leaf in leaves]).tolist()) == list(range(items))
    assert max(len(leaf.rows) for leaf in leaves) <= leaf_size
    assert max((code for leaf in leaves for code in leaf.path), default=0) <= clusters
    paths = {leaf.path for leaf in leaves}
    assert len(paths) == len(leaves)
    assert not any(path[:length] in paths for path in paths for length in range(len(path)))


def test_later_items_are_refused_with_a_way_out() -> None:
    with pytest.raises(RecipeError, match=r"cannot place 2 new items: it knows items by who took them.*rqkmeans"):
        build(3, [[0, 1]]).add(catalog_of(5))


@pytest.mark.parametrize("changes", [{"clusters": 1}, {"leaf_size": 0}, {"window": 0}, {"cluster": 3}])
def test_settings_that_cannot_be_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(RecipeError, match=f"index.{next(iter(changes))}"):
        CollaborativeIndex.parse(changes, "index")
