"""A history in titles, and the code of what came next: preferences told in words."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from llmrec.data.interactions import Interactions
from llmrec.tasks.alignment.base import AlignmentTask, Question
from llmrec.tasks.next_item import NextItemTask


class TitlesToItem(AlignmentTask):
    """The next item after a history that is shown as titles alone.

    Args:
        shown: titles of a history that are shown, the latest; they are long.
    """

    name: ClassVar[str] = "titles_to_item"

    shown: int = Field(10, ge=1)

    def questions(self, task: NextItemTask, train: Interactions) -> list[Question]:
        """One a train event that has one before it."""
        starts = train.offsets[train.user_rows]
        events = np.flatnonzero(np.arange(len(train)) > starts)
        rows = train.item_rows
        return [
            Question(rows[max(int(starts[event]), event - self.shown) : event], int(rows[event]))
            for event in events.tolist()
        ]
