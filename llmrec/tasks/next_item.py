"""The next-item task: one object renders every prompt, for training, evaluation and serving alike.

If what follows a history's prompt is the next item's code, and the prompt of the longer history begins with exactly
that, then one *packed* sample trains every position of a history in one pass. `NextItemTask` checks this on the
template itself; a template with words after the history still works, one sample a target.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np

from llmrec.data.catalog import Catalog
from llmrec.errors import RecipeError
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.tasks.template import ItemCode, PromptTemplate, encode_segments, without_fences
from llmrec.types import Rows

REQUEST = "request"
"""What a wording calls a request in words: `{{ item.request }}`."""


class Sample(NamedTuple):
    """A training sequence.

    Args:
        input_ids: token ids. levels: beside each token the level that is trained there, -1 where no loss is taken.
    """

    input_ids: list[int]
    levels: list[int]


class NextItemTask:
    """Histories to token ids.

    Args:
        template: the wording. catalog: the items' columns. item_tokenizer: codes and text to ids.
        max_history: items of a history that a prompt holds (the latest), at least 1.
        search: the wording of a request in words, where the model has learned to answer one; see `query`.

    Raises:
        RecipeError: `max_history` is under 1, or the template renders no token for an empty history.
    """

    def __init__(
        self,
        template: PromptTemplate,
        catalog: Catalog,
        item_tokenizer: ItemTokenizer,
        max_history: int = 50,
        search: PromptTemplate | None = None,
    ) -> None:
        if max_history < 1:
            raise RecipeError(f"task.max_history is {max_history}; give at least 1.")
        self.template, self.catalog, self.items, self.max_history = template, catalog, item_tokenizer, max_history
        self.search = search
        self._encode_template = lru_cache(maxsize=10_000)(self._encode_template_uncached)
        self._item = lru_cache(maxsize=100_000)(self._item_uncached)
        if not self.prompt([]):
            raise RecipeError("the prompt of an empty history has no token. Begin the template with a few words.")
        self.is_packable = self._check_packable()

    def over(self, index: ItemIndex, catalog: Catalog | None = None) -> NextItemTask:
        """The same prompts, and the same tokens, over another index; of another catalog where one is given."""
        items = ItemTokenizer(self.items.tokenizer, index)
        catalog = self.catalog if catalog is None else catalog
        return NextItemTask(self.template, catalog, items, self.max_history, self.search)

    def searched_by(self, wording: PromptTemplate | None) -> NextItemTask:
        """The same, with another wording for requests in words; with None, without requests."""
        return NextItemTask(self.template, self.catalog, self.items, self.max_history, wording)

    def prompt(self, history: Rows | Sequence[int]) -> list[int]:
        """The token ids after which the next item's code is expected; only the last `max_history` items are shown."""
        return self._encode(history[-self.max_history :])[0]

    def query(self, text: str) -> list[int]:
        """The token ids after which the code of the item is expected that a request in words asks for.

        The wording is that of a single item, and the text stands wherever a column of it would.

        Args:
            text: encoded as plain text, so that it is never a control token or an item.

        Raises:
            RecipeError: there is no wording for requests, or it shows more of an item than its columns.
        """
        if self.search is None:
            raise RecipeError(
                "this model has not learned to find items by words. Train one with train.tasks: [{kind: "
                "request_to_item}], see docs/language.md."
            )
        shown = dict.fromkeys([*self.catalog.table.column_names, REQUEST], without_fences(text))
        segments = self.search.segments([shown])
        return encode_segments(segments, self._encode_template, self.items.encode_text, self.items.encode)[0]

    def shared_prompt(self) -> list[int]:
        """The token ids that prompts begin with, whatever the history: the instruction."""
        some = [self.prompt([]), *(self.prompt([row]) for row in range(min(2, len(self.catalog))))]
        return [alike[0] for alike in takewhile(lambda ids: len(set(ids)) == 1, zip(*some, strict=False))]

    def packed(self, sequence: Rows) -> Iterator[Sample]:
        """Samples that train every item of a sequence once.

        A sequence longer than `max_history + 1` is cut into windows from its end; a window repeats half of the one
        before it as context, without loss.

        Raises:
            RecipeError: the template has words after the history, so positions cannot share one pass.
        """
        if not self.is_packable:
            raise RecipeError(
                "the prompt template has words after the history, so it cannot be packed. Set train.packing: false."
            )
        end, window = len(sequence), self.max_history + 1
        while end > 0:
            start = max(0, end - window)
            fresh_from = 0 if start == 0 else (start + end) // 2
            yield self._sample(sequence[start:end], fresh_from - start)
            end = fresh_from

    def single(self, history: Rows | Sequence[int], target: int) -> Sample:
        """One history and its next item; loss on the target's code only."""
        return self.listed(history, [target])

    def listed(self, history: Rows | Sequence[int], items: Rows | Sequence[int]) -> Sample:
        """One history and the list of items behind it, code after code; loss on their codes only.

        Where the task can be packed, this begins as the prompt of the longer history does.
        """
        prompt = self.prompt(history)
        codes = [self.items.encode(int(row)) for row in items]
        ids = [token for code in codes for token in code]
        return Sample(prompt + ids, [-1] * len(prompt) + [level for code in codes for level in range(len(code))])

    def _sample(self, rows: Rows, first_trained: int) -> Sample:
        ids, levels = self._encode(rows)
        seen = np.cumsum(np.asarray(levels) == 0) - 1  # which item a token belongs to
        trained = [
            level if level >= 0 and item >= first_trained else -1 for level, item in zip(levels, seen, strict=True)
        ]
        return Sample(ids, trained)

    def _encode(self, rows: Rows | Sequence[int]) -> tuple[list[int], list[int]]:
        segments = self.template.segments([self._item(int(row)) for row in rows])
        return encode_segments(segments, self._encode_template, self.items.encode_text, self.items.encode)

    def _item_uncached(self, row: int) -> dict[str, Any]:
        columns = {name: without_fences(value) for name, value in self.catalog.record(row).items()}
        return {**columns, "code": ItemCode(row)}

    def _encode_template_uncached(self, text: str) -> tuple[int, ...]:
        return tuple(self.items.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _check_packable(self) -> bool:
        """Whether `prompt(h) + code(next)` begins `prompt(h + [next])`, and names each item's code once.

        Tried on histories of zero to two items.
        """
        rows = [row % len(self.catalog) for row in range(3)]
        for length in range(3):
            expected = self._encode(rows[:length])[0] + self.items.encode(rows[length])
            ids, levels = self._encode(rows[: length + 1])
            if ids[: len(expected)] != expected or levels.count(0) != length + 1:
                return False
        return True
