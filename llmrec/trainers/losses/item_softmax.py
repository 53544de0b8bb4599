r"""Next-item loss over the items themselves, for a head that projects states onto item vectors.

Formula: for a position with query $q$ and next item $y$, $-\log \frac{\exp(q \cdot v_y)}{\sum_j \exp(q \cdot v_j)}$
with $j$ over the whole catalog. It is the training side of the score of `llmrec.recommenders.item_head`.

A catalog too large for that is sampled: $K$ items $n$ are drawn for a step with chances $c_n$, and the sum is estimated
by $\exp(q \cdot v_y) + \sum_{n \ne y} \exp(q \cdot v_n - \log(K c_n))$, which is right on average (the logQ correction
of Bengio and Senecal 2008; Yi et al. 2019, https://dl.acm.org/doi/10.1145/3298689.3346996). They correct the target
too, because in their batches it is drawn; here it always stands in the sum, so it is not. Chances follow the train
counts to the power .75 (Mikolov et al. 2013): the items that compete are drawn often.

In comparison with `item_losses.sampled_softmax` of the baselines, draws follow popularity and may repeat.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from llmrec.recommenders.item_projection import ItemProjection

POWER = 0.75


def chances_of(counts: NDArray[np.int64]) -> Tensor:
    """`float32[N]`, which sum to 1: how likely each item is drawn; one that nobody took counts as taken once."""
    weights = torch.from_numpy(np.maximum(counts, 1).astype(np.float64) ** POWER)
    return (weights / weights.sum()).float()


def item_softmax_loss(head: ItemProjection, queries: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Sum of the negative log-likelihoods among all items.

    Args:
        head: the item vectors. queries: `float32[n, D]`. targets: `int64[n]`, item rows.
        label_smoothing: share of the target spread over the catalog.

    Returns:
        A scalar in nats.
    """
    logits = queries @ head.vectors().T
    return functional.cross_entropy(logits, targets, reduction="sum", label_smoothing=label_smoothing)


def sampled_item_softmax_loss(
    head: ItemProjection, queries: Tensor, targets: Tensor, chances: Tensor, negatives: int
) -> Tensor:
    """The same with an estimate of the sum; the draws come from torch's own generator and serve all positions.

    Args:
        chances: `float32[N]`, of `chances_of`. negatives: `K`.
    """
    drawn = torch.multinomial(chances, negatives, replacement=True)  # (K,)
    positive = (queries * head.vectors(targets)).sum(1)  # (n,)
    others = queries @ head.vectors(drawn).T - (negatives * chances[drawn]).log()  # (n, K)
    others = others.masked_fill(drawn == targets[:, None], -torch.inf)
    return (torch.cat([positive[:, None], others], 1).logsumexp(1) - positive).sum()
