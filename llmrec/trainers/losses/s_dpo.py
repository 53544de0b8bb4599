r"""Softmax DPO: the chosen item should gain on all rejected items at once.

Paper: Chen et al. 2024, On Softmax Direct Preference Optimization for Recommendation
(https://arxiv.org/abs/2406.09215).

Formula: with the log-ratio $r(y) = \log \pi(y|x) - \log \pi_{ref}(y|x)$, for the chosen item $c$ and rejected items
$1 \dots R$, $-\log \sigma(-\log \sum_j \exp(\beta (r(j) - r(c))))$, which is the cross-entropy of the chosen item among
all $1 + R$: $\log(1 + \sum_j \exp(\beta (r(j) - r(c))))$. It is computed as one `logsumexp`; `log(sum(exp))` as it is
often copied overflows as soon as a ratio is large, and the gradient is then NaN.

| Input      | Shape       | Meaning                                                     |
|------------|-------------|-------------------------------------------------------------|
| `chosen`   | `(P,)`      | log-ratio of the chosen item of each preference             |
| `rejected` | `(P, R)`    | log-ratios of its rejected items                            |
| `is_real`  | `bool(P, R)`| false where a preference has fewer than R rejected items    |
| `beta`     | number      | how dear it is to leave the reference; 1 in the paper       |

Relation to others: with one rejected item it is `dpo_loss`. With more, the gradient goes to the rejected items in
proportion to the softmax of their ratios, so the hardest negative counts most; DPO over the same pairs weighs each by
itself.
"""

from __future__ import annotations

import torch
from torch import Tensor


def s_dpo_loss(chosen: Tensor, rejected: Tensor, is_real: Tensor, beta: float) -> Tensor:
    """The loss of each preference, `(P,)`; see the table above."""
    gains = (beta * (rejected - chosen[:, None])).masked_fill(~is_real, -torch.inf)
    return torch.cat([torch.zeros_like(gains[:, :1]), gains], dim=1).logsumexp(1)
