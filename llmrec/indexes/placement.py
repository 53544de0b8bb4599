"""A place for every point where places are limited: whoever is closest to a code keeps it, the others go on.

Vectorised for millions of points: the unplaced ones are handled in blocks, and every round settles many at once.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from llmrec.indexes.kmeans import distances_to, nearest, squared_distances

BLOCK = 16384
"""Items without a place that are handled at once, which bounds memory to `BLOCK x K` distances."""

Codes = NDArray[np.int32]
Vectors = NDArray[np.float32]
Ask = Callable[[NDArray[np.int64]], tuple[NDArray[np.integer], NDArray[np.float32]]]


def place(
    points: Vectors,
    prefixes: NDArray[np.int64],
    codebook: Vectors,
    capacity: int,
    occupied: NDArray[np.int64],
    wishes: Codes | None = None,
) -> Codes:
    """A code for every point, at most `capacity` points a code under each prefix, none moved without need.

    Args:
        points: `float32[N, E]`.
        prefixes: `int64[N]`, each of at most `K * capacity` points, those already there included.
        codebook: `float32[K, E]`.
        capacity: most points on one code under one prefix.
        occupied: `int64[M]`, `prefix * K + code` of the points that are there already.
        wishes: `int32[N]`, the code that each point gets where there is room; -1, or None for all, is the nearest.
    """
    k = len(codebook)
    labels, distances = nearest(points, codebook)
    if wishes is not None:
        other = np.flatnonzero((wishes >= 0) & (wishes != labels))
        labels[other] = wishes[other]
        distances[other] = distances_to(points[other], codebook, labels[other])
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
        labels[move] = _fill(squared_distances(points[move], codebook), np.searchsorted(block, prefixes[move]), room)
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
    """A code for every point by its distances `float32[M, K]`; see `settle`."""

    def nearest_open(waiting: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        costs = np.where(room[groups[waiting]] > 0, distances[waiting], np.inf)
        wishes = costs.argmin(axis=1)
        return wishes, costs[np.arange(len(wishes)), wishes]

    return settle(groups, room, nearest_open)


def settle(groups: NDArray[np.int64], room: NDArray[np.int64], nearest_open: Ask) -> Codes:
    """Rounds in which every point without a place asks for one; of those that ask for the same, the closest get it.

    Equal distances go by row order.

    Args:
        groups: `int64[N]`, rows of `room`.
        room: `int64[G, K]`, contiguous: free places, enough for the points; used up.
        nearest_open: for the points that still wait (`int64[M]`, ascending; all in the first round) the nearest code
            with room in `room` as it is then, and the distance.

    Returns:
        `int32[N]`, the code of every point.
    """
    labels = np.zeros(len(groups), np.int32)
    waiting = np.arange(len(groups))
    places = room.reshape(-1)  # the same memory
    while waiting.size:  # each round fills at least one place in every group that still waits
        wishes, distances = nearest_open(waiting)
        slots = groups[waiting] * room.shape[1] + wishes
        accepted = rank_within(slots, distances) < places[slots]
        labels[waiting[accepted]] = wishes[accepted]
        np.subtract.at(places, slots[accepted], 1)
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
