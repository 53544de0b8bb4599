"""Which item is described here? As `title_to_item`, from a longer text."""

from __future__ import annotations

from typing import ClassVar

from llmrec.data.interactions import Interactions
from llmrec.tasks.alignment.base import AlignmentTask, Question, one, texts_of
from llmrec.tasks.next_item import NextItemTask


class DescriptionToItem(AlignmentTask):
    """The code of the item that a column describes. The shipped phrasings show the column `description`.

    Args:
        column: the described items are those of which it says something; other phrasings may show others.
    """

    name: ClassVar[str] = "description_to_item"
    finds_by_words: ClassVar[bool] = True

    column: str = "description"

    def questions(self, task: NextItemTask, train: Interactions) -> list[Question]:
        """One an item that has the text."""
        return [Question(one(row), row) for row in texts_of(task, self.column)]
