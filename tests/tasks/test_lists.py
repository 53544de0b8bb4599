"""Lists to learn from: what came next, for each user apart, from train rows alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from worlds import TinyWorld, make_tiny_world

from llmrec.data.interactions import Interactions
from llmrec.errors import DataError, RecipeError
from llmrec.tasks.lists import ListData
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
