"""From logits to log-probabilities, in the three meanings that a score can have."""

from __future__ import annotations

import torch
from torch import Tensor

from llmrec.engines.base import Normalize


def log_probabilities(
    logits: Tensor, codes: Tensor, real: Tensor, normalize: Normalize, log_normalizer: Tensor | None = None
) -> Tensor:
    """The log-probability of each child.

    Args:
        logits: `float32[n, V]` over a codebook. codes: `int64[n, C]`, the children's. real: `bool[n, C]`, false on
            padding. normalize: see `Normalize`.
        log_normalizer: `float32[n]`, `logsumexp` over the whole vocabulary; for `vocab` only.

    Returns:
        `float32[n, C]`, -inf on padding.
    """
    picked = logits.gather(-1, codes.clamp(0, logits.shape[-1] - 1)).masked_fill(~real, -torch.inf)
    if normalize == "children":
        return picked.log_softmax(-1).nan_to_num(nan=-torch.inf)  # a leaf has no child
    if normalize == "codebook":
        return picked - logits.logsumexp(-1, keepdim=True)
    if log_normalizer is None:
        raise ValueError("normalize='vocab' needs the log-normalizer of the whole vocabulary")
    return picked - log_normalizer[:, None]
