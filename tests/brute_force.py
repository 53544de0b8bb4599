"""The truth to compare with: every item by one plain forward pass of its own."""

from __future__ import annotations

import numpy as np
import torch
from worlds import TinyWorld


def brute_force(world: TinyWorld, prompt: list[int], normalize: str) -> np.ndarray:
    """`log p(item | prompt)` of every item, `float64[N]`."""
    scores = []
    codes = world.index.codes
    for row in range(len(codes)):
        ids = [*prompt, *world.items.encode(row)]
        with torch.inference_mode():
            logits = world.model(torch.tensor([ids])).logits[0].double()
        total = 0.0
        for level, token in enumerate(ids[len(prompt) :]):
            said = logits[len(prompt) + level - 1]
            book = world.items.codebooks[0 if world.items.is_text else level]
            if normalize == "codebook":
                among = said[book]
            elif normalize == "vocab":
                among = said
            else:
                same_prefix = (codes[:, :level] == codes[row, :level]).all(axis=1)
                among = said[book[np.unique(codes[same_prefix, level])]]
            total += float(said[token] - among.logsumexp(0))
        scores.append(total)
    return np.array(scores)
