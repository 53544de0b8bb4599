"""A question about one item that is answered with one of a few words: Yes or No, or a number of stars.

The template gets `history`, as in `llmrec.tasks.template`, and `asked`, the item in question. What the user thought of
an item of the history is its `value` (None where that is not known).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from llmrec.data.catalog import Catalog
from llmrec.errors import RecipeError
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.indexes.plain_text import PlainText
from llmrec.tasks.template import ItemCode, PromptTemplate, encode_segments, without_fences
from llmrec.types import Rows

YES_NO = ("No", "Yes")
STARS = ("1", "2", "3", "4", "5")


class ChoiceTask:
    """Histories and an item to token ids.

    Args:
        template: the wording. catalog: the items' columns.
        words: a tokenizer; or an `ItemTokenizer`, and the template may print `code` of items too.
        answers: each one token of the vocabulary. max_history: items of a history that a prompt holds (the latest).

    Raises:
        RecipeError: `max_history` is under 1, or an answer is not one token of its own.
    """

    def __init__(
        self,
        template: PromptTemplate,
        catalog: Catalog,
        words: PreTrainedTokenizerBase | ItemTokenizer,
        answers: Sequence[str] = YES_NO,
        max_history: int = 50,
    ) -> None:
        if max_history < 1:
            raise RecipeError(f"max_history is {max_history}; give at least 1.")
        self.template, self.catalog, self.answers, self.max_history = template, catalog, tuple(answers), max_history
        self._items = words if isinstance(words, ItemTokenizer) else None
        self._tokenizer = words.tokenizer if isinstance(words, ItemTokenizer) else words
        self._encode_text = PlainText(self._tokenizer).encode
        found = [self._encode_words(answer) for answer in self.answers]
        if any(len(ids) != 1 for ids in found) or len({ids[0] for ids in found}) < len(found):
            tokens = ", ".join(f"'{answer}' is {ids}" for answer, ids in zip(self.answers, found, strict=True))
            raise RecipeError(f"every answer must be a token of its own: {tokens}. Give other words.")
        self.answer_ids = [ids[0] for ids in found]
        """The token id of each answer."""

    def prompt(
        self, history: Rows | Sequence[int], item: int, values: NDArray[np.float32] | Sequence[float] | None = None
    ) -> list[int]:
        """The token ids after which the answer is expected.

        Args:
            history: item rows, oldest first. item: the row asked about. values: one for each item of the history.

        Raises:
            RecipeError: the template cannot be rendered, or prints codes where there are none.
        """
        shown = history[-self.max_history :]
        of_shown = [None] * len(shown) if values is None else [f"{value:g}" for value in values[-self.max_history :]]
        items = [self._item(int(row), value) for row, value in zip(shown, of_shown, strict=True)]
        segments = self.template.segments(items, self._item(int(item), None))
        return encode_segments(segments, self._encode_words, self._encode_text, self._encode_item)[0]

    def _item(self, row: int, value: str | None) -> dict[str, Any]:
        columns = {name: without_fences(of) for name, of in self.catalog.record(row).items()}
        return {**columns, "code": ItemCode(row), "value": value}

    def _encode_words(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _encode_item(self, row: int) -> list[int]:
        if self._items is None:
            raise RecipeError("the prompt prints item.code, and there are no codes here. Give an ItemTokenizer.")
        return self._items.encode(row)
