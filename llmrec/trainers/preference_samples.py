"""Preferences as rows for a trainer: a prompt, the choices that branch off it, and the codes of their items.

Choices of one user whose prompt begins another's prompt share its row (see `llmrec.trainers.completions`). With a
template that only grows, and histories up to `task.max_history`, that is one row a user.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from datasets import Dataset
from torch import Tensor
from tqdm.auto import tqdm

from llmrec.data.interactions import Interactions
from llmrec.tasks.negatives.base import NONE, Rows2D
from llmrec.tasks.next_item import NextItemTask
from llmrec.trainers.completions import Branches, pack
from llmrec.types import Rows

REFERENCE = "reference"
"""The column of the reference's log-probabilities, where they are computed beforehand."""


class Found(Protocol):
    """Choices, sorted by user and position: `Preferences` between items, or `ListPreferences`."""

    @property
    def users(self) -> Rows:
        """`int32[P]`, user rows."""
        ...

    @property
    def positions(self) -> Rows:
        """`int32[P]`; the history is the user's first so many train items."""
        ...

    def options(self, number: int) -> Rows2D:
        """`int32[n, m]`: what one choice is between, the chosen one first, as lists of items; `NONE` fills them up."""
        ...


def preference_dataset(task: NextItemTask, train: Interactions, found: Found) -> Dataset:
    """Pre-tokenized rows.

    Args:
        task: renders. train: what the preferences were made from. found: the preferences.

    Returns:
        `prompt` (token ids), `starts` (how many of them each choice sees), `codes` (of each choice, the token ids of
        its items or lists, the chosen one first), `length` (tokens of the row).
    """
    columns: dict[str, list[Any]] = {"prompt": [], "starts": [], "codes": [], "length": []}
    for prompt, choices in _rows(task, train, found):
        columns["prompt"].append(prompt)
        columns["starts"].append([choice.prompt for choice in choices])
        columns["codes"].append([choice.codes for choice in choices])
        branched = sum(len(code) - 1 for choice in choices for code in choice.codes)
        columns["length"].append(len(prompt) + branched)
    return Dataset.from_dict(columns)


def _rows(task: NextItemTask, train: Interactions, found: Found) -> Iterator[tuple[list[int], list[Branches]]]:
    """Prompts with their choices, the latest choice of a user first."""
    prompt: list[int] = []
    choices: list[Branches] = []
    owner = -1
    for number in tqdm(range(len(found.users) - 1, -1, -1), desc="render", unit="choice", leave=False):
        user, position = int(found.users[number]), int(found.positions[number])
        own = task.prompt(train.history(user)[:position])
        choice = Branches(len(own), [_code(task, option) for option in found.options(number)])
        if user == owner and prompt[: len(own)] == own:
            choices.append(choice)
            continue
        if choices:
            yield prompt, choices
        prompt, choices, owner = own, [choice], user
    if choices:
        yield prompt, choices


def _code(task: NextItemTask, option: Rows) -> list[int]:
    """The token ids of an item, or of the items of a list one after another; `NONE` has none."""
    return [token for row in option[option != NONE] for token in task.items.encode(int(row))]


class PackChoices:
    """Collates rows into one batch of `pack`.

    Args:
        pad: a token id for the end of shorter rows. width: items of a choice, the chosen one included.
    """

    def __init__(self, pad: int, width: int) -> None:
        self.pad, self.width = pad, width

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        """The tensors of `pack`, and `reference`, `float32[P, C]`, where the rows have it."""
        choices = [[Branches(*choice) for choice in zip(row["starts"], row["codes"], strict=True)] for row in rows]
        prompts = [row["prompt"] for row in rows]
        batch = pack(list(zip(prompts, choices, strict=True)), self.pad, self.width)
        if REFERENCE in rows[0]:
            batch[REFERENCE] = torch.tensor([choice for row in rows for choice in row[REFERENCE]])
        return batch
