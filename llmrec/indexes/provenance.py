"""What an index remembers of its making: which items it is for, and how well it uses its codes. JSON values only."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmrec.data.vocabulary import Vocabulary
from llmrec.indexes.collisions import collision_report


def provenance_of(
    kind: str,
    settings: dict[str, Any],
    items: Vocabulary,
    codes: NDArray[np.int32],
    level_sizes: Sequence[int],
    *,
    resolved_by: str,
    plain: NDArray[np.int32] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """The provenance of a finished index.

    Args:
        kind: name in the registry. settings: of the technique. items: the catalog's.
        codes: `int32[N, L]`. level_sizes: `L` sizes.
        resolved_by: what keeps two items apart. plain: the codes before that, `int32[N, l]`; `codes` when None.
        more: further facts of the technique.
    """
    after = collision_report(codes)
    before = after if plain is None else collision_report(plain)
    return {
        "kind": kind,
        "settings": settings,
        "items": items_digest(items),
        "collisions": {"resolved_by": resolved_by, "before": before, "after": after},
        "levels": level_usage(codes, level_sizes),
        **more,
    }


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
    all items. Items whose code ends earlier do not count.
    """
    usage = []
    for level, size in enumerate(level_sizes):
        column = codes[:, level]
        counts = np.bincount(column[column >= 0], minlength=1)
        shares = counts[counts > 0] / max(counts.sum(), 1)
        perplexity = float(np.exp(-(shares * np.log(shares)).sum()))
        usage.append({"size": int(size), "used": len(shares), "perplexity": round(perplexity, 3)})
    return usage
