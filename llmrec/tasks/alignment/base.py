"""What the alignment tasks share: wordings, how many samples, and how one becomes a training sequence.

The codes of items are new words. LC-Rec (Zheng et al. 2023, https://arxiv.org/abs/2311.09049) trains beside the next
item a mixture of tasks whose question or answer is in plain language, so that the model learns what the codes mean;
MiniOneRec (https://arxiv.org/abs/2510.24431) does the same. A question is rendered as every prompt is, by a template;
an answer is an item's code, or a text with the end-of-text token behind it.
"""

from __future__ import annotations

import hashlib
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
        request: words that stand in the template in place of the item's own, see `NextItemTask.query`.
    """

    shown: Rows
    answer: int | str
    request: str | None = None


class AlignmentTask(Component):
    """One task of the mixture.

    Args:
        weight: samples of this task for each sample of the next-item task.
        phrasings: templates, files or shipped names (`alignment/title_to_item/1`); the shipped ones when empty. Each
            sample is asked in one of them, drawn by the seed.
    """

    name: ClassVar[str]
    """Of the folder of its shipped phrasings, and in the registry."""

    finds_by_words: ClassVar[bool] = False
    """Whether who has learned it finds an item by words; see `LLMRecommender.search`."""

    weight: float = Field(0.2, gt=0)
    phrasings: list[str] = []

    @abstractmethod
    def questions(self, task: NextItemTask, train: Interactions) -> list[Question]:
        """Everything that can be asked, from the catalog and train rows alone."""

    def worded(self, question: Question, rng: np.random.Generator) -> Question:
        """The question as it is asked this time."""
        return question

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
        wordings = [PromptTemplate(text) for text in self.wordings()]
        if any(question.request is not None for question in asked):
            asking = [task.searched_by(wording) for wording in wordings]
        else:
            asking = [NextItemTask(wording, task.catalog, task.items, task.max_history) for wording in wordings]
        rng, wanted = np.random.default_rng(seed), round(self.weight * count)
        while wanted > 0:
            for number in rng.permutation(len(asked))[:wanted].tolist():
                yield _sample(asking[int(rng.integers(len(asking)))], self.worded(asked[number], rng))
            wanted -= len(asked)

    def fingerprint(self) -> str:
        """Changes when a wording changes, shipped or not; see `Component.fingerprint`."""
        return hashlib.sha256("\0".join(self.wordings()).encode()).hexdigest()

    def wordings(self) -> list[str]:
        """The templates' texts."""
        shipped = [name for name in assets.names("prompts") if name.startswith(f"alignment/{self.name}/")]
        if not self.phrasings:
            return [assets.path("prompts", name).read_text() for name in shipped]
        return [
            (Path(name) if Path(name).is_file() else assets.path("prompts", f"{name}.jinja")).read_text()
            for name in self.phrasings
        ]


def _sample(asking: NextItemTask, question: Question) -> Sample:
    prompt = asking.prompt(question.shown) if question.request is None else asking.query(question.request)
    if isinstance(question.answer, int):
        answer = asking.items.encode(question.answer)
        return Sample(prompt + answer, [-1] * len(prompt) + list(range(len(answer))))
    answer = [*asking.items.encode_text(question.answer), *_end(asking)]
    return Sample(prompt + answer, [-1] * len(prompt) + [TEXT] * len(answer))


def _end(asking: NextItemTask) -> list[int]:
    """The end-of-text token, where the tokenizer has one."""
    token = asking.items.tokenizer.eos_token_id
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
