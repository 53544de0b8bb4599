"""Make every code unique: number the items that share one, or move them to another code.

Quantization alone gives alike items the same code. Every strategy here ends with one code an item, or with an error;
none gives up silently.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from llmrec.errors import RecipeError
from llmrec.indexes.kmeans import left_over, nearest
from llmrec.indexes.placement import place, rank_within
from llmrec.indexes.sinkhorn import spread

Codes = NDArray[np.int32]
Vectors = NDArray[np.float32]

Strategy = Literal["digit", "nearest", "sinkhorn"]
"""`digit` appends a level that numbers the items on one code; `nearest` keeps the number of levels and moves an item
whose code is taken to the nearest free one; `sinkhorn` keeps it too, and spreads the items of a prefix where two agree
evenly over the last level."""


def make_unique(
    plain: Codes, latents: Vectors, codebooks: Sequence[Vectors], strategy: Strategy
) -> tuple[Codes, tuple[int, ...]]:
    """Codes in which no two items agree, and their level sizes.

    Args:
        plain: `int32[N, L]`, the codes to start from. latents: `float32[N, E]`. codebooks: one `float32[K, E]` a level.
        strategy: see `Strategy`.

    Raises:
        RecipeError: there are fewer codes than items, and the strategy does not add a level.
    """
    sizes = tuple(len(codebook) for codebook in codebooks)
    if strategy == "digit":
        return with_digit(plain, sizes)
    make = nearest_free if strategy == "nearest" else transported
    return make(latents, codebooks, plain), sizes


def group_ids(codes: Codes) -> NDArray[np.int64]:
    """One number a distinct code, `int64[N]`: two items have the same number exactly when they share their code."""
    groups = np.zeros(len(codes), np.int64)
    for level in range(codes.shape[1]):  # renumbering at each level keeps the product below N * level size
        column = codes[:, level].astype(np.int64) + 1  # from 0: a shorter code is filled with -1
        wide = groups * (int(column.max(initial=0)) + 1) + column
        groups = np.unique(wide, return_inverse=True)[1].astype(np.int64)
    return groups


def collision_report(codes: Codes) -> dict[str, int]:
    """`colliding`: items that share their code with an earlier item; `largest_group`: most items on one code."""
    sizes = np.bincount(group_ids(codes))
    return {"colliding": len(codes) - len(sizes), "largest_group": int(sizes.max(initial=0))}


def with_digit(codes: Codes, level_sizes: Sequence[int]) -> tuple[Codes, tuple[int, ...]]:
    """Append a level that numbers the items of each colliding group in row order (TIGER; Rajput et al., 2023).

    Args:
        codes: `int32[N, L]`. level_sizes: `L` codebook sizes.

    Returns:
        Codes `int32[N, L + 1]` and `L + 1` sizes, the last one the largest group. Unchanged where nothing collides: a
        level with a single code would only cost a decoding step.
    """
    groups = group_ids(codes)
    digits = rank_within(groups, np.zeros(len(codes), np.float32))
    if not digits.any():
        return codes, tuple(level_sizes)
    return np.column_stack([codes, digits]).astype(np.int32), (*level_sizes, int(digits.max()) + 1)


def nearest_free(latents: Vectors, codebooks: Sequence[Vectors], plain: Codes | None = None) -> Codes:
    """Residual codes in which no two items agree: an item whose place is taken goes to the nearest free one.

    On every level a code may hold as many items as there are codes below it (one item on the last level). The closest
    items keep their place; each other item takes the nearest code with room under the same prefix, and is encoded
    anew below it. On the usual catalog only the last level is ever full; a small codebook fills upper levels too,
    and the same rule then moves items there. Equal distances go by row order.

    Args:
        latents: `float32[N, E]`.
        codebooks: one `float32[K, E]` a level, of vectors, then of residuals.
        plain: `int32[N, L]`, the codes that items keep where they can; the nearest residual codes when None. An item
            that leaves its prefix is encoded by distance from there on.

    Returns:
        `int32[N, L]`; equal to the plain codes wherever these do not collide.

    Raises:
        RecipeError: there are more items than codes.
    """
    sizes = [len(codebook) for codebook in codebooks]
    if len(latents) > math.prod(sizes):
        raise RecipeError(
            f"index.levels {sizes} make {math.prod(sizes)} codes, fewer than the {len(latents)} items. "
            "Enlarge a level, add one, or set collisions: digit."
        )
    codes = np.zeros((len(latents), len(sizes)), np.int32)
    nobody, residuals = np.empty(0, np.int64), latents
    for level, codebook in enumerate(codebooks):
        wishes = None
        if plain is not None:  # below another prefix the plain code says nothing
            stayed = (codes[:, :level] == plain[:, :level]).all(axis=1)
            wishes = np.where(stayed, plain[:, level], np.int32(-1))
        prefixes = group_ids(codes[:, :level])
        codes[:, level] = place(residuals, prefixes, codebook, math.prod(sizes[level + 1 :]), nobody, wishes)
        residuals = residuals - codebook[codes[:, level]]
    return codes


def transported(latents: Vectors, codebooks: Sequence[Vectors], plain: Codes) -> Codes:
    """Codes in which no two items agree: where two do, their prefix is spread over the last level by optimal transport.

    All items of such a prefix get their last code anew (uniform semantic mapping of LC-Rec; Zheng et al., 2024,
    arXiv 2311.09049), see `llmrec.indexes.sinkhorn`. The last level's codes are used more evenly than by
    `nearest_free`, and the items stand farther from them. The paper repeats its mapping for some rounds and keeps what
    still collides after the last; here the plan is rounded to one item a code, so that the result is unique, always.
    When a prefix has more items than the last level has codes, `nearest_free` first moves those that fit worst to other
    prefixes.

    Args:
        latents: `float32[N, E]`. codebooks: one `float32[K, E]` a level. plain: `int32[N, L]`, the codes to start from.

    Raises:
        RecipeError: there are more items than codes.
    """
    codes = nearest_free(latents, codebooks, plain)
    residuals = left_over(latents, codebooks[:-1], codes[:, :-1])
    stayed = (codes[:, :-1] == plain[:, :-1]).all(axis=1)
    wishes = np.where(stayed, plain[:, -1], nearest(residuals, codebooks[-1])[0])
    prefixes = group_ids(codes[:, :-1])
    rows = np.flatnonzero(np.isin(prefixes, prefixes[codes[:, -1] != wishes]))
    codes[rows, -1] = spread(residuals[rows], prefixes[rows], codebooks[-1])
    return codes
