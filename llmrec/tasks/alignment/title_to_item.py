"""Which item has this title? What a search by words rests on."""

from __future__ import annotations

from typing import ClassVar

from llmrec.data.interactions import Interactions
from llmrec.tasks.alignment.base import AlignmentTask, Question, one, texts_of
from llmrec.tasks.next_item import NextItemTask


class TitleToItem(AlignmentTask):
    """The code of the item that is called so; of items with one title each is asked for."""

    name: ClassVar[str] = "title_to_item"
    finds_by_words: ClassVar[bool] = True

    def questions(self, task: NextItemTask, train: Interactions) -> list[Question]:
        """One an item."""
        return [Question(one(row), row) for row in texts_of(task, "title")]
