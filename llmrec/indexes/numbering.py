"""Numbers as codes: the digits of a number on a few levels, or a number behind a path."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llmrec.errors import RecipeError
from llmrec.indexes.base import END

Levels = Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]
"""Codebook sizes, first level first."""


def sizes_of(codes: NDArray[np.int32]) -> tuple[int, ...]:
    """The smallest codebook sizes that hold `int32[N, L]`: the largest number of every level, plus one."""
    return tuple(int(size) for size in codes.max(axis=0) + 1)


def room_for(items: int, levels: Sequence[int]) -> int:
    """How many codes the levels make.

    Raises:
        RecipeError: fewer than there are items, or more than 64 bits can number.
    """
    room = math.prod(levels)
    if not items <= room < 2**63:
        raise RecipeError(
            f"index.levels {list(levels)} make {room} codes for {items} items; allowed are one an item to 2^63 - 1. "
            f"{'Enlarge a level or add one' if room < items else 'Take fewer or smaller levels'}, and build again."
        )
    return room


def codes_of(numbers: NDArray[np.int64], levels: Sequence[int]) -> NDArray[np.int32]:
    """Numbers below the product of the levels as digits, the most significant first: `int32[n, L]`."""
    return np.stack(np.unravel_index(numbers, tuple(levels)), axis=1).astype(np.int32)


def with_numbers(paths: NDArray[np.int32], numbers: NDArray[np.int64]) -> NDArray[np.int32]:
    """A number behind every path.

    Args:
        paths: `int32[N, L]`, `END` behind a shorter one. numbers: `int64[N]`; two paths of which one begins the other
            must not be followed by numbers that let a code begin another code.

    Returns:
        `int32[N, L + 1]`, `END` behind the number.
    """
    codes = np.full((len(paths), paths.shape[1] + 1), END, np.int32)
    codes[:, :-1] = paths
    codes[np.arange(len(paths)), (paths != END).sum(axis=1)] = numbers
    return codes
