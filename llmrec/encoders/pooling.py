"""Item vectors from a transformer: the mean of its last hidden states over the tokens of each text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def mean_pooled(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    batch_size: int,
    max_tokens: int,
    device: str | None = None,
) -> NDArray[np.float32]:
    """Mean hidden state of every text.

    Texts are batched by length, so that little padding is computed, and padded on the right with a mask: neither the
    batch nor the tokenizer's pad token changes a vector by more than rounding.

    Args:
        model: a transformer, with or without a head; the head is not run.
        tokenizer: its own.
        texts: `N` strings. A blank one, or one without a token, gets a zero row.
        batch_size: texts a batch.
        max_tokens: longer texts are cut.
        device: torch's name of it; a GPU when there is one, else the CPU.

    Returns:
        `float32[N, hidden size]`, not normalised.
    """
    import torch

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    body = model.base_model.to(device).eval()
    tokens = _token_ids(tokenizer, texts, max_tokens)
    lengths = np.array([len(ids) for ids in tokens], np.int64)
    order = np.argsort(-lengths, kind="stable")[: int((lengths > 0).sum())]  # longest first: memory peaks at once
    pooled = np.zeros((len(texts), model.config.hidden_size), np.float32)
    for start in tqdm(range(0, len(order), batch_size), desc="encode items", unit="batch", delay=2):
        rows = order[start : start + batch_size]
        ids = np.zeros((len(rows), lengths[rows[0]]), np.int64)  # (B, T)
        mask = np.arange(ids.shape[1]) < lengths[rows, None]  # (B, T)
        ids[mask] = np.concatenate([tokens[row] for row in rows])
        with torch.inference_mode():
            weights = torch.from_numpy(mask.astype(np.int64)).to(device)
            states = body(input_ids=torch.from_numpy(ids).to(device), attention_mask=weights).last_hidden_state
            sums = (states.float() * weights[:, :, None]).sum(dim=1)  # (B, H)
            pooled[rows] = (sums / weights.sum(dim=1, keepdim=True)).cpu().numpy()
    return pooled


def _token_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
    """The ids of every text; none for a blank one, although a tokenizer might add special tokens to it."""
    written = [row for row, text in enumerate(texts) if text.strip()]
    tokens: list[list[int]] = [[] for _ in texts]
    if written:
        encoded = tokenizer([texts[row] for row in written], truncation=True, max_length=max_tokens)["input_ids"]
        for row, ids in zip(written, encoded, strict=True):
            tokens[row] = ids
    return tokens
