"""Make every code unique: number the items that share one, or move them to another code.

Quantization alone gives alike items the same code. Every strategy here ends with one code an item, or with an error;
none gives up silently. The same code places items that come later beside those that are there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from llmrec.errors import RecipeError
from llmrec.indexes.kmeans import nearest, squared_distances

BLOCK = 16384
"""Items without a place that are handled at once, which bounds memory to `BLOCK x K` distances."""

Codes = NDArray[np.int32]
Vectors = NDArray[np.float32]

Strategy = Literal["digit", "nearest"]
"""`digit` appends a level that numbers the items on one code; `nearest` keeps the number of levels and moves an item
whose code is taken to the nearest free one."""


def make_unique(
    plain: Codes, latents: Vectors, codebooks: Sequence[Vectors], strategy: Strategy
) -> tuple[Codes, tuple[int, ...]]:
    """Codes in which no two items agree, and their level sizes.

    Args:
        plain: `int32[N, L]`, the nearest codes. latents: `float32[N, E]`. codebooks: one `float32[K, E]` a level.
        strategy: see `Strategy`.

    Raises:
        RecipeError: there are fewer codes than items, and the strategy does not add a level.
    """
    sizes = tuple(len(codebook) for codebook in codebooks)
    if strategy == "digit":
        return with_digit(plain, sizes)
    return nearest_free(latents, codebooks), sizes


def group_ids(codes: Codes) -> NDArray[np.int64]:
    """One number a distinct code, `int64[N]`: two items have the same number exactly when they share their code."""
    groups = np.zeros(len(codes), np.int64)
    for level in range(codes.shape[1]):  # renumbering at each level keeps the product below N * level size
        wide = groups * (int(codes[:, level].max(initial=0)) + 1) + codes[:, level]
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


def nearest_free(latents: Vectors, codebooks: Sequence[Vectors]) -> Codes:
    """Residual codes in which no two items agree: an item whose place is taken goes to the nearest free one.

    On every level a code may hold as many items as there are codes below it (one item on the last level). The closest
    items keep their place; each other item takes the nearest code with room under the same prefix, and is encoded
    anew below it. On the usual catalog only the last level is ever full; a small codebook fills upper levels too,
    and the same rule then moves items there. Equal distances go by row order.

    Args:
        latents: `float32[N, E]`.
        codebooks: one `float32[K, E]` a level, of vectors, then of residuals.

    Returns:
        `int32[N, L]`; equal to plain residual codes wherever these do not collide.

    Raises:
        RecipeError: there are more items than codes.
    """
    sizes = [len(codebook) for codebook in codebooks]
    if len(latents) > math.prod(sizes):
        raise RecipeError(
            f"index.levels {sizes} make {math.prod(sizes)} codes, fewer than the {len(latents)} items. "
            "Enlarge a level, add one, or set collisions: digit."
        )
    return _descend(latents, codebooks, sizes, np.empty((0, len(sizes)), np.int32))


def free_codes(latents: Vectors, codebooks: Sequence[Vectors], taken: Codes, level_sizes: Sequence[int]) -> Codes:
    """Codes for items that come later: as `nearest_free`, but the codes in `taken` stay where they are.

    Args:
        latents: `float32[n, E]` of the new items. codebooks: one a level; a level more in `taken` holds digits, of which
            the lowest free one is used.
        taken: `int32[N, L]`, distinct. level_sizes: `L` sizes.

    Returns:
        `int32[n, L]`.

    Raises:
        RecipeError: fewer codes are free than items come.
    """
    room = math.prod(level_sizes) - len(taken)
    if len(latents) > room:
        raise RecipeError(
            f"the index has {room} free codes for {len(latents)} new items. Build it again with larger levels."
        )
    return _descend(latents, codebooks, level_sizes, taken)


def _descend(latents: Vectors, codebooks: Sequence[Vectors], sizes: Sequence[int], taken: Codes) -> Codes:
    """A free code for every item, level by level, `int32[n, L]`; there must be enough of them."""
    codes = np.zeros((len(latents), len(sizes)), np.int32)
    residuals = latents
    for level, size in enumerate(sizes):
        prefixes = group_ids(np.vstack([taken[:, :level], codes[:, :level]]))
        of_taken, of_new = prefixes[: len(taken)], prefixes[len(taken) :]
        if level < len(codebooks):
            codebook = codebooks[level]
        else:  # digits: every item is nearest to 0, then 1, ...
            residuals = np.zeros((len(latents), 1), np.float32)
            codebook = np.sqrt(np.arange(size, dtype=np.float32))[:, None]
        occupied = of_taken * size + taken[:, level]
        codes[:, level] = place(residuals, of_new, codebook, math.prod(sizes[level + 1 :]), occupied)
        residuals = residuals - codebook[codes[:, level]]
    return codes


def place(
    points: Vectors, prefixes: NDArray[np.int64], codebook: Vectors, capacity: int, occupied: NDArray[np.int64]
) -> Codes:
    """A code for every point, at most `capacity` points a code under each prefix, none moved without need.

    Args:
        points: `float32[N, E]`.
        prefixes: `int64[N]`, each of at most `K * capacity` points, those already there included.
        codebook: `float32[K, E]`.
        capacity: most points on one code under one prefix.
        occupied: `int64[M]`, `prefix * K + code` of the points that are there already.
    """
    k = len(codebook)
    labels, distances = nearest(points, codebook)
    there, counts = np.unique(occupied, return_counts=True)
    kept = rank_within(prefixes * k + labels, distances) < capacity - _count_of(prefixes * k + labels, there, counts)
    if kept.all():
        return labels
    crowded = np.unique(prefixes[~kept])
    homeless = _by_prefix(np.flatnonzero(~kept), prefixes)
    settled = _by_prefix(np.flatnonzero(kept & np.isin(prefixes, crowded)), prefixes)
    blocks = np.array_split(crowded, min(len(crowded), -(-len(homeless) // BLOCK)))
    for block in tqdm(blocks, desc="resolve collisions", unit="block", delay=2, leave=False):
        stay, move = (_between(rows, prefixes, block[0], block[-1]) for rows in (settled, homeless))
        slots = block[:, None] * k + np.arange(k)
        room = capacity - _count_of(slots, there, counts)  # (prefixes of the block, K)
        np.subtract.at(room, (np.searchsorted(block, prefixes[stay]), labels[stay]), 1)
        costs = squared_distances(points[move], codebook)
        labels[move] = _fill(costs, np.searchsorted(block, prefixes[move]), room)
    return labels


def _count_of(slots: NDArray[np.int64], there: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each slot is among `there` (sorted, distinct, with counts)."""
    if not len(there):
        return np.zeros(slots.shape, np.int64)
    at = np.searchsorted(there, slots).clip(max=len(there) - 1)
    return np.where(there[at] == slots, counts[at], 0)


def _by_prefix(rows: NDArray[np.int64], prefixes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows sorted by prefix; those of one prefix keep their order."""
    return rows[np.argsort(prefixes[rows], kind="stable")]


def _between(rows: NDArray[np.int64], prefixes: NDArray[np.int64], first: int, last: int) -> NDArray[np.int64]:
    """Of rows sorted by prefix, those whose prefix is `first` to `last`."""
    ordered = prefixes[rows]
    return rows[np.searchsorted(ordered, first) : np.searchsorted(ordered, last, side="right")]


def _fill(distances: NDArray[np.float32], groups: NDArray[np.int64], room: NDArray[np.int64]) -> Codes:
    """Rounds in which every point asks for its nearest code with room; of those that ask for one, the closest get it.

    Args:
        distances: `float32[M, K]`.
        groups: `int64[M]`, rows of `room`.
        room: `int64[G, K]`, free places; used up.
    """
    k = room.shape[1]
    labels = np.zeros(len(distances), np.int32)
    waiting = np.arange(len(distances))
    while waiting.size:  # each round fills at least one place in every group that still waits
        costs = np.where(room[groups[waiting]] > 0, distances[waiting], np.inf)
        wishes = costs.argmin(axis=1)
        slots = groups[waiting] * k + wishes
        accepted = rank_within(slots, costs[np.arange(len(wishes)), wishes]) < room.ravel()[slots]
        labels[waiting[accepted]] = wishes[accepted]
        np.subtract.at(room, (groups[waiting[accepted]], wishes[accepted]), 1)
        waiting = waiting[~accepted]
    return labels


def rank_within(groups: NDArray[np.int64], keys: NDArray[np.floating]) -> NDArray[np.int64]:
    """The rank of every element within its group by `keys`, from 0, `int64[N]`; equal keys by position."""
    order = np.lexsort((keys, groups))
    ordered = groups[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    sizes = np.diff(np.append(starts, len(ordered)))
    ranks = np.empty(len(groups), np.int64)
    ranks[order] = np.arange(len(groups)) - np.repeat(starts, sizes)
    return ranks
