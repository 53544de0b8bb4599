"""Lists to learn from: what came next, for each user apart, from train rows alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from worlds import TinyWorld, make_tiny_world

from llmrec.data.interactions import Interactions
from llmrec.errors import DataError, RecipeError
from llmrec.tasks.list_preferences import JudgedLists
from llmrec.tasks.lists import ListData, NextLists
from llmrec.tasks.negatives.base import NONE

TAKEN = {"ann": [3, 1, 4, 1, 5, 9, 2], "bob": [6], "cid": [5, 3], "dan": [5, 8, 9]}
RATINGS = {"ann": [5, 1, 4, 5, 1, 4, 2], "bob": [5], "cid": [1, 5], "dan": [4, 4, 4]}


@pytest.fixture(scope="module")
def world() -> TinyWorld:
    return make_tiny_world(10)


def events(world: TinyWorld, rated: bool = False) -> Interactions:
    users = pa.array([user for user, rows in TAKEN.items() for _ in rows])
    items = world.catalog.items.ids.take(pa.array([row for rows in TAKEN.values() for row in rows]))
    ratings = np.array([rating for row in RATINGS.values() for rating in row], np.float32) if rated else None
    times = np.concatenate([np.arange(len(rows)) for rows in TAKEN.values()])
    return Interactions.from_columns(users, items, times, world.catalog.items, ratings)


def built(train: Interactions, **settings: object) -> dict[tuple[str, int], list[int]]:
    found = ListData.parse(settings).build(train, seed=0)
    names = [train.users[int(user)] for user in found.users]
    for user, position, history in zip(names, found.positions, found.histories, strict=True):
        assert history.tolist() == TAKEN[user][:position]
    for items, observed in zip(found.items, found.observed, strict=True):
        assert items[items != NONE].tolist() == observed.tolist()
    lists = [items.tolist() for items in found.observed]
    return dict(zip(zip(names, found.positions.tolist(), strict=True), lists, strict=True))


def test_the_next_items_of_each_moment(world: TinyWorld) -> None:
    """One item is no list, and none runs over into the next user."""
    assert built(events(world), length=3, per_user=None, min_history=0) == {
        ("ann", 0): [3, 1, 4], ("ann", 1): [1, 4, 1], ("ann", 2): [4, 1, 5], ("ann", 3): [1, 5, 9],
        ("ann", 4): [5, 9, 2], ("ann", 5): [9, 2],
        ("cid", 0): [5, 3],
        ("dan", 0): [5, 8, 9], ("dan", 1): [8, 9],
    }  # fmt: skip


def test_the_latest_of_a_user(world: TinyWorld) -> None:
    assert built(events(world), length=4, per_user=2) == {
        ("ann", 4): [5, 9, 2], ("ann", 5): [9, 2], ("dan", 1): [8, 9],
    }  # fmt: skip


def test_only_what_was_rated_well_is_listed(world: TinyWorld) -> None:
    """Histories hold everything."""
    assert built(events(world, rated=True), length=3, per_user=None, min_history=0, min_rating=4) == {
        ("ann", 0): [3, 4, 1], ("ann", 2): [4, 1, 9], ("ann", 3): [1, 9],
        ("dan", 0): [5, 8, 9], ("dan", 1): [8, 9],
    }  # fmt: skip


def test_a_share_of_the_users(world: TinyWorld) -> None:
    train = events(world)
    every = set(built(train, per_user=None, min_history=0))
    some = [
        {(train.users[int(u)], int(p)) for u, p in zip(found.users, found.positions, strict=True)}
        for seed in range(8)
        if (found := ListData(share=0.7, per_user=None, min_history=0).build(train, seed))
    ]
    assert all(part <= every for part in some)
    assert len({frozenset(part) for part in some}) > 1


def test_what_cannot_be_made_is_refused(world: TinyWorld) -> None:
    with pytest.raises(DataError, match="no ratings"):
        built(events(world), min_rating=4)
    with pytest.raises(DataError, match="no list is left of 13 train events"):
        built(events(world), min_history=7)
    with pytest.raises(RecipeError, match="length"):
        ListData.parse({"length": 1})


def test_the_better_list_is_preferred_to_the_worst() -> None:
    """Moment 0: the second list is best. 1: all are equal. 2: one list only. 3: the observed list is no better."""
    proposed = np.array(
        [[[1, 2], [3, 4], [5, 6]], [[1, 2], [3, 4], [5, 6]], [[1, 2], [-1, -1], [-1, -1]], [[1, 2], [3, 4], [5, 6]]],
        np.int32,
    )
    worth = np.array([[0.2, 0.9, 0.2], [0.5] * 3, [0.5, 0, 0], [0.1, 0.3, 0.7]], np.float32)
    train = events(make_tiny_world(10))
    taken = np.array([[7, 8], [7, -1], [7, 8], [7, 8]], np.int32)
    moments = NextLists(train, np.arange(4, dtype=np.int32), np.full(4, 1, np.int32), taken)

    best = JudgedLists(chosen="best", rejected=2)
    assert best.proposals(moments, proposed) is proposed
    found = best.build(moments, proposed, worth)
    assert found.users.tolist() == [0, 3]
    assert found.options(0).tolist() == [[3, 4], [1, 2], [5, 6]]  # of equal ones the model's better first
    assert found.options(1).tolist() == [[5, 6], [1, 2], [3, 4]]
    assert JudgedLists(chosen="best").build(moments, proposed, worth).options(0).tolist() == [[3, 4], [1, 2]]

    observed = JudgedLists(rejected=5)
    judged = observed.proposals(moments, proposed)
    found = observed.build(moments, judged, np.concatenate([[[0.5], [0.5], [0.6], [0.1]], worth], 1))
    assert found.users.tolist() == [0, 2]
    assert found.options(0).tolist() == [[7, 8], [1, 2], [5, 6]]
    assert found.options(1).tolist() == [[7, 8], [1, 2]]
