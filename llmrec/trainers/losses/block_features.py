r"""Feature distillation: after each block of layers the student's state should point where the teacher's does.

Paper: Xu et al. 2025, SLMRec: Distilling Large Language Models into Small for Sequential Recommendation
(https://arxiv.org/abs/2405.17890). Both models are cut into $B$ blocks of equally many layers; one term is for the
direction of the states behind each block, one for their norm.

Formula: with the states $s_b$ of the student and $t_b$ of the teacher behind block $b$,
$\frac{1}{B} \sum_b \left(1 - \frac{s_b \cdot t_b}{|s_b| |t_b|}\right) + w \left(\frac{|s_b|}{|t_b|} - 1\right)^2$.

| Input         | Shape      | Meaning                                                            |
|---------------|------------|--------------------------------------------------------------------|
| `student`     | `(n, B, D)`| states at the positions that predict, projected where widths differ |
| `teacher`     | `(n, B, D)`| the same of the teacher; no gradient goes there                    |
| `norm_weight` | number     | $w$; 0 compares directions only                                    |

Departure from the paper: norms are compared by their ratio, so that a block with large states does not outweigh the
others (states grow a hundredfold from the first block of a Llama to its last).
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def block_feature_loss(student: Tensor, teacher: Tensor, norm_weight: float) -> Tensor:
    """The loss of each position, `(n,)`; see the table above."""
    teacher = teacher.detach()
    apart = 1 - functional.cosine_similarity(student, teacher, dim=-1)  # (n, B)
    ratio = student.norm(dim=-1) / teacher.norm(dim=-1).clamp(min=1e-8)
    return (apart + norm_weight * (ratio - 1) ** 2).mean(-1)
