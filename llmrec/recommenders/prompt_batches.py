"""Histories as prompts, and other prompts, in batches of about equal length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from llmrec.tasks.next_item import NextItemTask
from llmrec.types import Ragged


def prompt_batches(
    task: NextItemTask, histories: Ragged, size: int, what: str, progress: bool
) -> Iterator[tuple[NDArray[np.int64], list[list[int]]]]:
    """The users, those with histories of like length together, and their prompts.

    Args:
        size: users a batch. what: for the bar on stderr, which shows users per second. progress: whether to show it.
    """
    by_length = np.argsort(np.minimum(histories.lengths, task.max_history), kind="stable")
    with tqdm(total=len(by_length), desc=what, unit="user", disable=not progress) as bar:
        for start in range(0, len(by_length), size):
            users = by_length[start : start + size]
            yield users, [task.prompt(history) for history in histories.take(users)]
            bar.update(len(users))


def batches_of_prompts(
    prompts: Sequence[list[int]], size: int, what: str, progress: bool
) -> Iterator[tuple[NDArray[np.int64], list[list[int]]]]:
    """The numbers of the prompts, those of like length together, and the prompts; see `prompt_batches`."""
    by_length = np.argsort([len(prompt) for prompt in prompts], kind="stable")
    with tqdm(total=len(by_length), desc=what, unit="request", disable=not progress) as bar:
        for start in range(0, len(by_length), size):
            chosen = by_length[start : start + size]
            yield chosen, [prompts[number] for number in chosen]
            bar.update(len(chosen))
