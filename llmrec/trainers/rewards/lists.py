"""How good a whole list is, for alignment: what of it the user took, how varied it is, and what its items are worth.

A list is judged as one thing. An item that is good by itself adds little beside others of its kind, and a list that
holds what the user took is better the earlier it comes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from llmrec.component import Component
from llmrec.data.interactions import Interactions
from llmrec.errors import DataError
from llmrec.evaluation.beyond_accuracy import group_diversity
from llmrec.evaluation.metrics import ndcg
from llmrec.tasks.next_item import NextItemTask
from llmrec.trainers.rewards.base import Asked
from llmrec.trainers.rewards.mixture import Mixture, Rewards

Lists = NDArray[np.int32]
"""`int32[B, n, m]`: `n` lists of `m` items for each history, best first; -1 behind the end of a list, and for none."""

ListRewardFunction = Callable[[Asked, Lists], NDArray[np.float32]]
"""From what was asked and the proposed lists to `float32[B, n]`; more is better. Empty lists are not looked at."""


class ListReward(Component):
    """A weighted sum of what makes a list good.

    Args:
        ndcg: weight of the list's NDCG against what the user took next, 0 to 1.
        diversity: weight of the share of its pairs of items that differ in the first level of their codes, 0 to 1.
        items: weight of the sum of `rewards` over its items. rewards: of single items, as other stages have them; the
            items of a list are the group.
    """

    ndcg: float = 1.0
    diversity: float = 0.0
    items: float = 0.0
    rewards: Rewards | None = Field(None)

    @model_validator(mode="after")
    def _something_is_rewarded(self) -> Self:
        if (self.rewards is None) != (self.items == 0):
            raise ValueError(
                "items weighs rewards: give both, such as items: 1 and rewards: {kind: next_item}, or none"
            )
        if not (self.ndcg or self.diversity or self.items):
            raise ValueError("every weight is 0, so every list is as good; give ndcg, diversity or items a weight")
        return self

    def fit(self, task: NextItemTask, train: Interactions, seed: int) -> ListRewardFunction:
        """The function, after whatever its parts have to learn first, from train rows only."""
        mixture = None if self.rewards is None else Mixture.of(self.rewards).fit(task, train, seed)
        first_codes = task.items.index.codes[:, 0]

        def score(asked: Asked, lists: Lists) -> NDArray[np.float32]:
            users, rows = np.repeat(np.arange(len(asked)), lists.shape[1]), lists.reshape(-1, lists.shape[2])
            observed = asked.observed.take(users)
            total = self.ndcg * ndcg(rows, observed, lists.shape[2])
            if self.diversity:
                total += self.diversity * np.nan_to_num(group_diversity(rows, first_codes))  # NaN: one item, no pair
            if mixture is not None:
                total += self.items * mixture(Asked(asked.histories.take(users), observed), rows).sum(1)
            return np.asarray(total, np.float32).reshape(lists.shape[:2])

        return score

    def fingerprint(self) -> str:
        """Those of the rewards of items."""
        return "" if self.rewards is None else Mixture.of(self.rewards).fingerprint()


def scored_lists(function: ListRewardFunction, asked: Asked, lists: Lists) -> NDArray[np.float32]:
    """What a reward gives, checked; 0 where there is no list.

    Raises:
        DataError: there is not one finite number for each list.
    """
    found = np.asarray(function(asked, lists), np.float32)
    if found.shape != lists.shape[:2]:
        raise DataError(
            f"the reward gave an array of the shape {found.shape} for lists of the shape {lists.shape}.",
            fix="Give one number for each list, as llmrec.trainers.rewards.lists.ListRewardFunction says.",
        )
    found = np.where(lists[..., 0] >= 0, found, np.float32(0))
    if (wrong := np.argwhere(~np.isfinite(found))).size:
        user, place = wrong[0]
        raise DataError(
            f"the reward gave {found[user, place]} for the list of item rows {lists[user, place].tolist()} "
            f"({len(wrong)} such lists).",
            fix="Give finite numbers.",
        )
    return found
