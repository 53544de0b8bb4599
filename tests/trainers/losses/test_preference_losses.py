"""The preference losses against computations by hand, in double precision."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from llmrec.trainers.losses.dpo import dpo_loss
from llmrec.trainers.losses.s_dpo import s_dpo_loss

BETA = 0.7
CHOSEN = [0.3, -1.2, 2.5]
REJECTED = [[-0.4, 0.9, 0.1], [1.5, -2.0, 0.0], [-3.0, 0.2, 2.4]]
REAL = [[True, True, True], [True, False, False], [True, True, False]]
LOSSES = [dpo_loss, s_dpo_loss]


def case() -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.tensor(CHOSEN, dtype=torch.float64),
        torch.tensor(REJECTED, dtype=torch.float64),
        torch.tensor(REAL),
    )


def by_hand(several: Callable[[list[float]], float]) -> list[float]:
    """`several` of the negatives' `beta * (rejected - chosen)`, with Python's own numbers."""
    chosen, rejected, _ = case()
    return [
        several([BETA * (r - c) for r, is_real in zip(row, real, strict=True) if is_real])
        for c, row, real in zip(chosen.tolist(), rejected.tolist(), REAL, strict=True)
    ]


def test_dpo_is_the_mean_of_its_pairs() -> None:
    expected = by_hand(lambda gains: sum(-math.log(1 / (1 + math.exp(g))) for g in gains) / len(gains))
    assert dpo_loss(*case(), BETA).tolist() == pytest.approx(expected, abs=1e-14)


def test_s_dpo_is_minus_log_sigmoid_of_minus_log_sum() -> None:
    def formula(gains: list[float]) -> float:
        log_sum = math.log(sum(math.exp(gain) for gain in gains))
        return -math.log(1 / (1 + math.exp(log_sum)))

    assert s_dpo_loss(*case(), BETA).tolist() == pytest.approx(by_hand(formula), abs=1e-14)


def test_s_dpo_is_the_cross_entropy_of_the_chosen_item() -> None:
    chosen, rejected, _ = case()
    rewards = BETA * torch.cat([chosen[:, None], rejected], dim=1)
    expected = functional.cross_entropy(rewards, torch.zeros(3, dtype=torch.long), reduction="none")
    torch.testing.assert_close(s_dpo_loss(chosen, rejected, torch.ones(3, 3, dtype=torch.bool), BETA), expected)


def test_with_one_negative_both_are_the_same() -> None:
    chosen, rejected, _ = case()
    one = (chosen, rejected[:, :1], torch.ones(3, 1, dtype=torch.bool))
    torch.testing.assert_close(s_dpo_loss(*one, BETA), dpo_loss(*one, BETA), atol=1e-14, rtol=0)
    trl = -functional.logsigmoid(BETA * (chosen - rejected[:, 0]))
    torch.testing.assert_close(dpo_loss(*one, BETA), trl, atol=1e-14, rtol=0)
    assert not torch.allclose(s_dpo_loss(*case(), BETA), dpo_loss(*case(), BETA), atol=1e-3)


@pytest.mark.parametrize("loss", LOSSES)
def test_an_empty_place_has_neither_value_nor_gradient(loss: Callable[..., Tensor]) -> None:
    chosen, rejected, is_real = case()
    other = torch.where(is_real, rejected, torch.tensor(1e9).double()).requires_grad_()
    found = loss(chosen, other, is_real, BETA)
    torch.testing.assert_close(found, loss(chosen, rejected, is_real, BETA))
    found.sum().backward()
    assert other.grad is not None
    assert torch.isfinite(other.grad).all()
    assert (other.grad[~is_real] == 0).all()
    assert (other.grad[is_real] > 0).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_those_of_finite_differences(loss: Callable[..., Tensor]) -> None:
    chosen, rejected, is_real = case()
    assert torch.autograd.gradcheck(
        lambda c, r: loss(c, r, is_real, BETA), (chosen.requires_grad_(), rejected.requires_grad_())
    )


def test_the_hardest_negative_has_the_largest_gradient() -> None:
    chosen, rejected, _ = case()
    rejected.requires_grad_()
    s_dpo_loss(chosen, rejected, torch.ones(3, 3, dtype=torch.bool), BETA).sum().backward()
    gains = BETA * (rejected.detach() - chosen[:, None])
    weights = gains.exp() / (1 + gains.exp().sum(1, keepdim=True))
    torch.testing.assert_close(rejected.grad, BETA * weights)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("size", [1e3, 1e5])
def test_large_ratios_stay_finite(loss: Callable[..., Tensor], size: float) -> None:
    """Where `log(sum(exp))` is infinite in float32 and its gradient NaN."""
    chosen = torch.tensor([-size, size], requires_grad=True)
    rejected = torch.tensor([[size, size], [-size, -size]], requires_grad=True)
    found = loss(chosen, rejected, torch.ones(2, 2, dtype=torch.bool), 1.0)
    assert found[0].item() == pytest.approx(2 * size, rel=1e-3)
    assert found[1].item() == 0
    found.sum().backward()
    for grad in (chosen.grad, rejected.grad):
        assert grad is not None
        assert torch.isfinite(grad).all()
