"""Training rows in the columns TRL reads: packed or single samples, lists, and tasks in plain language."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from tqdm.auto import tqdm

from llmrec.data.interactions import Interactions
from llmrec.tasks.alignment.base import AlignmentTask
from llmrec.tasks.lists import NextLists
from llmrec.tasks.next_item import NextItemTask, Sample

IGNORED = -100  # torch's and TRL's "no loss here"


def training_samples(
    task: NextItemTask, train: Interactions, packing: bool, lists: NextLists | None = None
) -> Iterator[Sample]:
    """Every training sample, user by user in row order, and the lists behind them.

    Args:
        task: renders. train: train rows only. packing: one sample a user instead of one a target.
        lists: what else is learned, one sample each.
    """
    for of_user in samples_by_user(task, train, packing):
        yield from of_user
    if lists is not None:
        for history, items in tqdm(
            zip(lists.histories, lists.observed, strict=True), desc="render", unit="list", total=len(lists), leave=False
        ):
            yield task.listed(history, items)


def samples_by_user(task: NextItemTask, train: Interactions, packing: bool) -> Iterator[list[Sample]]:
    """The samples of each user, in row order; of packed ones the first ends with the user's last item."""
    for history in tqdm(train.histories, desc="render", unit="user", total=len(train.users), leave=False):
        if packing:
            yield list(task.packed(history))
        else:
            yield [task.single(history[:position], int(history[position])) for position in range(len(history))]


def training_dataset(
    task: NextItemTask,
    train: Interactions,
    packing: bool,
    lists: NextLists | None = None,
    beside: Sequence[AlignmentTask] = (),
    seed: int = 0,
) -> Dataset:
    """A `datasets.Dataset` with `input_ids`, `labels` (-100 where no loss is taken) and `length`.

    Args:
        beside: tasks in plain language, whose samples come behind the others. seed: of what they ask and how.
    """
    columns: dict[str, list[list[int]]] = {"input_ids": [], "labels": []}

    def add(samples: Iterable[Sample]) -> None:
        for ids, levels in samples:
            columns["input_ids"].append(ids)
            columns["labels"].append(np.where(np.asarray(levels) >= 0, ids, IGNORED).tolist())

    add(training_samples(task, train, packing, lists))
    count = len(columns["labels"])
    for number, other in enumerate(beside):
        own_seed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        add(tqdm(other.samples(task, train, count, own_seed), desc=other.name, unit="sample", leave=False))
    return Dataset.from_dict({**columns, "length": [len(ids) for ids in columns["input_ids"]]})


class PadRight:
    """Collates samples of different lengths.

    Args:
        pad: the token id behind the end; it may equal the end-of-text token, because the mask says what is padding.
    """

    def __init__(self, pad: int) -> None:
        self.pad = pad

    def __call__(self, samples: list[dict[str, list[int]]]) -> dict[str, Tensor]:
        """`input_ids`, `labels`, `attention_mask`, each `int64[B, T]`."""
        width = max(len(sample["input_ids"]) for sample in samples)

        def padded(column: str, fill: int) -> Tensor:
            return torch.tensor([[*s[column], *[fill] * (width - len(s[column]))] for s in samples])

        lengths = torch.tensor([len(sample["input_ids"]) for sample in samples])
        return {
            "input_ids": padded("input_ids", self.pad),
            "labels": padded("labels", IGNORED),
            "attention_mask": (torch.arange(width) < lengths[:, None]).long(),
        }
