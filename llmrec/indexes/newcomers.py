"""Who speaks for an item that the model has never seen.

A new item has a code of its own, but the last step to it was never trained: the model learned which codes follow a
prefix, and that this one does not. Its probability would be near nothing whatever the item is. So until the model is
trained again, a new item is scored as the trained item that stands closest to it under the longest prefix that was
trained, its *stand-in*.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llmrec.indexes.collisions import at_level, group_ids
from llmrec.indexes.kmeans import squared_distances

BLOCK = 16384
"""New items handled at once, which bounds memory to `BLOCK x K` distances."""

Codes = NDArray[np.int32]
Vectors = NDArray[np.float32]


def stand_ins(latents: Vectors, codebooks: Sequence[Vectors], codes: Codes, trained: Codes) -> Codes:
    """The code of a trained item for every new one.

    Level by level: the item's own code where an item with it was trained under this prefix, else the nearest code that
    was. On a level behind the codebooks (digits) that is the lowest.

    Args:
        latents: `float32[n, E]` of the new items. codebooks: one `float32[K, E]` a level. codes: `int32[n, L]`.
        trained: `int32[N, L]`, at least one.

    Returns:
        `int32[n, L]`, rows of `trained`.
    """
    return np.vstack(
        [
            _stand_ins(latents[start : start + BLOCK], codebooks, codes[start : start + BLOCK], trained)
            for start in range(0, len(codes), BLOCK)
        ]
    )


def _stand_ins(latents: Vectors, codebooks: Sequence[Vectors], codes: Codes, trained: Codes) -> Codes:
    found, residuals = np.zeros_like(codes), latents
    on_own_way = np.ones(len(codes), bool)
    for level in range(codes.shape[1]):
        prefixes = group_ids(np.vstack([trained[:, :level], found[:, :level]]))
        wanted, of_new = np.unique(prefixes[len(trained) :], return_inverse=True)
        of_trained = np.searchsorted(wanted, prefixes[: len(trained)]).clip(max=len(wanted) - 1)
        asked = wanted[of_trained] == prefixes[: len(trained)]
        residuals, codebook = at_level(residuals, codebooks, level, int(trained[:, level].max()) + 1)
        size = len(codebook)
        there = np.zeros((len(wanted), size), bool)
        there[of_trained[asked], trained[asked, level]] = True
        nearest = np.where(there[of_new], squared_distances(residuals, codebook), np.inf).argmin(axis=1)
        own = codes[:, level]
        on_own_way &= (own < size) & there[of_new, own.clip(max=size - 1)]
        found[:, level] = np.where(on_own_way, own, nearest)
        residuals = residuals - codebook[found[:, level]]
    return found
