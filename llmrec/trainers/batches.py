"""Which samples share a batch, in an order that a resumed run finds again.

`TokenBatches` holds about the same number of tokens, whatever the lengths of the histories.

A fixed number of users a batch gives a step on short histories the weight of a step on histories ten times as long, and
pads the short ones where they meet. Here samples of similar length share a batch, and a batch is full when its padded
size reaches the budget.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler
from trl.trainer.utils import RepeatSampler

from llmrec.errors import RecipeError


class TokenBatches(Sampler[list[int]]):
    """Sample numbers, batch by batch; the order depends on seed and epoch only.

    Args:
        lengths: tokens of each sample. budget: most tokens of a batch, padding included. seed: of the order.

    Raises:
        RecipeError: a sample alone is longer than the budget.
    """

    def __init__(self, lengths: Sequence[int], budget: int, seed: int) -> None:
        self.lengths, self.seed, self.epoch = np.asarray(lengths), seed, 0
        if len(self.lengths) and self.lengths.max() > budget:
            raise RecipeError(
                f"train.batch_tokens is {budget}, but a sample has {self.lengths.max()} tokens. Raise it, or lower "
                "task.max_history."
            )
        in_order, self.cuts, start = np.sort(self.lengths), [0], 0
        for end, length in enumerate(in_order.tolist(), 1):  # ascending, so the last is the widest
            if length * (end - start) > budget:
                start = end - 1
                self.cuts.append(start)
        self.cuts.append(len(in_order))

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass."""
        self.epoch = epoch

    @property
    def sampler(self) -> TokenBatches:
        """Itself: where Accelerate deals batches out to several processes, it tells a sampler of the epoch."""
        return self

    def __len__(self) -> int:
        return len(self.cuts) - 1 if len(self.lengths) else 0

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        shuffled = rng.permutation(len(self.lengths))
        order = shuffled[np.argsort(self.lengths[shuffled], kind="stable")]  # by length; equal lengths in random order
        for batch in rng.permutation(len(self)):
            yield order[self.cuts[batch] : self.cuts[batch + 1]].tolist()


class GroupSampler(RepeatSampler):
    """TRL's sampler; the order depends on seed and epoch only, so a resumed run sees that of an undisturbed one."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass."""
        if self.shuffle:
            self.generator.manual_seed(self.seed + epoch)
