r"""Supervision at every block: the states in the middle of the student should tell the next code too.

Paper: Xu et al. 2025, SLMRec: Distilling Large Language Models into Small for Sequential Recommendation
(https://arxiv.org/abs/2405.17890), "multiple supervision signals".

Formula: with the logits $z^b$ that the head gives for the state behind block $b = 1 \dots B - 1$ (the last block has
the ordinary loss) and the target $c$, $\frac{1}{B - 1} \sum_b -\log \frac{\exp(z^b_c)}{\sum_{c'} \exp(z^b_{c'})}$.

| Input     | Shape          | Meaning                                        |
|-----------|----------------|------------------------------------------------|
| `logits`  | `(B - 1, n, V)`| over the codebook of the level, block by block |
| `targets` | `int64[n]`     | the code that came next                        |

Departure from the paper: the state goes through the model's own final norm and head, not through a further matrix a
block, so nothing has to be thrown away after training. A student of one block has no state in the middle and no loss.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def multi_level_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """The loss of each position, `(n,)` in nats; see the table above."""
    blocks = len(logits)
    if not blocks:
        return logits.new_zeros(len(targets))
    losses = functional.cross_entropy(logits.flatten(0, 1), targets.repeat(blocks), reduction="none")
    return losses.view(blocks, -1).mean(0)
