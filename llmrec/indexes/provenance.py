"""What an index remembers of its making: which items it is for, and how well it uses its codes. JSON values only."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmrec.data.vocabulary import Vocabulary


def items_digest(items: Vocabulary) -> str:
    """SHA-256 over the item ids in row order: codes fit a catalog exactly when this agrees."""
    digest = hashlib.sha256()
    for external_id in items.ids.to_pylist():
        text = external_id.encode()
        digest.update(len(text).to_bytes(4, "little") + text)
    return digest.hexdigest()


def level_usage(codes: NDArray[np.int32], level_sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Of every level its size, how many of its codes are used, and their perplexity.

    Perplexity is `exp(entropy)` of the codes' shares: the size of the level when all are used alike, 1 when one takes
    all items.
    """
    usage = []
    for level, size in enumerate(level_sizes):
        counts = np.bincount(codes[:, level], minlength=size)
        shares = counts[counts > 0] / len(codes)
        perplexity = float(np.exp(-(shares * np.log(shares)).sum()))
        usage.append({"size": int(size), "used": len(shares), "perplexity": round(perplexity, 3)})
    return usage
