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
from llmrec.trainers.completions import Branches, pack
from llmrec.trainers.samples import IGNORED, PadRight, samples_by_user
from llmrec.trainers.teacher_lists import SCORES

NOWHERE = -1
"""In place of a node where no token is trained."""


def distillation_dataset(task: NextItemTask, train: Interactions, packing: bool) -> Dataset:
    """Training rows with the nodes of the trie that their tokens are drawn from.

    Args:
        task: the student's, or the teacher's. train: train rows only. packing: one sample a user instead of one a
            target.

    Returns:
        `input_ids`, `labels` (-100 where no loss is taken), `nodes` (`NOWHERE` there), `length`, `user`, and `first`,
        how many tokens are trained in the rows before.
    """
    samples, users = [], []
    for user, of_user in enumerate(samples_by_user(task, train, packing)):
        samples += of_user
        users += [user] * len(of_user)
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
            "user": users,
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
            `teacher_labels`. width: most items of a teacher's list.
    """

    def __init__(self, pad: int, states: NDArray[np.float16] | None = None, width: int = 0) -> None:
        super().__init__(pad)
        self.states, self.width = states, width

    def __call__(self, samples: list[dict[str, Any]]) -> dict[str, Tensor]:
        """The tensors of `PadRight`, `nodes` as `int64[B, T]`, and what comes from the teacher.

        That is `teacher_states`, `float16[n, B, D]` of the `n` trained tokens in their order; or `teacher_ids` and
        `teacher_labels`, `int64[B, T']`. Where rows have lists, also the tensors of `pack`, with the items of the lists
        behind each row's tokens, and `teacher_scores`, `float32[P, K]`.
        """
        batch = super().__call__(samples)
        if any(sample.get("starts") for sample in samples):
            batch |= self._with_branches(samples)
        width = batch["input_ids"].shape[1]
        batch["labels"] = padded([sample["labels"] for sample in samples], IGNORED, width)
        batch["nodes"] = padded([sample["nodes"] for sample in samples], NOWHERE, width)
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

    def _with_branches(self, samples: list[dict[str, Any]]) -> dict[str, Tensor]:
        """`pack` of the rows with the lists that leave them."""
        lists = [[Branches(*each) for each in zip(s["starts"], s["codes"], strict=True)] for s in samples]
        packed = pack([(s["input_ids"], own) for s, own in zip(samples, lists, strict=True)], self.pad, self.width)
        scores = [one for sample in samples for one in sample[SCORES]]
        packed["teacher_scores"] = torch.tensor([[*one, *[0.0] * (self.width - len(one))] for one in scores])
        return packed


def padded(lists: list[list[int]], fill: int, width: int | None = None) -> Tensor:
    """`int64[B, T]`, filled up behind the end, to `width` or to the longest."""
    width = max(map(len, lists)) if width is None else width
    return torch.tensor([[*one, *[fill] * (width - len(one))] for one in lists])
