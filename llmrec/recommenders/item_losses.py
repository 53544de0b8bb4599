r"""What a sequence model is trained on: the next item against all items, against many drawn ones, or against one.

With `s` the logits of a position, `y` its target, `N` items and `K` drawn negatives `n`:

- `softmax`: `-s[y] + logsumexp_j s[j]` over the whole catalog. Exact, `O(N)` a position, the best choice while it fits.
- `sampled_softmax`: the same over the target and `K` negatives, each of which stands for the `N / K` items that were
  not drawn (`s[n] + log(N / K)`); of `K = N` it is `softmax`. Klenitskiy and Vasilev, 2023, "Turning Dross Into Gold
  Loss" (https://arxiv.org/abs/2309.07602), and eSASRec (https://arxiv.org/abs/2508.06450), which leave the term out.
- `gbce`: `-(beta log sigmoid(s[y]) + sum_n log(1 - sigmoid(s[n]))) / (K + 1)`, with `beta = 1 - t (1 - K / (N - 1))`.
  gSASRec, Petrov and Macdonald, 2023 (https://arxiv.org/abs/2308.07192): `t = 0` is plain cross-entropy with `K`
  negatives, which is too sure of its positives; `t = 1` ranks as the softmax.
- `bce`: `-log sigmoid(s[y]) - log(1 - sigmoid(s[n]))` with one negative a position. The original (Kang and McAuley,
  2018), and the reason why SASRec is often reported weaker than it is.

The negatives of a step are drawn once and shared by all its positions, which makes thousands of them cheap; `bce` draws
one a position. The papers draw for each position anew.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

ItemLoss = Literal["softmax", "sampled_softmax", "gbce", "bce"]


def item_loss(
    kind: ItemLoss, states: Tensor, items: Tensor, targets: Tensor, negatives: int, calibration: float
) -> Tensor:
    """The mean loss of some positions; what is random comes from torch's own generator.

    Args:
        kind: see the module. states: `float[M, D]`, what the model made of the positions.
        items: `float[N, D]`; a logit is a product of the two. targets: `int64[M]`.
        negatives: `K`; at most the catalog is drawn. calibration: `t` of `gbce`.

    >>> two = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> item_loss("softmax", two, two, torch.tensor([0, 1]), negatives=0, calibration=0.0)  # log(1 + 1 / e)
    tensor(0.3133)
    """
    if kind == "softmax":
        return functional.cross_entropy(states @ items.T, targets)
    positive = (states * items[targets]).sum(dim=1)  # (M,)
    if kind == "bce":
        others = (targets + torch.randint_like(targets, 1, max(len(items), 2))) % len(items)  # anything but the target
        negative = (states * items[others]).sum(dim=1)
        return -(functional.logsigmoid(positive) + functional.logsigmoid(-negative)).mean()
    drawn = torch.randperm(len(items), device=targets.device)[:negatives]  # (K,), each item once
    hits = drawn == targets[:, None]
    logits = (states @ items[drawn].T).masked_fill(hits, -math.inf)  # (M, K)
    if kind == "sampled_softmax":
        logits = logits + math.log(len(items) / len(drawn))
        return (torch.logsumexp(torch.cat([positive[:, None], logits], dim=1), dim=1) - positive).mean()
    rate = len(drawn) / max(len(items) - 1, 1)
    beta = 1 - calibration * (1 - min(rate, 1.0))
    against = functional.logsigmoid(-logits).sum(dim=1)  # a hit adds log(1 - sigmoid(-inf)) = 0
    return -(beta * functional.logsigmoid(positive) + against).mean() / (len(drawn) + 1)
