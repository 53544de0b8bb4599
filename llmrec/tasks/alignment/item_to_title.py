"""What is this item called? The other way round than `title_to_item`."""

from __future__ import annotations

from typing import ClassVar

from llmrec.data.interactions import Interactions
from llmrec.tasks.alignment.base import AlignmentTask, Question, one, texts_of
from llmrec.tasks.next_item import NextItemTask


class ItemToTitle(AlignmentTask):
    """The title of an item, word by word."""

    name: ClassVar[str] = "item_to_title"

    def questions(self, task: NextItemTask, train: Interactions) -> list[Question]:
        """One an item."""
        return [Question(one(row), title) for row, title in texts_of(task, "title").items()]
