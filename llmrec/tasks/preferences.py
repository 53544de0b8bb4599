"""Preference data: after this history the user chose one item, and not others.

A preference is keyed by user and position in the train rows, never by its history: two users with the same history have
two preferences. Only train rows are read, so neither a chosen nor a rejected item can come from what is evaluated.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field, field_validator

from llmrec.data.interactions import Interactions
from llmrec.errors import DataError
from llmrec.indexes.base import ItemIndex
from llmrec.registry import build
from llmrec.tasks.negatives.base import NONE, Choices, Negatives, Ranker, Rows2D
from llmrec.tasks.positions import Positions
from llmrec.types import Rows

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preferences:
    """`P` choices, sorted by user and position.

    Args:
        users: `int32[P]`, user rows. positions: `int32[P]`; the history is the user's first so many train items.
        chosen: `int32[P]`, item rows. rejected: `int32[P, R]`, different item rows, `NONE` behind the last of a choice;
            each has at least one.
    """

    users: Rows
    positions: Rows
    chosen: Rows
    rejected: Rows2D

    def __len__(self) -> int:
        return len(self.users)


class PreferenceData(Positions):
    """Which choices are learned from, and what they are compared with.

    Args:
        negatives: one kind of negatives or several, each with its settings (`{kind: uniform, count: 3}`); the rejected
            items of all stand side by side. The other fields are those of `Positions`; only wishes are chosen items,
            and only wishes are false negatives.
    """

    negatives: list[dict[str, Any]] = Field([{"kind": "uniform", "count": 3}], min_length=1)

    @field_validator("negatives", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict) else value

    def samplers(self) -> list[Negatives]:
        """The kinds of negatives, built.

        Raises:
            RecipeError: one is unknown, or a setting of it.
        """
        return [build("negatives", settings, "preferences.negatives") for settings in self.negatives]

    @property
    def width(self) -> int:
        """The most rejected items that a choice can have."""
        return sum(sampler.count for sampler in self.samplers())

    def fingerprint(self) -> str:
        """Those of the negatives."""
        return "".join(sampler.fingerprint() for sampler in self.samplers())

    def build(self, train: Interactions, index: ItemIndex, seed: int, ranker: Ranker | None = None) -> Preferences:
        """Preferences from train rows; the same for the same seed.

        Args:
            train: train rows only. index: codes of the items. ranker: the model before alignment, for hard negatives.

        Raises:
            DataError: ratings are asked for that are not there, or no choice is left.
        """
        positives = self.positives(train)
        users, positions = self.choose(train, positives, seed)
        choices = Choices(train, index, users, positions, positives, ranker)
        drawn = [
            sampler.draw(choices, np.random.default_rng([seed, number]))
            for number, sampler in enumerate(self.samplers(), 1)
        ]
        rejected = _without_repeats(np.concatenate(drawn, axis=1))
        has_one = rejected[:, 0] != NONE if len(rejected) else np.empty(0, bool)
        if not has_one.any():
            raise DataError(
                f"no preference is left of {len(users):,} choices: none has a negative.",
                fix="Take another kind of preferences.negatives, or lower preferences.min_history.",
            )
        logger.info("%d preferences; %d choices had no negative", has_one.sum(), (~has_one).sum())
        return Preferences(users[has_one], positions[has_one], choices.chosen[has_one], rejected[has_one])


def _without_repeats(rows: Rows2D) -> Rows2D:
    """Each choice's different items in their order, `NONE` behind them."""
    order = np.argsort(rows, axis=1, kind="stable")
    in_order = np.take_along_axis(rows, order, axis=1)
    repeated = np.zeros(rows.shape, bool)
    np.put_along_axis(repeated, order[:, 1:], in_order[:, 1:] == in_order[:, :-1], axis=1)
    kept = np.where(repeated, NONE, rows)
    return np.take_along_axis(kept, np.argsort(kept == NONE, axis=1, kind="stable"), axis=1)
