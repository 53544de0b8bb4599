"""The distillation losses against computations by hand, in double precision."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from llmrec.trainers.losses.block_features import block_feature_loss
from llmrec.trainers.losses.multi_level import multi_level_loss
from llmrec.trainers.losses.ranking import ranking_loss
from llmrec.trainers.losses.trie_kl import trie_kl_loss

REAL = [[True, False, True, True], [False, True, False, False], [True, True, True, True]]
TAU = 1.7


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def softmax(values: list[float]) -> list[float]:
    sums = [math.exp(value) for value in values]
    return [value / sum(sums) for value in sums]


def test_trie_kl_sums_over_the_children() -> None:
    student, teacher, real = draw(3, 4), 3 * draw(3, 4, seed=1), torch.tensor(REAL)
    expected = []
    for s, t, r in zip(student.tolist(), teacher.tolist(), REAL, strict=True):
        q, p = (softmax([v / TAU for v, is_real in zip(row, r, strict=True) if is_real]) for row in (s, t))
        expected.append(TAU**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
    assert trie_kl_loss(student, teacher, real, TAU).tolist() == pytest.approx(expected, abs=1e-12)
    assert expected[1] == 0  # a single child is no choice


def test_trie_kl_is_zero_for_the_teacher_itself_whatever_it_says_of_other_codes() -> None:
    teacher, real = draw(3, 4), torch.tensor(REAL)
    student = torch.where(real, teacher + 5.0, -teacher).requires_grad_()
    loss = trie_kl_loss(student, teacher, real, TAU)
    torch.testing.assert_close(loss, torch.zeros(3, dtype=torch.float64))
    trie_kl_loss(student + draw(3, 4, seed=2), teacher, real, TAU).sum().backward()
    assert student.grad is not None
    assert (student.grad[~real] == 0).all()
    assert (student.grad[real][[0, 1, 2]] != 0).all()


def test_a_certain_teacher_is_a_label() -> None:
    student, real = draw(2, 4), torch.ones(2, 4, dtype=torch.bool)
    teacher = torch.zeros(2, 4, dtype=torch.float64).index_put((torch.arange(2), torch.tensor([1, 3])), draw(1) + 200)
    expected = torch.nn.functional.cross_entropy(student, torch.tensor([1, 3]), reduction="none")
    torch.testing.assert_close(trie_kl_loss(student, teacher, real, 1.0), expected)


def test_block_features_by_hand() -> None:
    student, teacher = draw(2, 3, 5), draw(2, 3, 5, seed=1)
    expected = []
    for s_row, t_row in zip(student.tolist(), teacher.tolist(), strict=True):
        terms = []
        for s, t in zip(s_row, t_row, strict=True):
            s_norm, t_norm = math.hypot(*s), math.hypot(*t)
            cosine = sum(a * b for a, b in zip(s, t, strict=True)) / (s_norm * t_norm)
            terms.append(1 - cosine + 0.3 * (s_norm / t_norm - 1) ** 2)
        expected.append(sum(terms) / len(terms))
    assert block_feature_loss(student, teacher, 0.3).tolist() == pytest.approx(expected, abs=1e-12)


def test_block_features_do_not_care_for_length_without_the_norm_term() -> None:
    teacher = draw(2, 3, 5)
    torch.testing.assert_close(block_feature_loss(7 * teacher, teacher, 0.0), torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(block_feature_loss(3 * teacher, teacher, 1.0), torch.full((2,), 4.0).double())


def test_multi_level_is_the_mean_of_the_blocks() -> None:
    logits, targets = draw(2, 3, 4), torch.tensor([0, 3, 1])
    expected = [
        sum(-math.log(softmax(logits[block, place].tolist())[target]) for block in range(2)) / 2
        for place, target in enumerate(targets.tolist())
    ]
    assert multi_level_loss(logits, targets).tolist() == pytest.approx(expected, abs=1e-12)
    assert multi_level_loss(logits[:0], targets).tolist() == [0, 0, 0]


def test_ranking_by_hand() -> None:
    student, teacher, real = -draw(3, 4).abs() - 1, 2 * draw(3, 4, seed=1), torch.tensor(REAL)
    expected = []
    for s, t, r in zip(student.tolist(), teacher.tolist(), REAL, strict=True):
        p = softmax([v / TAU for v, is_real in zip(t, r, strict=True) if is_real])
        own = [v for v, is_real in zip(s, r, strict=True) if is_real]
        expected.append(sum(a * (math.log(a) - b) for a, b in zip(p, own, strict=True)))
    assert ranking_loss(student, teacher, real, TAU).tolist() == pytest.approx(expected, abs=1e-12)


def test_an_empty_place_of_a_list_has_neither_value_nor_gradient() -> None:
    student, teacher, real = -draw(3, 4).abs(), draw(3, 4, seed=1), torch.tensor(REAL)
    other = torch.where(real, student, torch.tensor(-torch.inf).double()).requires_grad_()
    loss = ranking_loss(other, torch.where(real, teacher, -torch.inf), real, TAU)
    torch.testing.assert_close(loss, ranking_loss(student, teacher, real, TAU))
    loss.sum().backward()
    assert other.grad is not None
    assert (other.grad[~real] == 0).all()
    assert (other.grad[real] < 0).all()


def test_gradients_are_those_of_finite_differences() -> None:
    real, states = torch.tensor(REAL), draw(2, 3, 5).requires_grad_()
    logits = draw(3, 4, seed=3).requires_grad_()
    teacher = draw(3, 4, seed=4)
    assert torch.autograd.gradcheck(lambda s: trie_kl_loss(s, teacher, real, TAU), (logits,))
    assert torch.autograd.gradcheck(lambda s: ranking_loss(s, teacher, real, TAU), (logits,))
    assert torch.autograd.gradcheck(lambda s: block_feature_loss(s, draw(2, 3, 5, seed=5), 0.5), (states,))
    targets = torch.tensor([1, 4, 0])
    assert torch.autograd.gradcheck(lambda s: multi_level_loss(s, targets), (states,))


def test_the_teacher_gets_no_gradient() -> None:
    teacher, real = draw(3, 4).requires_grad_(), torch.tensor(REAL)
    student = draw(3, 4, seed=1).requires_grad_()
    losses = [trie_kl_loss(student, teacher, real, TAU), ranking_loss(student, teacher, real, TAU)]
    losses.append(block_feature_loss(student[:, None], teacher[:, None], 1.0))
    sum(loss.sum() for loss in losses).backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_far_logits_stay_finite() -> None:
    student = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    teacher, real = torch.tensor([[-1e4, 1e4, 0.0]]), torch.ones(1, 3, dtype=torch.bool)
    loss = trie_kl_loss(student, teacher, real, 1.0)
    assert loss.item() == pytest.approx(2e4)
    loss.sum().backward()
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()
