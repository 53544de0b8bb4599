"""The contract of rewards: of items that a model proposed after a history, how good each one is.

A reward is a `Component`, so a recipe can name it; `fit` gives the function that scores. Wherever rewards are taken, a
function of this form can be given instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from llmrec.data.interactions import Interactions
from llmrec.tasks.negatives.base import Rows2D
from llmrec.tasks.next_item import NextItemTask
from llmrec.types import Ragged, Rows


@dataclass(frozen=True)
class Asked:
    """What the model was asked, and what a reward may know: train rows only.

    Args:
        histories: `B` lists of item rows, oldest first. observed: `B` lists, what the user took next, the first first.
    """

    histories: Ragged
    observed: Ragged

    def __len__(self) -> int:
        return len(self.histories)

    def next_items(self) -> Rows:
        """`int32[B]`: the item that was taken next, -1 where none was."""
        some = self.observed.lengths > 0
        found = np.full(len(self), -1, np.int32)
        found[some] = self.observed.values[self.observed.offsets[:-1][some]]
        return found


RewardFunction = Callable[[Asked, Rows2D], NDArray[np.float32]]
"""From what was asked and the proposed items, `int32[B, n]`, best first and -1 for none, to `float32[B, n]`.

The more, the better. The proposals of one history are a group: a reward may depend on the others and on their order.
What stands at -1 is not looked at.
"""


class Reward(Protocol):
    """What every technique offers (a `Component` whose fields are its settings)."""

    def fit(self, task: NextItemTask, train: Interactions, seed: int) -> RewardFunction:
        """The function, after whatever has to be learned first, from train rows only.

        Args:
            task: catalog and codes of the items. train: train rows. seed: of what is random in it.
        """
        ...

    def fingerprint(self) -> str:
        """Changes when a file that `fit` reads changes; see `Component.fingerprint`."""
        ...
