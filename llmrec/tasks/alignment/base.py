"""What the alignment tasks share: wordings, how many samples, and how one becomes a training sequence.

The codes of items are new words. LC-Rec (Zheng et al. 2023, https://arxiv.org/abs/2311.09049) trains beside the next
item a mixture of tasks whose question or answer is in plain language, so that the model learns what the codes mean;
MiniOneRec (https://arxiv.org/abs/2510.24431) does the same. A question is rendered as every prompt is, by a template;
an answer is an item's code, or a text with the end-of-text token behind it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from llmrec import assets
from llmrec.component import Component
from llmrec.data.interactions import Interactions
from llmrec.errors import DataError
from llmrec.tasks.next_item import NextItemTask, Sample
from llmrec.tasks.template import PromptTemplate
from llmrec.types import Rows

TEXT = 1_000
"""The `Sample.levels` of a trained token that is no code."""


class Question(NamedTuple):
    """One thing to ask.

    Args:
        shown: item rows that the template may show. answer: an item row, or a text.
    """

    shown: Rows
    answer: int | str


class AlignmentTask(Component):
    """One task of the mixture.

    Args:
        weight: samples of this task for each sample of the next-item task.
        phrasings: templates, files or shipped names (`alignment/title_to_item/1`); the shipped ones when empty. Each
            sample is asked in one of them, drawn by the seed.
    """

    name: ClassVar[str]
    """Of the folder of its shipped phrasings, and in the registry."""

    weight: float = Field(0.2, gt=0)
    phrasings: list[str] = []

    @abstractmethod
    def questions(self, task: NextItemTask, train: Interactions) -> list[Question]:
        """Everything that can be asked, from the catalog and train rows alone."""

    def samples(self, task: NextItemTask, train: Interactions, count: int, seed: int) -> Iterator[Sample]:
        """`weight` times `count` samples; each question comes before any comes again.

        Args:
            task: renders histories, and knows the codes. count: samples of the next-item task.

        Raises:
            DataError: nothing can be asked.
        """
        asked = self.questions(task, train)
        if not asked:
            raise DataError(
                f"train.tasks: {self.name} has nothing to ask: no item has the text that it needs.",
                fix="Leave the task out, or name another column.",
            )
        wordings = [
            NextItemTask(PromptTemplate(text), task.catalog, task.items, task.max_history) for text in self.wordings()
        ]
        rng, wanted = np.random.default_rng(seed), round(self.weight * count)
        while wanted > 0:
            for number in rng.permutation(len(asked))[:wanted].tolist():
                yield _sample(wordings[int(rng.integers(len(wordings)))], asked[number])
            wanted -= len(asked)

    def wordings(self) -> list[str]:
        """The templates' texts."""
        shipped = [name for name in assets.names("prompts") if name.startswith(f"alignment/{self.name}/")]
        if not self.phrasings:
            return [assets.path("prompts", name).read_text() for name in shipped]
        return [
            (Path(name) if Path(name).is_file() else assets.path("prompts", f"{name}.jinja")).read_text()
            for name in self.phrasings
        ]


def _sample(wording: NextItemTask, question: Question) -> Sample:
    if isinstance(question.answer, int):
        return wording.single(question.shown, question.answer)
    prompt = wording.prompt(question.shown)
    answer = [*wording.items.encode_text(question.answer), *_end(wording)]
    return Sample(prompt + answer, [-1] * len(prompt) + [TEXT] * len(answer))


def _end(wording: NextItemTask) -> list[int]:
    """The end-of-text token, where the tokenizer has one."""
    token = wording.items.tokenizer.eos_token_id
    return [] if token is None else [int(token)]


def one(row: int) -> Rows:
    """A single item, as a template shows it."""
    return np.array([row], np.int32)


def texts_of(task: NextItemTask, column: str) -> dict[int, str]:
    """Item row -> what a column says of it, of the items of which it says something.

    Raises:
        DataError: the catalog has no such column.
    """
    table = task.catalog.table
    if column not in table.column_names:
        raise DataError(
            f"train.tasks: the catalog has no column '{column}'; it has {', '.join(table.column_names)}.",
            fix="Name one of these, or leave the task out.",
        )
    values: list[Any] = table[column].to_pylist()
    found = {row: ", ".join(map(str, v)) if isinstance(v, list) else str(v or "") for row, v in enumerate(values)}
    return {row: text.strip() for row, text in found.items() if text.strip()}
