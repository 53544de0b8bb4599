"""Codes to the arrays of a trie: one sort, then a few passes over the sorted items, a level at a time.

A code and its item row are packed into one 64-bit number where they fit (ten million items on 4 levels of 256 do), so
that the sort is NumPy's fastest; the levels are then read back out of the sorted numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmrec.errors import ArtifactError
from llmrec.indexes.base import END

Ints = NDArray[np.int64]


class TrieArrays(NamedTuple):
    """See `llmrec.indexes.trie.Trie`."""

    first_child: NDArray[np.int32]
    code: NDArray[np.int16] | NDArray[np.int32]
    level_start: tuple[int, ...]
    item_rows: NDArray[np.int32]
    item_spans: NDArray[np.int32] | None
    fan_out: int
    longest_run: int
    equal_lengths: bool


def build_arrays(codes: NDArray[np.int32], level_sizes: tuple[int, ...]) -> TrieArrays:
    """Sort the codes and number their prefixes level by level.

    Args:
        codes: `int32[N, L]`, `END` behind shorter ones. level_sizes: `L` codebook sizes.

    Raises:
        ArtifactError: the code of an item begins the longer code of another, so no search could tell them apart.
    """
    items, levels = codes.shape
    order, column = _in_order(codes, level_sizes)
    code_type = np.int16 if max(level_sizes, default=0) <= 2**15 else np.int32
    changed = np.zeros(items, bool)
    changed[:1] = True
    starts, sizes = np.zeros(1, np.int64), np.full(1, items)  # of the nodes of a level, among the sorted items
    level_start, node_codes, spans = [0, 1], [np.full(1, END, code_type)], [np.stack([starts, sizes], 1)]
    first_child: list[Ints] = []
    for level in range(levels):
        values = column(level)
        changed[1:] |= values[1:] != values[:-1]
        begin = np.flatnonzero(changed)
        size = np.diff(begin, append=items)
        if (ended := values[begin] == END).any():
            _check_leaves(starts, sizes, begin[ended], size[ended], codes, order)
            begin, size = begin[~ended], size[~ended]
        first_child.append(level_start[-1] + np.searchsorted(begin, starts))
        node_codes.append(values[begin].astype(code_type))
        level_start.append(level_start[-1] + len(begin))
        starts, sizes = begin, size
        spans.append(np.stack([starts, sizes], 1))
    children = np.concatenate([*first_child, [level_start[-1]]]).astype(np.int32)
    return TrieArrays(
        children,
        np.concatenate(node_codes),
        tuple(level_start),
        order.astype(np.int32),
        None if len(starts) == items else np.concatenate(spans).astype(np.int32),
        int(np.diff(children).max(initial=0)),
        _longest_run(first_child, level_start),
        items == 0 or int(codes.min()) != END,
    )


def _in_order(codes: NDArray[np.int32], sizes: tuple[int, ...]) -> tuple[Ints, Callable[[int], NDArray[np.int32]]]:
    """Item rows in the order of their codes (equal ones in row order), and a function to the codes of a level so."""
    items, levels = codes.shape
    shift = 1 if items and int(codes.min()) == END else 0  # END comes first
    bits = [(size - 1 + shift).bit_length() for size in sizes]
    row_bits = max(items - 1, 1).bit_length()
    if sum(bits) + row_bits > 63:
        order = np.lexsort(tuple(codes[:, level] for level in reversed(range(levels))))
        return order, lambda level: codes[order, level]
    packed = np.zeros(items, np.int64)
    for level, width in enumerate(bits):
        packed <<= width
        packed |= codes[:, level] + shift
    packed <<= row_bits
    packed |= np.arange(items)
    packed.sort()
    order = packed & ((1 << row_bits) - 1)
    packed >>= row_bits
    below = np.cumsum([0, *bits[::-1]])[::-1][1:]  # bits behind each level
    return order, lambda level: ((packed >> below[level]) & ((1 << bits[level]) - 1)).astype(np.int32) - shift


def _check_leaves(starts: Ints, sizes: Ints, begin: Ints, size: Ints, codes: NDArray[np.int32], order: Ints) -> None:
    """Whether the nodes whose code ends hold no other item; their items, `begin` and `size`, come first in the node."""
    at = np.searchsorted(starts, begin).clip(max=max(len(starts) - 1, 0))
    wrong = np.flatnonzero((starts[at] == begin) & (sizes[at] != size)) if len(starts) else np.empty(0, np.int64)
    if wrong.size:
        row = int(order[begin[wrong[0]]])
        raise ArtifactError(
            f"the code {codes[row].tolist()} of item row {row} begins the code of another item. Codes of different "
            "lengths need an end that only the end can have. Rebuild the index."
        )


def _longest_run(first_child: list[Ints], level_start: list[int]) -> int:
    """Most steps from a node along single children, from the deepest level up."""
    longest, below = 0, np.zeros(level_start[-1] - level_start[-2], np.int32)
    for level in reversed(range(len(first_child))):
        children = first_child[level]
        single = np.diff(children, append=level_start[level + 2]) == 1
        steps = np.zeros(len(children), np.int32)
        steps[single] = below[children[single] - level_start[level + 1]] + 1
        longest, below = max(longest, int(steps.max(initial=0))), steps
    return longest
