"""Several rewards as one: their weighted sum.

    rewards:
      - {kind: next_item, horizon: 3}
      - {kind: recommender, weight: 0.5, model: {kind: sasrec}}

Each reward has its own scale, and the weight is the only thing that this file does to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BeforeValidator, Field

from llmrec.data.interactions import Interactions
from llmrec.errors import DataError, RecipeError
from llmrec.registry import build
from llmrec.tasks.negatives.base import Rows2D
from llmrec.tasks.next_item import NextItemTask
from llmrec.trainers.rewards.base import Asked, Reward, RewardFunction


@dataclass(frozen=True)
class Mixture:
    """A `Reward` made of others.

    Args:
        names: the kind of each. weights: of each, any number but 0. parts: the rewards.
    """

    names: tuple[str, ...]
    weights: tuple[float, ...]
    parts: tuple[Reward, ...]

    @classmethod
    def of(cls, rewards: list[dict[str, Any]], where: str = "rewards") -> Self:
        """What a recipe lists.

        Args:
            rewards: settings with a `kind`, and a `weight` that is 1 where it is not said. where: the recipe's key.

        Raises:
            RecipeError: a kind, one of its settings or a weight cannot be used.
        """
        parts = [
            build("reward", {name: value for name, value in each.items() if name != "weight"}, where)
            for each in rewards
        ]
        weights = [_weight(each, where) for each in rewards]
        return cls(tuple(str(each["kind"]) for each in rewards), tuple(weights), tuple(parts))

    def fit(self, task: NextItemTask, train: Interactions, seed: int) -> RewardFunction:
        """See `Reward.fit`: each part learns by itself."""
        functions = [part.fit(task, train, seed) for part in self.parts]

        def score(asked: Asked, items: Rows2D) -> NDArray[np.float32]:
            total = np.zeros(items.shape, np.float32)
            for name, weight, function in zip(self.names, self.weights, functions, strict=True):
                total += np.float32(weight) * scored(function, asked, items, name)
            return total

        return score

    def fingerprint(self) -> str:
        """Those of the parts."""
        return "".join(part.fingerprint() for part in self.parts)


def scored(function: RewardFunction, asked: Asked, items: Rows2D, name: str = "the function") -> NDArray[np.float32]:
    """What a reward gives, checked; 0 where there is no item.

    Args:
        name: of the reward, for messages.

    Raises:
        DataError: there is not one finite number for each item.
    """
    found = np.asarray(function(asked, items), np.float32)
    if found.shape != items.shape:
        raise DataError(
            f"the reward '{name}' gave an array of the shape {found.shape} for items of the shape {items.shape}.",
            fix="Give one number for each item, as llmrec.trainers.rewards.base.RewardFunction says.",
        )
    found = np.where(items >= 0, found, np.float32(0))
    if (wrong := np.argwhere(~np.isfinite(found))).size:
        group, place = wrong[0]
        raise DataError(
            f"the reward '{name}' gave {found[group, place]} for item row {items[group, place]} ({len(wrong)} such "
            "items).",
            fix="Give finite numbers; for an item that must not come, one that is low enough.",
        )
    return found


def _weight(settings: dict[str, Any], where: str) -> float:
    weight = settings.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not np.isfinite(weight) or weight == 0:
        raise RecipeError(
            f"{where}.weight: {weight!r} of kind '{settings.get('kind')}' is no weight. Give a number other than 0, or "
            "leave the reward out."
        )
    return float(weight)


def _one_or_several(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


def _buildable(rewards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    Mixture.of(rewards)
    return rewards


Rewards = Annotated[
    list[dict[str, Any]], Field(min_length=1), BeforeValidator(_one_or_several), AfterValidator(_buildable)
]
"""The type of a trainer's field `rewards`: one reward or several, refused at once where one cannot be built."""
