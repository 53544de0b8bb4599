"""The student of a distillation: some layers of the teacher, or a smaller language model with the same item index."""

from __future__ import annotations

import copy
from typing import Literal

import numpy as np
from pydantic import Field
from torch import nn
from transformers import PreTrainedModel

from llmrec.base_models import keep_layers, load_model
from llmrec.component import Component
from llmrec.errors import RecipeError
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.recommenders.pruning import keep_rows, pruned_task
from llmrec.tasks.next_item import NextItemTask
from llmrec.trainers.item_rows import add_item_rows


class Student(Component):
    """Which model learns from the teacher.

    Args:
        model: a folder or Hub name of another causal language model; the teacher's own layers when None. It gets the
            item tokens in its own tokenizer, whose first values come from the titles.
        layers: how many to keep; all when None.
        choose: the `first` layers, or layers at `even` distances, the first and the last among them.
        prune_vocabulary: drop the rows of words that no prompt holds; see `llmrec.recommenders.pruning`.
    """

    model: str | None = None
    layers: int | None = Field(None, ge=1)
    choose: Literal["first", "even"] = "first"
    prune_vocabulary: bool = True

    def make(self, teacher: PreTrainedModel, task: NextItemTask, seed: int) -> tuple[PreTrainedModel, NextItemTask]:
        """A model to train, and the teacher's task in its tokens, without requests in words: it learns next items only.

        The teacher stays as it is.

        Raises:
            RecipeError: the model has fewer layers.
            ArtifactError: `model` cannot be found, or its tokenizer cannot be pruned.
        """
        if self.model is None:
            student = _copy_of_layers(teacher, self._kept(len(teacher.get_decoder().layers)))
        else:
            student, tokenizer = load_model(self.model)
            items = ItemTokenizer.bind(tokenizer, task.items.index)
            task = NextItemTask(task.template, task.catalog, items, task.max_history)
            add_item_rows(student, items, task.catalog, "text", seed)
            keep_layers(student, self._kept(len(student.get_decoder().layers)))
        if self.prune_vocabulary:
            task, rows = pruned_task(task)
            keep_rows(student, rows)
        task = task.searched_by(None)
        return student.requires_grad_(True), task  # those of a teacher are frozen

    def _kept(self, depth: int) -> list[int]:
        layers = depth if self.layers is None else self.layers
        if layers > depth:
            raise RecipeError(f"student.layers is {layers}; this model has 1 to {depth}.")
        if self.choose == "first":
            return list(range(layers))
        return np.linspace(0, depth - 1, layers).round().astype(int).tolist()


def _copy_of_layers(teacher: PreTrainedModel, kept: list[int]) -> PreTrainedModel:
    """A copy with some of the layers; the others are never copied."""
    layers = teacher.get_decoder().layers
    left_out = {id(layer): nn.Identity() for number, layer in enumerate(layers) if number not in kept}
    student = copy.deepcopy(teacher, left_out)
    keep_layers(student, kept)
    return student
