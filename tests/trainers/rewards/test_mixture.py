"""Rewards side by side: the weighted sum, and what of a recipe's list is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llmrec.component import Component
from llmrec.errors import DataError, LlmrecError
from llmrec.trainers.rewards.base import Asked
from llmrec.trainers.rewards.mixture import Mixture, Rewards, scored
from llmrec.types import Ragged

ASKED = Asked(Ragged.from_lists([[1], [2, 3]]), Ragged.from_lists([[5, 6, 7], []]))
ITEMS = np.array([[7, 5, 6, -1], [5, 2, 8, 9]], np.int32)


class Settings(Component):
    rewards: Rewards


def test_it_is_the_weighted_sum() -> None:
    both = [{"kind": "next_item", "weight": 3}, {"kind": "next_item", "horizon": 2, "decay": 0.5, "weight": -0.5}]
    reward = Mixture.of(both).fit(None, None, 0)
    np.testing.assert_allclose(reward(ASKED, ITEMS), [[0, 3 - 0.5, -0.25, 0], [0, 0, 0, 0]])


def test_one_reward_without_a_weight_is_itself() -> None:
    mixture = Mixture.of(Settings(rewards={"kind": "next_item"}).rewards)
    np.testing.assert_array_equal(mixture.fit(None, None, 0)(ASKED, ITEMS), [[0, 1, 0, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize(
    ("rewards", "words"),
    [
        ({"kind": "next_itm"}, r"no reward 'next_itm'\. Did you mean 'next_item'"),
        ({"weight": 1}, "say which one with 'kind:'"),
        ({"kind": "next_item", "horison": 2}, r"rewards\.horison: unknown setting\. Did you mean 'horizon'"),
        ({"kind": "next_item", "weight": "much"}, r"rewards\.weight: 'much' of kind 'next_item' is no weight"),
        ({"kind": "next_item", "weight": 0}, "other than 0, or leave the reward out"),
        ({"kind": "next_item", "weight": float("inf")}, "is no weight"),
        ([], "at least 1 item"),
    ],
)
def test_what_cannot_be_used_is_said_when_the_recipe_is_read(rewards: Any, words: str) -> None:
    with pytest.raises(LlmrecError, match=words):
        Settings.parse({"rewards": rewards})


def test_what_stands_at_no_item_is_not_looked_at() -> None:
    np.testing.assert_array_equal(
        scored(lambda asked, items: np.where(items < 0, np.nan, items), ASKED, ITEMS), [[7, 5, 6, 0], [5, 2, 8, 9]]
    )


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (np.zeros(2), r"'mine' gave an array of the shape \(2,\) for items of the shape \(2, 4\)"),
        (np.where(ITEMS == 8, np.nan, 0), r"'mine' gave nan for item row 8 \(1 such items\)"),
        (np.where(ITEMS == 5, -np.inf, 0), r"gave -inf for item row 5 \(2 such items\)"),
    ],
)
def test_a_function_that_gives_something_else_is_named(found: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        scored(lambda asked, items: found, ASKED, ITEMS, "mine")
