"""Prompts in batches of about equal length, each rendered when its batch comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from llmrec.tasks.next_item import NextItemTask
from llmrec.types import Ragged

Batch = tuple[NDArray[np.int64], list[list[int]]]
"""`n` numbers of prompts, and the prompts."""


def prompt_batches(
    lengths: Sequence[int] | NDArray[np.int64],
    prompt: Callable[[int], list[int]],
    size: int,
    what: str,
    progress: bool,
    unit: str = "user",
) -> Iterator[Batch]:
    """All prompts, those of like length together.

    Args:
        lengths: one a prompt, in whatever is alike for like prompts. prompt: renders the one with a number.
        size: prompts a batch. what: for the bar on stderr, which counts by `unit`. progress: whether to show it.
    """
    by_length = np.argsort(lengths, kind="stable")
    with tqdm(total=len(by_length), desc=what, unit=unit, disable=not progress) as bar:
        for start in range(0, len(by_length), size):
            numbers = by_length[start : start + size]
            yield numbers, [prompt(number) for number in numbers.tolist()]
            bar.update(len(numbers))


def history_batches(task: NextItemTask, histories: Ragged, size: int, what: str, progress: bool) -> Iterator[Batch]:
    """Users and the prompts of their histories; see `prompt_batches`."""
    lengths = np.minimum(histories.lengths, task.max_history)
    return prompt_batches(lengths, lambda user: task.prompt(histories[user]), size, what, progress)
