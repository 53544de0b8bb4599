"""What a list is worth, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from circle import circle, make_task
from worlds import TinyWorld

from llmrec.errors import DataError, RecipeError
from llmrec.trainers.rewards.base import Asked
from llmrec.trainers.rewards.lists import ListReward, scored_lists
from llmrec.types import Ragged

ASKED = Asked(Ragged.from_lists([[0], [1, 2]]), Ragged.from_lists([[4, 5], [6]]))
LISTS = np.array([[[4, 5, 9], [9, 5, 4], [7, 8, 9]], [[1, 2, 6], [6, -1, -1], [-1, -1, -1]]], np.int32)
SECOND, THIRD = 1 / np.log2(3), 0.5


def worth(world: TinyWorld, **settings: object) -> np.ndarray:
    train, task = circle(world.catalog).train, make_task(world.catalog, world.items)
    return scored_lists(ListReward.parse(settings).fit(task, train, seed=0), ASKED, LISTS)


def test_ndcg_of_the_list(tiny_world: TinyWorld) -> None:
    best = 1 + SECOND
    np.testing.assert_allclose(worth(tiny_world), [[1, (SECOND + THIRD) / best, 0], [THIRD, 1, 0]], rtol=1e-6)


def test_diversity_is_the_share_of_pairs_with_different_first_codes(tiny_world: TinyWorld) -> None:
    first = tiny_world.index.codes[:, 0]

    def by_hand(rows: list[int]) -> float:
        pairs = [(a, b) for place, a in enumerate(rows) for b in rows[:place]]
        return float(np.mean([first[a] != first[b] for a, b in pairs])) if pairs else 0.0

    expected = [[by_hand([row for row in rows if row >= 0]) for rows in lists] for lists in LISTS.tolist()]
    assert 0 < np.max(expected)
    np.testing.assert_allclose(worth(tiny_world, ndcg=0, diversity=2), 2 * np.array(expected), rtol=1e-6)


def test_rewards_of_items_are_added_up(tiny_world: TinyWorld) -> None:
    found = worth(tiny_world, ndcg=0, items=3, rewards={"kind": "next_item", "horizon": 2, "decay": 0.5})
    np.testing.assert_allclose(found, [[4.5, 4.5, 0], [3, 3, 0]])
    both = worth(tiny_world, ndcg=2, items=3, rewards={"kind": "next_item", "horizon": 2, "decay": 0.5})
    np.testing.assert_allclose(both, found + 2 * worth(tiny_world), rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"items": 1}, "items weighs rewards"),
        ({"rewards": {"kind": "next_item"}}, "items weighs rewards"),
        ({"ndcg": 0}, "every weight is 0"),
        ({"items": 1, "rewards": {"kind": "next_itm"}}, "Did you mean 'next_item'"),
        ({"ndgc": 1}, "Did you mean 'ndcg'"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        ListReward.parse(settings)


def test_a_function_must_give_a_finite_number_for_each_list() -> None:
    with pytest.raises(DataError, match=r"shape \(2, 3, 3\) for lists"):
        scored_lists(lambda asked, lists: lists.astype(np.float32), ASKED, LISTS)
    with pytest.raises(DataError, match=r"nan for the list of item rows \[4, 5, 9\] \(5 such lists\)"):
        scored_lists(lambda asked, lists: np.full(lists.shape[:2], np.nan), ASKED, LISTS)
