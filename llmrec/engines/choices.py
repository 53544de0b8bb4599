"""The probability of each of a few one-token answers: one pass over the prompt, and only those rows of the head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from llmrec.engines.head import LevelHead
from llmrec.engines.states import TransformersStates


class Answered(NamedTuple):
    """What a model says.

    Args:
        log_p: `float32[B, A]`, `log p(answer | prompt, one of the answers)`; its exponentials sum to 1.
        mass: `float32[B]`, the probability that the next token is any of the answers. Where it is small, the model
            would rather have said something else.
    """

    log_p: Tensor
    mass: Tensor


@torch.inference_mode()
def answer(model: PreTrainedModel, prompts: Sequence[Sequence[int]], answers: Sequence[int]) -> Answered:
    """Ask a causal language model.

    Args:
        prompts: `B` lists of token ids, none empty. answers: `A` token ids.

    Raises:
        DecodingError: a prompt is longer than the model can see, or the model cannot be asked.
    """
    head = LevelHead(model)
    states = TransformersStates(model).states(prompts).to(head.weight.dtype)  # (B, H)
    logits = head.logits(states, head.rows(torch.tensor(answers, device=head.weight.device)))  # (B, A)
    said = logits.logsumexp(-1)
    return Answered(logits - said[:, None], (said - head.log_normalizer(states)).exp())
