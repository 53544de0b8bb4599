"""Which of judged candidates becomes a preference, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llmrec.tasks.judged_items import JudgedItems

TAKEN = np.array([5, 7, -1], np.int32)
PROPOSED = np.array([[1, 5, 2], [3, 4, -1], [6, 8, 9]], np.int32)
USERS, POSITIONS = np.array([0, 1, 2], np.int32), np.array([3, 2, 4], np.int32)


def test_what_was_taken_stands_first_and_once() -> None:
    found = JudgedItems().candidates(PROPOSED, TAKEN)
    assert found.tolist() == [[5, 1, -1, 2], [7, 3, 4, -1], [-1, 6, 8, 9]]


def build(rewards: Any, wishes: Any = (), **settings: Any) -> dict[int, tuple[int, list[int]]]:
    """User -> chosen and rejected."""
    judged = JudgedItems(**settings)
    candidates = judged.candidates(PROPOSED, TAKEN)
    is_wish = np.isin(candidates, list(wishes))
    found = judged.build(USERS, POSITIONS, candidates, np.array(rewards, np.float32), is_wish)
    assert (found.positions == POSITIONS[found.users]).all()
    return {
        int(user): (int(chosen), rejected[rejected >= 0].tolist())
        for user, chosen, rejected in zip(found.users, found.chosen, found.rejected, strict=True)
    }


REWARDS = [[0.5, 0.1, 9, 0.9], [0.2, 0.2, 0.1, 9], [9, 0.3, 0.3, 0.1]]
"""What stands at an empty place must not matter."""


def test_the_observed_item_is_preferred_to_those_that_are_worth_less() -> None:
    assert build(REWARDS) == {0: (5, [1]), 1: (7, [4])}  # the third user took nothing that is known


def test_the_best_is_preferred_to_the_worst_first() -> None:
    found = build(REWARDS, chosen="best")
    assert found == {0: (2, [1, 5]), 1: (7, [4]), 2: (6, [9])}
    assert build(REWARDS, chosen="best", rejected=1)[0] == (2, [1])


def test_a_wish_is_never_rejected() -> None:
    assert build(REWARDS, wishes=[1, 4], chosen="best") == {0: (2, [5]), 2: (6, [9])}


def test_equal_rewards_give_no_preference() -> None:
    assert build(np.ones((3, 4)), chosen="best") == {}


def test_options_are_what_a_trainer_reads() -> None:
    judged = JudgedItems(chosen="best")
    candidates = judged.candidates(PROPOSED, TAKEN)
    found = judged.build(USERS, POSITIONS, candidates, np.array(REWARDS, np.float32), np.zeros((3, 4), bool))
    assert found.options(0).tolist() == [[2], [1], [5]]
    assert found.options(1).tolist() == [[7], [4]]


@pytest.mark.parametrize("settings", [{"chosen": "worst"}, {"rejected": 0}, {"reject": 1}])
def test_other_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=next(iter(settings))):
        JudgedItems.parse(settings, "judged")
