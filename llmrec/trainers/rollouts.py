"""Rollouts: groups of items that the model itself proposes after a history, from the constrained engine.

A rollout is an item of the catalog by construction. `beams` are the best items of a search, all different; `samples`
are drawn from the model's distribution among the valid codes, so that one item may come twice.

What TRL calls a prompt is here the number of a choice. It is rendered when its turn comes, by the one function that
renders every prompt, so neither texts nor token ids of all choices are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from llmrec.data.interactions import Interactions
from llmrec.engines.level_scores import level_scores
from llmrec.engines.sample import sample
from llmrec.errors import RecipeError
from llmrec.recommenders.checks import left_out
from llmrec.recommenders.llm import LLMRecommender
from llmrec.tasks.negatives.base import Rows2D
from llmrec.tasks.next_item import NextItemTask
from llmrec.trainers.rewards.base import Asked, RewardFunction
from llmrec.trainers.rewards.mixture import scored
from llmrec.types import Ragged, Rows

From = Literal["beams", "samples"]


@dataclass(frozen=True)
class Questions:
    """`P` choices of users: what they had taken, and what they took then.

    Args:
        train: train rows only. users, positions: `int32[P]`, of `Positions.choose`.
        positives: `bool[E]`, the train events that are wishes.
    """

    train: Interactions
    users: Rows
    positions: Rows
    positives: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.users)

    def asked(self, numbers: Sequence[int]) -> Asked:
        """Some of the choices."""
        starts = self.train.offsets[self.users[numbers]]
        ends, rows = starts + self.positions[numbers], self.train.item_rows
        stops = self.train.offsets[self.users[numbers] + 1]
        histories = [rows[start:end] for start, end in zip(starts, ends, strict=True)]
        observed = [rows[end:stop][self.positives[end:stop]] for end, stop in zip(ends, stops, strict=True)]
        return Asked(Ragged.from_lists(histories), Ragged.from_lists(observed))


@dataclass(frozen=True)
class Rollouts:
    """Asks the model for groups; what TRL calls a `rollout_func`, but for the trainer.

    Args:
        questions: what the numbers stand for. task: prompts and codes.
        group: items of a group. source: where they come from. temperature: of `samples`.
        exclude_seen: whether items of the history are left out.
    """

    questions: Questions
    task: NextItemTask
    group: int
    source: From
    temperature: float
    exclude_seen: bool

    def of(self, numbers: Sequence[int], recommender: LLMRecommender) -> dict[str, Any]:
        """One group for each choice.

        Args:
            numbers: of choices, each `group` times in a row. recommender: the policy, as it is now.

        Returns:
            TRL's fields, of each rollout: `prompt_ids`, `completion_ids`, and `item`, its row. No `logprobs`: the
            trainer computes them with the weights that it trains.

        Raises:
            RecipeError: fewer items than a group may be recommended after a history.
        """
        histories = self.questions.asked(numbers[:: self.group]).histories
        rows = self._items(histories, recommender)
        if (missing := (rows < 0).any(1)).any():
            short = rows[missing][0]
            raise RecipeError(
                f"align: only {int((short >= 0).sum())} items can be recommended after a history, and a group has "
                f"{self.group}. Lower args.num_generations."
            )
        prompts = [self.task.prompt(history) for history in histories]
        return {
            "prompt_ids": [prompt for prompt in prompts for _ in range(self.group)],
            "completion_ids": [self.task.items.encode(int(row)) for row in rows.ravel()],
            "logprobs": None,
            "item": rows.ravel().tolist(),
        }

    def _items(self, histories: Ragged, recommender: LLMRecommender) -> Rows2D:
        """`int32[B, group]`, the likeliest first."""
        if self.source == "beams":
            return recommender.recommend(histories, self.group, self.exclude_seen).rows
        parts = []
        for start in range(0, len(histories), recommender.decoding.batch_size):
            some = histories.slice(start, start + recommender.decoding.batch_size)
            prompts = [self.task.prompt(history) for history in some]
            seeds = torch.randint(2**62, (len(some),)).tolist()  # from the state that a checkpoint keeps
            closed = left_out(some, self.exclude_seen, None, len(self.task.catalog))
            rows = sample(recommender.engine, prompts, self.group, self.temperature, seeds=seeds, excluded=closed)
            log_p = np.nansum(level_scores(recommender.engine, prompts, rows, recommender.decoding.normalize), -1)
            parts.append(np.take_along_axis(rows, np.argsort(-log_p, axis=1, kind="stable"), 1))
        return np.concatenate(parts)


def reward_for_trl(name: str, function: RewardFunction, questions: Questions, group: int) -> Callable[..., list[float]]:
    """A reward as TRL calls it: with the numbers of the choices as `prompts` and the `item` of each rollout."""

    def reward(prompts: Sequence[int], item: Sequence[int], **_: Any) -> list[float]:
        rows = np.asarray(item, np.int32).reshape(-1, group)
        found: list[float] = scored(function, questions.asked(prompts[::group]), rows, name).ravel().tolist()
        return found

    reward.__name__ = name  # what TRL's log calls it
    return reward
