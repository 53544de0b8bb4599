"""When a training has seen enough: questions to ask after every epoch, and the mean NDCG@10 of the answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmrec.data.interactions import Interactions
from llmrec.data.split import Examples
from llmrec.types import Ragged, Rows

USERS_AT_ONCE = 256

LEAST_EVENTS = 3
"""Of a user whose last train event may be held out: two are left to learn from."""


class Questions(NamedTuple):
    """What is asked.

    Args:
        histories: `B` lists of item rows. targets: `int32[B]`, the items that came next.
    """

    histories: Ragged
    targets: Rows

    @classmethod
    def of(cls, examples: Examples, most: int, seed: int) -> Questions:
        """At most so many of the validation examples; of several targets the first counts."""
        drawn = examples.sample(most, seed)
        return cls(drawn.histories, drawn.targets.values[drawn.targets.offsets[:-1]])

    @classmethod
    def held_out(cls, train: Interactions, most: int, seed: int) -> tuple[Interactions, Questions]:
        """The last train events of some users become questions: without validation data, still without a leak.

        At most a tenth of the users are asked, for what they lose is lost to the training.

        Returns:
            What is left of train, and the questions; there are none where no user has three events.
        """
        able = np.flatnonzero(np.diff(train.offsets) >= LEAST_EVENTS)
        count = min(most, (len(able) + 9) // 10)
        users = np.sort(np.random.default_rng(seed).choice(able, count, replace=False)) if count else able[:0]
        last = train.offsets[users + 1] - 1
        keep = np.ones(len(train), bool)
        keep[last] = False
        left = train.filter(keep)
        return left, cls(Ragged.from_lists(left.histories[int(user)] for user in users), train.item_rows[last])

    def ndcg(self, score: Callable[[Ragged], NDArray[np.float32]]) -> float:
        """Mean NDCG@10 over all items but those of the history; items scored as the target stand before it."""
        total = 0.0
        for start in range(0, len(self.targets), USERS_AT_ONCE):
            targets = self.targets[start : start + USERS_AT_ONCE]
            offsets = self.histories.offsets[start : start + len(targets) + 1]
            part = Ragged(self.histories.values[offsets[0] : offsets[-1]], offsets - offsets[0])
            scores, owners = score(part), np.arange(len(part))
            of_target = scores[owners, targets].copy()
            scores[np.repeat(owners, part.lengths), part.values] = -np.inf
            scores[owners, targets] = -np.inf
            ranks = 1 + (scores >= of_target[:, None]).sum(axis=1)
            total += float((1 / np.log2(ranks[ranks <= 10] + 1)).sum())
        return total / max(len(self.targets), 1)
