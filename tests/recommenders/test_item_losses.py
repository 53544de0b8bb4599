"""Losses against values worked by hand, and the identities that hold between them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from llmrec.recommenders.item_losses import ItemLoss, item_loss


def world(positions: int = 6, items: int = 9, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    states, vectors = (torch.randn(rows, 4, generator=random) for rows in (positions, items))
    return states, vectors, torch.randint(items, (positions,), generator=random)


def test_softmax_by_hand() -> None:
    # logits 2, 0, 1 with the second as the target: log(e^2 + 1 + e) - 0
    items = torch.tensor([[2.0], [0.0], [1.0]])
    found = item_loss("softmax", torch.ones(1, 1), items, torch.tensor([1]), negatives=1, calibration=0)
    assert found.item() == pytest.approx(math.log(math.e**2 + 1 + math.e), rel=1e-6)


def test_sampled_softmax_over_all_items_is_the_softmax() -> None:
    states, items, targets = world()
    whole = item_loss("softmax", states, items, targets, negatives=1, calibration=0)
    for negatives in (9, 100):
        sampled = item_loss("sampled_softmax", states, items, targets, negatives, calibration=0)
        assert sampled.item() == pytest.approx(whole.item(), rel=1e-6)


def test_negatives_stand_for_the_items_that_were_not_drawn() -> None:
    """The mean of `sum exp` over draws is that of all items, so many negatives estimate the softmax."""
    states, items, targets = world(positions=1)
    torch.manual_seed(0)
    positive = (states * items[targets]).sum().item()
    sums = [
        math.exp(item_loss("sampled_softmax", states, items, targets, 3, calibration=0).item() + positive)
        for _ in range(4000)
    ]
    expected = torch.exp(states @ items.T).sum().item()
    assert sum(sums) / len(sums) == pytest.approx(expected, rel=0.03)


def test_the_original_loss_of_one_pair() -> None:
    # of two items the negative can only be the other one: -log sigmoid(3) - log sigmoid(2)
    items = torch.tensor([[3.0], [-2.0]])
    found = item_loss("bce", torch.ones(1, 1), items, torch.tensor([0]), negatives=1, calibration=0)
    assert found.item() == pytest.approx(math.log(1 + math.exp(-3)) + math.log(1 + math.exp(-2)), rel=1e-6)


def test_gbce_by_hand() -> None:
    # both items are drawn, one is the target and drops out: K = 2, the rate 2 / 1 counts as 1, so beta is 1
    items = torch.tensor([[3.0], [-2.0]])
    found = item_loss("gbce", torch.ones(1, 1), items, torch.tensor([0]), negatives=2, calibration=0.75)
    assert found.item() == pytest.approx((math.log(1 + math.exp(-3)) + math.log(1 + math.exp(-2))) / 3, rel=1e-6)


def test_gbce_trusts_its_positives_less_the_rarer_the_negatives() -> None:
    # one of eleven others is drawn: beta = 1 - t (1 - 1 / 11) with t = 1 is 1 / 11
    states, items, targets = torch.ones(1, 1), torch.zeros(12, 1), torch.tensor([5])
    torch.manual_seed(1)  # the item drawn is not the target
    found = item_loss("gbce", states, items, targets, negatives=1, calibration=1.0)
    assert found.item() == pytest.approx((1 / 11 + 1) * math.log(2) / 2, rel=1e-6)


@pytest.mark.parametrize("kind", ["softmax", "sampled_softmax", "gbce", "bce"])
def test_a_step_against_the_gradient_raises_the_target(kind: ItemLoss) -> None:
    states, items, targets = world()
    states.requires_grad_()
    torch.manual_seed(0)
    item_loss(kind, states, items, targets, negatives=4, calibration=0.75).backward()
    assert states.grad is not None
    assert torch.isfinite(states.grad).all()
    before = (states * items[targets]).sum(dim=1)
    after = ((states - 0.1 * states.grad) * items[targets]).sum(dim=1)
    assert (after - before).mean() > 0


def test_a_catalog_of_one_item_is_no_error() -> None:
    one = torch.ones(1, 1)
    for kind in ("softmax", "sampled_softmax", "gbce", "bce"):
        assert torch.isfinite(item_loss(kind, one, one, torch.tensor([0]), negatives=3, calibration=0.5))
