"""The trie of arrays answers as a trie of dictionaries does."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.errors import DecodingError
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.trie import ROOT, Trie

Code = tuple[int, ...]
SIZE = 3


@st.composite
def indexes(draw: st.DrawFn) -> ItemIndex:
    """Any codes; few values a level, so that buckets and shared prefixes are common."""
    levels = draw(st.integers(1, 4))
    codes = draw(st.lists(st.tuples(*[st.integers(0, SIZE - 1)] * levels), min_size=1, max_size=12))
    return ItemIndex(np.array(codes, np.int32), (SIZE,) * levels)


def prefixes_of(index: ItemIndex) -> list[Code]:
    """Every prefix of every code, the empty one first."""
    levels = len(index.level_sizes)
    return sorted({tuple(code[:depth]) for code in index.codes.tolist() for depth in range(levels + 1)}, key=len)


def items_under(index: ItemIndex, prefix: Code) -> list[int]:
    return [row for row, code in enumerate(index.codes.tolist()) if tuple(code[: len(prefix)]) == prefix]


def follow(trie: Trie, prefix: Code) -> int:
    state = torch.tensor(ROOT)
    for code in prefix:
        state = trie.step(state, torch.tensor(code))
    return int(state)


def known(values: torch.Tensor, valid: torch.Tensor) -> list[int]:
    return [int(value) for value in values[valid]]


@settings(deadline=None)
@given(indexes())
def test_children_are_the_codes_that_may_follow(index: ItemIndex) -> None:
    trie = Trie.of(index)
    for prefix in prefixes_of(index):
        nodes, valid = trie.children(torch.tensor(follow(trie, prefix)))
        expected = sorted({p[-1] for p in prefixes_of(index) if len(p) == len(prefix) + 1 and p[:-1] == prefix})
        assert trie.code[nodes][valid].tolist() == expected
        assert (nodes[~valid] == ROOT).all()


@settings(deadline=None)
@given(indexes())
def test_a_code_leads_to_its_items_and_to_no_other(index: ItemIndex) -> None:
    trie = Trie.of(index)
    for code in {tuple(code) for code in index.codes.tolist()}:
        leaf = follow(trie, code)
        assert known(*trie.items(torch.tensor(leaf))) == items_under(index, code)
        assert trie.ways(torch.tensor([code]))[0, -1] == leaf


@settings(deadline=None)
@given(indexes(), st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=4))
def test_an_unknown_prefix_is_an_error(index: ItemIndex, code: list[int]) -> None:
    trie, prefix = Trie.of(index), tuple(code[: len(index.level_sizes)])
    if items_under(index, prefix):
        assert trie.code[follow(trie, prefix)] == prefix[-1]
    else:
        with pytest.raises(DecodingError, match="no item starts with this prefix"):
            follow(trie, prefix)


@settings(deadline=None)
@given(indexes(), st.data())
def test_counts_are_those_of_the_prefixes(index: ItemIndex, data: st.DataObject) -> None:
    trie = Trie.of(index)
    chosen = data.draw(st.lists(st.integers(0, len(index) - 1), unique=True))
    counts = trie.count_under(torch.isin(torch.arange(len(index)), torch.tensor(chosen, dtype=torch.int64)))
    assert len(counts) == len(prefixes_of(index))
    for prefix in prefixes_of(index):
        assert counts[follow(trie, prefix)] == len(set(chosen) & set(items_under(index, prefix)))


@settings(deadline=None)
@given(indexes())
def test_nodes_are_numbered_level_by_level_and_siblings_are_neighbours(index: ItemIndex) -> None:
    trie = Trie.of(index)
    assert trie.depth == len(index.level_sizes)
    for depth, (start, end) in enumerate(pairwise(trie.level_start)):
        of_depth = sorted(prefix for prefix in prefixes_of(index) if len(prefix) == depth)
        assert [follow(trie, prefix) for prefix in of_depth] == list(range(start, end))
    for node in range(1, len(trie.code)):
        parent = int(trie.parents(torch.tensor(node)))
        start, end = trie.child_range(torch.tensor(parent))
        assert start <= node < end
    assert trie.parents(torch.tensor(ROOT)) == -1


def test_a_tree_drawn_by_hand() -> None:
    """Items 0 to 3 have the codes (3, 0), (3, 7), (9, 7), (9, 7): six nodes, one bucket."""
    trie = Trie.of(ItemIndex(np.array([[3, 0], [3, 7], [9, 7], [9, 7]], np.int32), (10, 8)))
    assert trie.code.tolist() == [-1, 3, 9, 0, 7, 7]
    assert trie.parents(torch.arange(6)).tolist() == [-1, 0, 0, 1, 1, 2]
    assert trie.first_child.tolist() == [1, 3, 5, 6]
    assert trie.level_start == (0, 1, 3, 6)
    rows, valid = trie.items(torch.tensor([[3, 5], [4, 4]]))
    assert rows.tolist() == [[[0, -1], [2, 3]], [[1, -1], [1, -1]]]
    assert (valid == (rows >= 0)).all()


def test_states_of_any_shape_step_at_once() -> None:
    trie = Trie.of(ItemIndex(np.array([[0, 1], [0, 2], [2, 0]], np.int32), (3, 3)))
    first = trie.step(torch.zeros(2, 2, dtype=torch.int64), torch.tensor([[0, 2], [2, 0]]))
    assert first.tolist() == [[1, 2], [2, 1]]
    nodes, valid = trie.children(first)
    assert nodes.shape == (2, 2, 2)
    assert trie.code[nodes[0, 0]].tolist() == [1, 2]
    assert valid.tolist() == [[[True, True], [True, False]], [[True, False], [True, True]]]
    with pytest.raises(DecodingError):
        trie.step(first, torch.tensor([[1, 0], [0, 0]]))  # only the last is wrong


@pytest.mark.parametrize("levels", [1, 3])
def test_one_item(levels: int) -> None:
    trie = Trie.of(ItemIndex(np.full((1, levels), 2, np.int32), (3,) * levels))
    assert trie.code.tolist() == [-1] + [2] * levels
    assert known(*trie.items(torch.tensor(levels))) == [0]
    assert not trie.children(torch.tensor(levels))[1].any()


def test_one_level_with_all_items_in_one_bucket() -> None:
    trie = Trie.of(ItemIndex(np.ones((4, 1), np.int32), (2,)))
    assert known(*trie.items(torch.tensor([1]))) == [0, 1, 2, 3]
    assert trie.count_under(torch.tensor([False, True, False, True])).tolist() == [2, 2]


def test_no_item_leaves_nothing_to_choose() -> None:
    trie = Trie.of(ItemIndex(np.empty((0, 2), np.int32), (3, 3)))
    assert trie.children(torch.tensor([ROOT]))[0].shape == (1, 0)
    with pytest.raises(DecodingError):
        trie.step(torch.tensor([ROOT]), torch.tensor([0]))


@settings(deadline=None)
@given(indexes())
def test_counted_and_stored_item_ranges_are_the_same(index: ItemIndex) -> None:
    unique = ItemIndex(np.unique(index.codes, axis=0), index.level_sizes)
    trie = Trie.of(unique)
    assert trie.item_spans is None
    for prefix in prefixes_of(unique):
        start, end = trie.item_range(torch.tensor(follow(trie, prefix)))
        assert sorted(trie.item_rows[int(start) : int(end)].tolist()) == items_under(unique, prefix)


@settings(deadline=None)
@given(indexes(), st.integers(0, 3))
def test_table_and_bisection_find_the_same(index: ItemIndex, upper: int) -> None:
    whole = Trie.of(index)
    cut = replace(whole, table=whole.table[: min(upper, len(whole.table))])
    states = torch.arange(len(whole.code)).repeat_interleave(SIZE)
    codes = torch.arange(SIZE).repeat(len(whole.code))
    expected = whole._bisect(states, codes)
    inside = states < len(whole.table)
    assert (whole._lookup(states[inside], codes[inside]) == expected[inside]).all()
    known = expected >= 0
    assert (cut.step(states[known], codes[known]) == expected[known]).all()


def test_codes_too_long_to_pack_are_sorted_all_the_same() -> None:
    rng = np.random.default_rng(0)
    codes = np.unique(rng.integers(0, 40_000, (50, 6)), axis=0).astype(np.int32)
    trie = Trie.of(ItemIndex(codes[::-1].copy(), (40_000,) * 6))
    assert trie.item_rows.tolist() == list(range(len(codes)))[::-1]
    assert trie.code.dtype == torch.int32
    assert (trie.code[trie.ways(torch.from_numpy(codes).long())] == torch.from_numpy(codes)).all()


def test_memory_is_what_the_arrays_take() -> None:
    """65,536 items on 3 levels of 64: 4 bytes a row, 2 a node, 4 an inner node, and the tables of all levels."""
    codes = np.stack(np.unravel_index(np.arange(0, 64**3, 4), (64, 64, 64)), 1).astype(np.int32)
    trie = Trie.of(ItemIndex(codes, (64, 64, 64)))
    inner = 1 + 64 + 64 * 64
    assert trie.nbytes == 65_536 * 4 + (inner + 65_536) * 2 + (inner + 1) * 4 + inner * 64 * 4 + 3 * 8
