r"""Direct preference optimization: the chosen item should gain on each rejected item, measured from a reference model.

Paper: Rafailov et al. 2023, Direct Preference Optimization (https://arxiv.org/abs/2305.18290), equation 7.

Formula: with the log-ratio $r(y) = \log \pi(y|x) - \log \pi_{ref}(y|x)$ of an item $y$ after the prompt $x$, for the
chosen item $c$ and rejected items $1 \dots R$,
$-\frac{1}{R} \sum_j \log \sigma(\beta (r(c) - r(j)))$.

| Input      | Shape       | Meaning                                                     |
|------------|-------------|-------------------------------------------------------------|
| `chosen`   | `(P,)`      | log-ratio of the chosen item of each preference             |
| `rejected` | `(P, R)`    | log-ratios of its rejected items                            |
| `is_real`  | `bool(P, R)`| false where a preference has fewer than R rejected items    |
| `beta`     | number      | how dear it is to leave the reference; 0.1 in TRL and here  |

Relation to others: with one rejected item it is `s_dpo_loss`. It is TRL's `loss_type: sigmoid` over all pairs, with the
same weight for each preference however many negatives it has.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def dpo_loss(chosen: Tensor, rejected: Tensor, is_real: Tensor, beta: float) -> Tensor:
    """The loss of each preference, `(P,)`; see the table above. Every preference has at least one real negative."""
    losses = -functional.logsigmoid(beta * (chosen[:, None] - rejected))
    return losses.masked_fill(~is_real, 0.0).sum(1) / is_real.sum(1)
