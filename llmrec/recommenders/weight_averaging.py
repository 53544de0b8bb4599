"""The mean of a network's weights over its last steps, which answers better than the weights of any one step.

Steps with a constant learning rate end somewhere around a good place; their mean is nearer to it, as if the rate had
been lowered (Polyak and Juditsky, 1992, https://doi.org/10.1137/0330046).
"""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


class AveragedWeights(Generic[Network]):
    """A copy of a network whose weights follow those of the original.

    Args:
        network: the original, before its first step.
        decay: the share of the mean that a step keeps, at most; of the `t`-th step it keeps `t / (t + 9)`, so that the
            mean always covers about the last tenth of the training.
    """

    def __init__(self, network: Network, decay: float) -> None:
        self.network = copy.deepcopy(network).eval()
        self._decay, self._steps = decay, 0

    @torch.no_grad()
    def follow(self, network: Network) -> None:
        """Take a step of the original into the mean."""
        self._steps += 1
        share = 1 - min(self._decay, self._steps / (self._steps + 9))
        for mean, value in zip(self.network.parameters(), network.parameters(), strict=True):
            mean.lerp_(value, share)
