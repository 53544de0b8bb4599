"""The sampled sum is right on average, and with all items named it is the full one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llmrec.recommenders.item_projection import ItemProjection
from llmrec.trainers.losses.item_softmax import chances_of, item_softmax_loss, sampled_item_softmax_loss


def made() -> tuple[ItemProjection, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    head = ItemProjection(torch.nn.functional.normalize(torch.randn(30, 5)), 7, 4)
    head.table.data *= 40
    return head, torch.randn(6, 4), torch.tensor([0, 3, 3, 29, 11, 7])


def test_the_full_loss_is_the_score() -> None:
    head, queries, targets = made()
    scores = (queries @ head.vectors().T).log_softmax(1)
    assert item_softmax_loss(head, queries, targets).item() == pytest.approx(-scores[range(6), targets].sum().item())


def test_the_estimate_of_the_sum_is_right_on_average() -> None:
    head, queries, targets = made()
    chances = chances_of(np.arange(30) % 7)
    assert chances.sum().item() == pytest.approx(1)
    assert chances[0] == chances[1] < chances[2]  # never taken counts as once
    products = queries @ head.vectors().T
    right = products.exp().sum(1).double()
    positive = products[range(6), targets]
    total = torch.zeros(6, dtype=torch.float64)
    for one in range(6):
        for _ in range(400):
            loss = sampled_item_softmax_loss(head, queries[one : one + 1], targets[one : one + 1], chances, 64)
            total[one] += (loss + positive[one]).exp().item()
    torch.testing.assert_close(total / 400, right, rtol=0.05, atol=0)


def test_many_draws_give_the_full_loss_and_its_gradient() -> None:
    head, queries, targets = made()
    gradients = []
    for loss in (
        item_softmax_loss(head, queries, targets),
        sampled_item_softmax_loss(head, queries, targets, chances_of(np.full(30, 5)), 200_000),
    ):
        head.zero_grad()
        loss.backward()
        gradients.append((loss.item(), head.table.grad.clone(), head.of_text.grad.clone()))
    assert gradients[0][0] == pytest.approx(gradients[1][0], rel=0.01)
    for full, sampled in zip(gradients[0][1:], gradients[1][1:], strict=True):
        torch.testing.assert_close(full, sampled, atol=0.03, rtol=0.03)
