"""Items for a request in plain language: the model writes the code of what is described, over the same trie.

It can as far as it was taught to: train with `train.tasks: [{kind: title_to_item}, ...]`. Every answer is an item of
the catalog, as always; price limits and the like are no business of a language model, so they are `candidates`
(`Catalog.where`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmrec import assets
from llmrec.errors import DataError
from llmrec.recommenders.checks import checked_candidates, checked_k
from llmrec.recommenders.llm import LLMRecommender
from llmrec.tasks.next_item import NextItemTask
from llmrec.tasks.template import PromptTemplate, encode_segments, without_fences
from llmrec.types import Candidates, PreparedCandidates, Ragged, ScoredItems

WORDING = "alignment/title_to_item/1"
"""How a request is asked when nothing else is said."""


def search(
    recommender: LLMRecommender,
    texts: Sequence[str],
    k: int = 10,
    candidates: Candidates | None = None,
    wording: str = WORDING,
) -> ScoredItems:
    """The best k items for each text; the score is `log p(item | request)` in nats.

    Args:
        texts: requests. candidates: as for `Recommender.recommend`.
        wording: a template that shows the request as if it were an item's text: a shipped name, or a file.

    Raises:
        DataError: a text is empty, k is below 1, or an item row is not in the catalog.
        RecipeError: the template shows something else than texts.
    """
    if blank := [number for number, text in enumerate(texts) if not text.strip()]:
        raise DataError(f"text {blank[0]} is empty.", fix="Say what is wanted, in a few words.")
    source = (
        Path(wording).read_text() if Path(wording).is_file() else assets.path("prompts", f"{wording}.jinja").read_text()
    )
    wanted = checked_candidates(recommender, candidates, len(texts))
    prompts = [prompt_of(recommender.task, source, text) for text in texts]
    decoding, size = recommender.decoding, recommender.decoding.batch_size
    parts = [
        recommender.engine.decode(
            prompts[start : start + size],
            checked_k(k),
            max(decoding.beams, k),
            decoding.normalize,
            None,
            wanted.slice(start, start + size) if isinstance(wanted, Ragged) else _shared(wanted),
            decoding.length_penalty,
            None,
            decoding.most_beams,
        )
        for start in range(0, len(prompts), size)
    ]
    if not parts:
        return ScoredItems(np.empty((0, k), np.int32), np.empty((0, k), np.float32))
    return ScoredItems(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("rows", "scores", "exact"))
    )


def prompt_of(task: NextItemTask, source: str, text: str) -> list[int]:
    """The token ids of a request; a text cannot become a control token, nor name an item by its code.

    Args:
        source: the template, with the request in place of every text of an item.
    """
    shown = {name: without_fences(text) for name in ("title", "description", *task.catalog.table.column_names)}
    tokenizer = task.items.tokenizer
    segments = PromptTemplate(source).segments([shown])
    return encode_segments(
        segments,
        lambda words: tokenizer(words, add_special_tokens=False)["input_ids"],
        task.items.encode_text,
        task.items.encode,
    )[0]


def _shared(wanted: Candidates | None) -> Any:
    return wanted.form if isinstance(wanted, PreparedCandidates) else None
