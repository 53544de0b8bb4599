"""The language-model head, restricted to the rows that matter.

A 50,000-row head is wasted on a step that chooses among 256 codes. `LevelHead` multiplies a hidden state with the rows
of one level only, and applies what the model itself applies to its logits (bias, scaling, soft cap).
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel


def finish_logits(model: PreTrainedModel, logits: Tensor) -> Tensor:
    """What the architecture does to raw logits: Granite and Cohere scale them, Gemma caps them."""
    config = model.config
    if (scaling := getattr(config, "logits_scaling", None)) is not None:
        logits = logits / scaling
    if (scale := getattr(config, "logit_scale", None)) is not None:
        logits = logits * scale
    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:
        logits = cap * torch.tanh(logits / cap)
    return logits


def head_bias(model: PreTrainedModel) -> Tensor | None:
    """The bias of the head, `(V,)`, where it has one, as Phi's has.

    PEFT's wrapper of trainable tokens hides it and leaves it out of its own pass; once merged, it counts again.
    """
    head = model.get_output_embeddings()
    holder = head.token_adapter.base_layer if hasattr(head, "token_adapter") else head
    bias: Tensor | None = getattr(holder, "bias", None)
    return bias


class LevelHead:
    """Logits over a range of vocabulary rows.

    Args:
        model: a causal language model.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.weight: Tensor = model.get_output_embeddings().weight  # (V, D)
        self.bias = head_bias(model)

    def rows(self, tokens: slice | Tensor) -> tuple[Tensor, Tensor | None]:
        """The weight `(size, D)` and bias `(size,)` of some vocabulary rows; views where the rows are a slice."""
        return self.weight[tokens], None if self.bias is None else self.bias[tokens]

    def logits(self, hidden: Tensor, rows: tuple[Tensor, Tensor | None]) -> Tensor:
        """float32 logits.

        Args:
            hidden: `(..., D)`. rows: of `rows`.

        Returns:
            `(..., size)`.
        """
        return finish_logits(self.model, torch.nn.functional.linear(hidden, *rows).float())

    def log_normalizer(self, hidden: Tensor) -> Tensor:
        """`logsumexp` over the whole vocabulary, `(...)`; what `normalize: vocab` divides by."""
        return self.logits(hidden, (self.weight, self.bias)).logsumexp(-1)
