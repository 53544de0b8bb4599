"""The reward of the observed next items, by hand."""

import numpy as np
import pytest

from llmrec.registry import build
from llmrec.trainers.rewards.base import Asked
from llmrec.trainers.rewards.next_item import NextItem
from llmrec.types import Ragged

ASKED = Asked(Ragged.from_lists([[1], [2, 3]]), Ragged.from_lists([[5, 6, 7], []]))
ITEMS = np.array([[7, 5, 6, -1], [5, 2, 8, 9]], np.int32)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0, 1, 0, 0]),
        ({"horizon": 2}, [0, 1, 0.5, 0]),
        ({"horizon": 9, "decay": 0.1}, [0.01, 1, 0.1, 0]),
    ],
)
def test_what_was_taken_next_is_worth_most(settings, expected):
    reward = build("reward", {"kind": "next_item", **settings}).fit(None, None, 0)
    np.testing.assert_allclose(reward(ASKED, ITEMS), [expected, [0, 0, 0, 0]], rtol=1e-6)


def test_an_item_that_was_taken_twice_counts_by_its_first_time():
    asked = Asked(Ragged.from_lists([[]]), Ragged.from_lists([[5, 5]]))
    assert NextItem(horizon=2).fit(None, None, 0)(asked, np.array([[5]], np.int32)) == [[1]]
