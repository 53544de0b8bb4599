"""Rows for a distillation: a student's training rows, the trie node of each trained token, and the teacher's rows.

Both models see the same histories, each in its own tokens. Trained tokens correspond one to one, in their order, since
an item has the same code in both; what the teacher says is joined by that order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor

from llmrec.data.interactions import Interactions
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.indexes.trie import ROOT
from llmrec.tasks.next_item import NextItemTask
from llmrec.trainers.samples import IGNORED, PadRight, training_samples

NOWHERE = -1
"""In place of a node where no token is trained."""


def distillation_dataset(task: NextItemTask, train: Interactions, packing: bool) -> Dataset:
    """Training rows with the nodes of the trie that their tokens are drawn from.

    Args:
        task: the student's, or the teacher's. train: train rows only. packing: one sample a user instead of one a
            target.

    Returns:
        `input_ids`, `labels` (-100 where no loss is taken), `nodes` (`NOWHERE` there), `length`, and `first`, how many
        tokens are trained in the rows before.
    """
    samples = list(training_samples(task, train, packing))
    lengths = [len(sample.input_ids) for sample in samples]
    ids = np.fromiter((token for sample in samples for token in sample.input_ids), np.int64, sum(lengths))
    levels = np.fromiter((level for sample in samples for level in sample.levels), np.int64, sum(lengths))
    ends = np.cumsum(lengths)[:-1]
    trained = np.cumsum([np.count_nonzero(part >= 0) for part in np.split(levels, ends)])
    columns = {
        "input_ids": ids,
        "labels": np.where(levels >= 0, ids, IGNORED),
        "nodes": nodes_of(task.items, ids, levels),
    }
    return Dataset.from_dict(
        {
            **{name: np.split(values, ends) for name, values in columns.items()},
            "length": lengths,
            "first": np.concatenate([[0], trained[:-1]]),
        }
    )


def nodes_of(items: ItemTokenizer, ids: NDArray[np.int64], levels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The trie node whose children each trained token is one of.

    Args:
        items: tokens and trie. ids: `int64[T]`, samples one after another.
        levels: `int64[T]`, the level that is trained at a token, -1 for none; an item's code is trained whole.

    Returns:
        `int64[T]`, `NOWHERE` where nothing is trained.
    """
    places = items.places(torch.device("cpu"))
    nodes = torch.full((len(ids),), NOWHERE)
    nodes[torch.from_numpy(levels == 0)] = ROOT
    for level in range(1, items.levels):
        at = torch.from_numpy(np.flatnonzero(levels == level))
        codes = places[torch.from_numpy(ids)[at - 1]] - int(items.book_starts[items.book_of_level[level - 1]])
        nodes[at] = items.trie.step(nodes[at - 1], codes)
    return nodes.numpy()


class PadDistillation(PadRight):
    """Collates rows, with what the teacher said of them or with what it is asked.

    Args:
        pad: the student's token id behind the end. states: `float16[n, B, D]`, the teacher's states at all trained
            tokens; None where the teacher runs beside the student, whose rows are then in `teacher_ids` and
            `teacher_labels`.
    """

    def __init__(self, pad: int, states: NDArray[np.float16] | None = None) -> None:
        super().__init__(pad)
        self.states = states

    def __call__(self, samples: list[dict[str, Any]]) -> dict[str, Tensor]:
        """The tensors of `PadRight`, `nodes` as `int64[B, T]`, and what comes from the teacher.

        That is `teacher_states`, `float16[n, B, D]` of the `n` trained tokens in their order; or `teacher_ids` and
        `teacher_labels`, `int64[B, T']`.
        """
        batch = {**super().__call__(samples), "nodes": padded([sample["nodes"] for sample in samples], NOWHERE)}
        if self.states is not None:
            parts = []
            for sample in samples:
                trained = sum(label != IGNORED for label in sample["labels"])
                parts.append(self.states[sample["first"] : sample["first"] + trained])
            batch["teacher_states"] = torch.from_numpy(np.concatenate(parts))
        elif "teacher_ids" in samples[0]:
            batch["teacher_ids"] = padded([sample["teacher_ids"] for sample in samples], self.pad)
            batch["teacher_labels"] = padded([sample["teacher_labels"] for sample in samples], IGNORED)
        return batch


def padded(lists: list[list[int]], fill: int) -> Tensor:
    """`int64[B, T]`, filled up behind the end."""
    width = max(map(len, lists))
    return torch.tensor([[*one, *[fill] * (width - len(one))] for one in lists])
