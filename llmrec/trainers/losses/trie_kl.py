r"""Logit distillation where the teacher really chooses: among the children of a trie node.

Paper: Hinton, Vinyals and Dean 2015, Distilling the Knowledge in a Neural Network (https://arxiv.org/abs/1503.02531),
section 2. They compare distributions over all classes; a language model has 50,000, of which a search can take the few
that continue an item's code.

Formula: with the children $C(v)$ of the node $v$ that a position stands at, and
$p^\tau(c) = \exp(z_c / \tau) / \sum_{c' \in C(v)} \exp(z_{c'} / \tau)$ of the teacher's logits and $q^\tau$ of the
student's, $\tau^2 \sum_{c \in C(v)} p^\tau(c) \log \frac{p^\tau(c)}{q^\tau(c)}$.

| Input         | Shape       | Meaning                                                               |
|---------------|-------------|-----------------------------------------------------------------------|
| `student`     | `(n, V)`    | logits over the codebook of the level                                 |
| `teacher`     | `(n, V)`    | the same of the teacher; no gradient goes there                       |
| `is_real`     | `bool(n, V)`| the codes that may follow; all true compares whole codebooks          |
| `temperature` | number      | above 1, unlikely children count more; the factor keeps gradients equal |

Relation to others: with a teacher that is certain of the label it is `level_softmax` with `normalize: children`. Over
all codes (`over: codebook`) the student also learns how much the teacher leaves to codes that no item has, which
`normalize: codebook` divides by.
"""

from __future__ import annotations

from torch import Tensor


def trie_kl_loss(student: Tensor, teacher: Tensor, is_real: Tensor, temperature: float) -> Tensor:
    """The loss of each position, `(n,)` in nats; see the table above. Every position has at least one real code."""
    log_q, log_p = (
        (logits / temperature).masked_fill(~is_real, -1e30).log_softmax(-1) for logits in (student, teacher.detach())
    )
    return temperature**2 * (log_p.exp() * (log_p - log_q)).masked_fill(~is_real, 0.0).sum(-1)
