r"""Ranking distillation: the teacher's own list, found by constrained search, as a soft target over whole items.

Papers: Tang and Wang 2018, Ranking Distillation (https://arxiv.org/abs/1809.07428): a student learns from the top of
its teacher's list. Kim and Rush 2016, Sequence-Level Knowledge Distillation (https://arxiv.org/abs/1606.07947): the
teacher's beams stand for its distribution over sequences, which has too many to be summed.

Formula: with the teacher's scores $t_i = \log p(i | x)$ of the $K$ items of its list, softened to
$p^\tau(i) = \exp(t_i / \tau) / \sum_j \exp(t_j / \tau)$, and the student's $s_i = \log q(i | x)$,
$\sum_i p^\tau(i) (\log p^\tau(i) - s_i)$.

| Input         | Shape       | Meaning                                                                    |
|---------------|-------------|----------------------------------------------------------------------------|
| `student`     | `(P, K)`    | log-probability of each item, the sum over its code's levels               |
| `teacher`     | `(P, K)`    | the teacher's scores; no gradient goes there                               |
| `is_real`     | `bool(P, K)`| false where a list has fewer than K items                                  |
| `temperature` | number      | above 1, the end of the list counts more                                   |

Relation to others: `trie_kl` looks at the nodes on the way to the item that came next; this one also at the ways that
the teacher would have taken. The student's scores are not normalised over the list, so that items outside it lose. A
list never holds all of the student's probability, so the loss stays above zero.
"""

from __future__ import annotations

import torch
from torch import Tensor


def ranking_loss(student: Tensor, teacher: Tensor, is_real: Tensor, temperature: float) -> Tensor:
    """The loss of each list, `(P,)` in nats; see the table above. Every list has at least one real item."""
    log_p = (teacher.detach() / temperature).masked_fill(~is_real, -1e30).log_softmax(-1)
    apart = torch.where(is_real, log_p - student, 0.0)  # also keeps an empty place's gradient at zero
    return (log_p.exp() * apart).sum(-1)
