"""Which item does a person mean who types a few words? What `LLMRecommender.search` rests on.

Trained on whole titles alone, a model waits for whole titles. So each request is a few words of what the catalog says
of the item, drawn anew whenever the item is asked for: the cheap form of training on queries instead of on documents
(Zhuang et al. 2022, DSI-QG, https://arxiv.org/abs/2206.10128, where another model writes the queries).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from llmrec.data.interactions import Interactions
from llmrec.errors import DataError
from llmrec.tasks.alignment.base import AlignmentTask, Question, one, texts_of
from llmrec.tasks.next_item import NextItemTask


class RequestToItem(AlignmentTask):
    """The code of the item that some words of its texts ask for.

    Args:
        columns: of the catalog, each a source of requests of its own; those of the usual ones that it has when empty.
        most_words: of a request, which has between one and so many, in the order of the text.
        whole: share of requests that are the whole text instead, up to `longest` characters.
        longest: characters of a text that are read.
    """

    name: ClassVar[str] = "request_to_item"
    finds_by_words: ClassVar[bool] = True

    USUAL: ClassVar[tuple[str, ...]] = ("title", "description", "brand", "category", "categories")

    columns: list[str] = []
    most_words: int = Field(8, ge=1)
    whole: float = Field(0.2, ge=0, le=1)
    longest: int = Field(300, ge=1)

    def questions(self, task: NextItemTask, train: Interactions) -> list[Question]:
        """One a column of an item that says something, with the column's text."""
        usual = [name for name in self.USUAL if name in task.catalog.table.column_names]
        return [
            Question(one(row), row, text[: self.longest])
            for column in self.columns or usual
            for row, text in texts_of(task, column).items()
        ]

    def worded(self, question: Question, rng: np.random.Generator) -> Question:
        """The same question with some of the text's words, or with all."""
        if question.request is None:
            raise DataError("the question has no text.", fix="Ask one of `questions`.")
        words = question.request.split()
        if rng.random() < self.whole:
            return question
        count = int(rng.integers(1, min(self.most_words, len(words)) + 1))
        chosen = np.sort(rng.choice(len(words), count, replace=False))
        return question._replace(request=" ".join(words[at] for at in chosen))
