"""The mean of a network's last weights, worked by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from llmrec.recommenders.weight_averaging import AveragedWeights


def stepped(decay: float, values: list[float]) -> float:
    """The mean of one weight that took these values."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 100.0)
    averaged = AveragedWeights(network, decay)
    for value in values:
        nn.init.constant_(network.weight, value)
        averaged.follow(network)
    return float(averaged.network.weight.detach())


def test_the_first_steps_count_most_where_few_were_taken() -> None:
    first = 0.1 * 100 + 0.9 * 10  # of the first step a tenth stays
    assert stepped(0.999, [10.0]) == pytest.approx(first)
    assert stepped(0.999, [10.0, 20.0]) == pytest.approx(2 / 11 * first + 9 / 11 * 20)


def test_no_more_stays_than_the_decay() -> None:
    assert stepped(0.05, [10.0]) == pytest.approx(0.05 * 100 + 0.95 * 10)
    assert stepped(0.0, [10.0, 20.0]) == 20.0


def test_a_mean_of_many_steps_is_nearer_than_the_last_one() -> None:
    random = torch.Generator().manual_seed(0)
    noisy = (3 + torch.randn(2000, generator=random)).tolist()
    assert abs(stepped(0.999, noisy) - 3) < 0.1 < abs(noisy[-1] - 3)


def test_the_original_is_left_alone_and_the_copy_answers_without_dropout() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    averaged = AveragedWeights(network, 0.9)
    assert network.training
    assert not averaged.network.training
    before = [value.clone() for value in network.parameters()]
    averaged.follow(network)
    assert all(torch.equal(one, other) for one, other in zip(before, network.parameters(), strict=True))
