"""Where an item stands that the model has never seen, and who speaks for it.

The last step to a new code was never trained: the model learned which codes follow a prefix, and that this one does
not. Its probability would be near nothing whatever the item is. So until the model is trained again, a new item is
scored as its *stand-in*, the trained item whose text is nearest. To be reached as its stand-in is, it stands beside it:
on a free code under the same prefix.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from llmrec.errors import RecipeError
from llmrec.indexes.collisions import group_ids
from llmrec.indexes.kmeans import left_over, squared_distances
from llmrec.indexes.placement import place, rank_within

DISTANCES_AT_ONCE = 2**25
"""Distances in memory at once, 128 MB."""

NEIGHBOURS = 16
"""Nearest trained items that a new one asks for a place at first; those that find none ask four times as many."""

Codes = NDArray[np.int32]
Vectors = NDArray[np.float32]


def stand_beside(
    new: Vectors, trained: Vectors, codebooks: Sequence[Vectors], taken: Codes, level_sizes: Sequence[int]
) -> tuple[Codes, Codes]:
    """A code for every new item, beside the nearest trained item that has room.

    Args:
        new: `float32[n, E]`, latents. trained: `float32[T, E]`. codebooks: one `float32[K, E]` a level; a level more in
            `taken` holds digits, of which the lowest free one is used.
        taken: `int32[N, L]`, distinct; the first `T` are those of the trained items. level_sizes: `L` sizes.

    Returns:
        Codes and the codes of the stand-ins, both `int32[n, L]`.

    Raises:
        RecipeError: no trained item has a free code beside it for some new item.
    """
    prefixes = group_ids(taken[:, :-1])
    room = level_sizes[-1] - np.bincount(prefixes)
    free = int(room[np.unique(prefixes[: len(trained)])].sum())
    if free < len(new):
        raise RecipeError(
            f"there are {free} free codes beside trained items for {len(new)} new items. Build the index again with a "
            "larger last level (with collisions: digit it is as large as the largest group), and train on it."
        )
    beside = _neighbours_with_room(new, trained, prefixes, room)
    codes = np.empty((len(new), taken.shape[1]), np.int32)
    codes[:, :-1] = taken[beside, :-1]
    last = taken.shape[1] - 1
    if last < len(codebooks):
        residuals, codebook = left_over(new, codebooks[:last], codes[:, :last]), codebooks[last]
    else:  # digits: every item is nearest to 0, then to 1, ...
        residuals = np.zeros((len(new), 1), np.float32)
        codebook = np.sqrt(np.arange(level_sizes[last], dtype=np.float32))[:, None]
    occupied = prefixes * level_sizes[last] + taken[:, last]
    codes[:, last] = place(residuals, prefixes[beside], codebook, 1, occupied)
    return codes, taken[beside]


def _neighbours_with_room(
    new: Vectors, trained: Vectors, prefixes: NDArray[np.int64], room: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Rounds in which every new item asks its nearest trained item with room; of several, the closest are taken.

    Args:
        prefixes: `int64[N]`, of all items, trained ones first. room: free codes a prefix; used up.

    Returns:
        `int64[n]`, rows of `trained`.
    """
    found = np.full(len(new), -1)
    waiting, width = np.arange(len(new)), NEIGHBOURS
    while waiting.size:
        width = min(width, len(trained))
        rows, distances = _nearest(new[waiting], trained, width)
        asking = np.arange(len(waiting))
        while asking.size:
            has_room = room[prefixes[rows[asking]]] > 0  # (a, width)
            asking, has_room = asking[has_room.any(1)], has_room[has_room.any(1)]
            wish = has_room.argmax(1)
            prefix = prefixes[rows[asking, wish]]
            accepted = rank_within(prefix, distances[asking, wish]) < room[prefix]
            found[waiting[asking[accepted]]] = rows[asking, wish][accepted]
            np.subtract.at(room, prefix[accepted], 1)
            asking = asking[~accepted]
        waiting, width = waiting[found[waiting] < 0], 4 * width
    return found


def _nearest(points: Vectors, among: Vectors, width: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The `width` nearest of `float32[T, E]` to each point, nearest first, and their distances; equal ones by row."""
    rows, distances = np.empty((len(points), width), np.int64), np.empty((len(points), width), np.float32)
    step = max(1, DISTANCES_AT_ONCE // len(among))
    for start in tqdm(range(0, len(points), step), desc="find stand-ins", unit="block", delay=2, leave=False):
        costs = squared_distances(points[start : start + step], among)
        some = np.sort(np.argpartition(costs, width - 1, axis=1)[:, :width], axis=1)
        of_some = np.take_along_axis(costs, some, 1)
        order = np.argsort(of_some, axis=1, kind="stable")
        rows[start : start + step] = np.take_along_axis(some, order, 1)
        distances[start : start + step] = np.take_along_axis(of_some, order, 1)
    return rows, distances
