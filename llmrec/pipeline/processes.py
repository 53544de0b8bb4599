"""A run by several processes: `accelerate launch` or `torchrun` start the same command once for each GPU.

Training is done together, each process on its part of every batch. All else (data, index, test questions, the folder)
is the work of the first process, while the others wait for the folder of a stage to appear: they share the disk.
"""

from __future__ import annotations

import os


def count() -> int:
    """How many processes do this run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The number of this one, from 0."""
    return int(os.environ.get("RANK", "0")) if count() > 1 else 0


def is_first() -> bool:
    """Whether this process does what is done once, and speaks."""
    return rank() == 0
