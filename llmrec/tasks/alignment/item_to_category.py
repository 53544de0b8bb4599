"""What kind of thing is this item? The coarsest meaning of a code."""

from __future__ import annotations

from typing import ClassVar

from llmrec.data.interactions import Interactions
from llmrec.tasks.alignment.base import AlignmentTask, Question, one, texts_of
from llmrec.tasks.next_item import NextItemTask


class ItemToCategory(AlignmentTask):
    """What a column says of an item, word by word.

    Args:
        column: of the catalog.
    """

    name: ClassVar[str] = "item_to_category"

    column: str = "category"

    def questions(self, task: NextItemTask, train: Interactions) -> list[Question]:
        """One an item that has the text."""
        return [Question(one(row), text) for row, text in texts_of(task, self.column).items()]
