"""Rewards that know the group or the likeness of items, by hand."""

from __future__ import annotations

from math import log2

import numpy as np
import pyarrow as pa
import pytest
from circle import make_task
from worlds import TinyWorld, make_tiny_world

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.errors import RecipeError
from llmrec.registry import build
from llmrec.tasks.next_item import NextItemTask
from llmrec.trainers.rewards.base import Asked
from llmrec.trainers.rewards.diversity import novelty
from llmrec.trainers.rewards.mixture import scored
from llmrec.trainers.rewards.rank_penalty import RankPenalty
from llmrec.types import Ragged

TITLES = ["red tea", "red tea", "blue cup", "", "red cup"]


@pytest.fixture(scope="module")
def shop() -> tuple[NextItemTask, Interactions]:
    """Five items; those that stand side by side in a history have one neighbourhood."""
    world: TinyWorld = make_tiny_world(len(TITLES))
    catalog = Catalog(pa.table({"item_id": [f"i{row}" for row in range(5)], "title": TITLES}))
    users, taken = list("aaabbb"), ["i0", "i1", "i2", "i0", "i2", "i1"]
    train = Interactions.from_columns(pa.array(users), pa.array(taken), np.tile(np.arange(3), 2), catalog.items)
    return make_task(catalog, world.items), train


def asked(*observed: list[int]) -> Asked:
    return Asked(Ragged.from_lists([[0]] * len(observed)), Ragged.from_lists(observed))


def test_the_next_item_is_the_first_observed() -> None:
    assert asked([5, 6], [], [7]).next_items().tolist() == [5, -1, 7]


def test_a_miss_costs_more_the_higher_it_stands_beside_a_hit() -> None:
    items = np.array([[3, 5, 4], [1, 2, 3], [5, -1, -1], [2, 3, -1]], np.int32)
    found = scored(RankPenalty().fit(None, None, 0), asked([5, 3], [9], [5], []), items)
    total = 1 / log2(2) + 1 / log2(3) + 1 / log2(4)
    expected = [[-1 / total, 0, -0.5 / total], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_what_reads_alike_is_worth_more(shop: tuple[NextItemTask, Interactions]) -> None:
    reward = build("reward", {"kind": "semantic", "encoder": {"kind": "tfidf", "fields": ["title"]}}).fit(*shop, 0)
    found = reward(asked([0], [3], []), np.array([[0, 1, 2, 3, 4]] * 3, np.int32))
    np.testing.assert_allclose(found[0, [0, 1, 2, 3]], [1, 1, 0, 0], atol=1e-5)
    assert 0.1 < found[0, 4] < 0.9  # one word of two
    np.testing.assert_array_equal(found[1:], np.zeros((2, 5)))  # nothing is known of item 3, nothing was observed


def test_what_is_taken_together_is_worth_more(shop: tuple[NextItemTask, Interactions]) -> None:
    reward = build("reward", {"kind": "collaborative", "encoder": {"kind": "behaviour", "window": 1}}).fit(*shop, 0)
    found = reward(asked([1]), np.array([[1, 3, 4]], np.int32))
    np.testing.assert_allclose(found, [[1, 0, 0]], atol=1e-5)


def test_an_item_is_worth_what_the_others_are_not() -> None:
    half = np.sqrt(0.5)
    vectors = np.array([[1, 0], [1, 0], [0, 1], [half, half], [0, 0]], np.float32)
    items = np.array([[0, 2, 3], [0, 0, 2], [0, 4, 2], [1, -1, -1], [4, 4, 0]], np.int32)
    expected = [
        [1 - half / 2, 1 - half / 2, 1 - half],
        [0.5, 0.5, 1],
        [1, 1, 1],  # item 4, of which nothing is known: the mean of the others
        [1, 1, 1],
        [1, 1, 1],
    ]
    np.testing.assert_allclose(novelty(vectors[items], items), expected, atol=1e-6)


def test_what_is_unknown_gains_nothing_by_being_unlike_all() -> None:
    vectors = np.array([[1, 0], [1, 0], [0, 1], [0, 0]], np.float32)
    items = np.array([[0, 1, 2, 3]], np.int32)
    found = novelty(vectors[items], items)
    np.testing.assert_allclose(found, [[0.5, 0.5, 1, 2 / 3]], atol=1e-6)
    assert found[0, 3] == pytest.approx(found.mean())


def test_diversity_by_titles(shop: tuple[NextItemTask, Interactions]) -> None:
    reward = build("reward", {"kind": "diversity", "encoder": {"kind": "tfidf", "fields": ["title"]}}).fit(*shop, 0)
    found = reward(asked([0]), np.array([[0, 1, 2]], np.int32))
    np.testing.assert_allclose(found, [[0.5, 0.5, 1]], atol=1e-5)


@pytest.mark.parametrize("kind", ["semantic", "collaborative", "diversity"])
def test_a_misspelt_encoder_is_refused_at_once(kind: str) -> None:
    with pytest.raises(RecipeError, match="no encoder 'tfidff'"):
        build("reward", {"kind": kind, "encoder": {"kind": "tfidff"}})
