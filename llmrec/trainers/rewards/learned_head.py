"""A learned judge on frozen vectors: how likely is it that a user with this history takes this item?

OneRec (Deng et al. 2025, https://arxiv.org/abs/2502.18965) aligns its model by a reward model of its own, which sees
the user beside the item and is trained on what was observed. This is the small form of it: one network makes a vector
of the history, one of the item, and their product is the logit. Both start from vectors that any encoder gives, such as
those of a language model, so that items of the same text or behaviour are judged alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from llmrec.data.interactions import Interactions
from llmrec.errors import DataError
from llmrec.recommenders.neural import seeded
from llmrec.tasks.negatives.base import Rows2D
from llmrec.tasks.next_item import NextItemTask
from llmrec.trainers.rewards.base import Asked, RewardFunction
from llmrec.trainers.rewards.similarity import VectorReward
from llmrec.types import Ragged

AT_ONCE = 4096
"""Histories that are pooled at once, so that memory does not grow with the data."""


class LearnedHead(VectorReward):
    """The probability, in (0, 1), that an item is what came next and not one drawn at random.

    Trained on every position of the train rows with binary cross-entropy.

    Args:
        encoder: what makes the frozen vectors. dimensions: of both networks' results.
        decay: a history is the mean of its items' vectors, each older one weighted by this factor more.
        negatives: random items beside each observed one. epochs, batch_size, learning_rate: of AdamW.
    """

    encoder: dict[str, Any] = {"kind": "behaviour"}
    dimensions: int = Field(64, ge=1)
    decay: float = Field(0.8, gt=0, le=1)
    negatives: int = Field(10, ge=1)
    epochs: int = Field(10, ge=1)
    batch_size: int = Field(1024, ge=1)
    learning_rate: float = Field(3e-3, gt=0)

    def fit(self, task: NextItemTask, train: Interactions, seed: int) -> RewardFunction:
        """See `Reward.fit`: the two networks.

        Raises:
            DataError: no train history has two items.
        """
        positions = np.arange(len(train)) - train.offsets[train.user_rows]
        events = np.flatnonzero(positions > 0)
        if not len(events):
            raise DataError("no train history has two items.", fix="A judge needs to see what follows a history.")
        vectors = self.vectors(task, train)
        starts = train.offsets[train.user_rows[events]]
        pooled = np.concatenate(
            [
                self._pooled(train.item_rows, starts[some], events[some], vectors)
                for some in np.array_split(np.arange(len(events)), -(-len(events) // AT_ONCE))
            ]
        )
        with seeded(seed), torch.enable_grad():
            users, items = self._network(vectors.shape[1]), self._network(vectors.shape[1])
            self._train(users, items, torch.from_numpy(pooled), train.item_rows[events], torch.from_numpy(vectors))
        users.eval(), items.eval()

        @torch.no_grad()
        def score(asked: Asked, proposed: Rows2D) -> NDArray[np.float32]:
            histories: Ragged = asked.histories
            states = self._pooled(histories.values, histories.offsets[:-1], histories.offsets[1:], vectors)
            theirs = users(torch.from_numpy(states))  # (B, d)
            each = items(torch.from_numpy(vectors[proposed]))  # (B, n, d)
            return torch.sigmoid(torch.einsum("bd,bnd->bn", theirs, each)).numpy()

        return score

    def _network(self, width: int) -> nn.Module:
        return nn.Sequential(nn.Linear(width, self.dimensions), nn.GELU(), nn.Linear(self.dimensions, self.dimensions))

    def _train(
        self, users: nn.Module, items: nn.Module, pooled: Tensor, taken: NDArray[np.int32], vectors: Tensor
    ) -> None:
        parameters = [*users.parameters(), *items.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=self.learning_rate, weight_decay=0.01)
        targets = torch.zeros(1, 1 + self.negatives)
        targets[0, 0] = 1
        for _ in range(self.epochs):
            for some in torch.randperm(len(pooled)).split(self.batch_size):
                random = torch.randint(len(vectors), (len(some), self.negatives))
                shown = torch.cat([torch.from_numpy(taken)[some].long()[:, None], random], 1)
                logits = torch.einsum("bd,bnd->bn", users(pooled[some]), items(vectors[shown]))
                loss = functional.binary_cross_entropy_with_logits(logits, targets.expand_as(logits))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    def _pooled(
        self, rows: NDArray[np.int32], starts: NDArray[np.int64], ends: NDArray[np.int64], vectors: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """`float32[B, D]`: the weighted mean of the items `rows[start:end]` of each history; zero for an empty one."""
        total = np.zeros((len(starts), vectors.shape[1]), np.float32)
        weights = np.zeros((len(starts), 1), np.float32)
        longest = int((ends - starts).max(initial=0))
        for age in range(longest):
            has_one = ends - 1 - age >= starts
            weight = np.float32(self.decay**age)
            if weight < 1e-3:  # the rest weighs nothing
                break
            total[has_one] += weight * vectors[rows[ends[has_one] - 1 - age]]
            weights[has_one] += weight
        return (total / np.maximum(weights, 1e-9)).astype(np.float32)
