"""The teacher's own lists, by its constrained search, as branches of a student's training rows.

A list answers "what next?" after a beginning of a user's history, as in use. Its items leave the row where that prompt
ends, as in `llmrec.trainers.completions`, so the history is computed once for all trained tokens and all lists.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from pydantic import Field
from tqdm.auto import tqdm

from llmrec import artifact
from llmrec.component import Component
from llmrec.data.interactions import Interactions
from llmrec.recommenders.llm import LLMRecommender
from llmrec.tasks.next_item import NextItemTask
from llmrec.trainers.teacher import weights_digest

SCORES = "list_scores"
"""The column of what the teacher says of the items of its lists."""


class Lists(Component):
    """Which of the teacher's lists are learned from.

    Args:
        per_user: after a user's whole train history, after the one without its last item, and so on, so many.
        items: of a list. temperature: of the teacher's scores.
    """

    per_user: int = Field(1, ge=1)
    items: int = Field(10, ge=1)
    temperature: float = Field(1.0, gt=0)


def with_lists(
    rows: Dataset,
    task: NextItemTask,
    teacher: LLMRecommender,
    train: Interactions,
    settings: Lists,
    exclude_seen: bool,
    folder: Path,
    progress: bool,
) -> Dataset:
    """Rows with their lists; found once for a teacher, and kept in `folder` by content.

    A prompt that does not begin the row is left out: of histories that are longer than the prompt shows only the list
    before the last item is learned from, and rows that are not packed have none but the last.

    Args:
        rows: of `distillation_dataset` by `task`. The others are as in `Distill.train`.

    Returns:
        With the columns `starts` (tokens of the row that each list sees), `codes` (of each list, the token ids of its
        items) and `SCORES` (the teacher's, of each item).
    """
    found, scores = _lists(teacher, train, settings, exclude_seen, folder, progress)  # (U, per_user, items)
    columns: dict[str, list[list[Any]]] = {"starts": [], "codes": [], SCORES: []}
    done: set[int] = set()
    for row in tqdm(rows, desc="lists", unit="row", disable=not progress, leave=False):
        user = row["user"]
        own: list[tuple[int, list[list[int]], list[float]]] = []
        history = train.history(user)
        for back in range(settings.per_user if user not in done else 0):
            items = found[user, back]
            prompt = task.prompt(history[: len(history) - back])
            if (items >= 0).any() and row["input_ids"][: len(prompt)] == prompt:
                codes = [task.items.encode(int(item)) for item in items[items >= 0]]
                own.append((len(prompt), codes, scores[user, back][items >= 0].tolist()))
        if own:
            done.add(user)
        for place, column in enumerate(columns.values()):
            column.append([each[place] for each in own])
    for name, column in columns.items():
        rows = rows.add_column(name, column)
    return rows


def _lists(
    teacher: LLMRecommender, train: Interactions, settings: Lists, exclude_seen: bool, folder: Path, progress: bool
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """`(U, per_user, items)` rows and scores; -1 where a history is too short or a list too."""
    digest = hashlib.sha256(repr((settings, exclude_seen, teacher.decoding, teacher.task.template.digest)).encode())
    for array in (train.item_rows, train.offsets, teacher.task.items.index.codes):
        digest.update(np.ascontiguousarray(array).data)
    digest.update(weights_digest(teacher.model))
    path = folder / f"lists-{digest.hexdigest()[:16]}.npz"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        users = len(train.users)
        rows = np.full((users, settings.per_user, settings.items), -1, np.int32)
        scores = np.full(rows.shape, -np.inf, np.float32)
        lengths = np.diff(train.offsets)
        for back in range(settings.per_user):
            asked = np.flatnonzero(lengths > back)
            histories = [train.history(int(user))[: lengths[user] - back] for user in asked]
            answer = teacher.recommend(histories, settings.items, exclude_seen, progress=progress)
            rows[asked, back], scores[asked, back] = answer.rows, answer.scores
        with artifact.appears_whole(path) as partial, partial.open("wb") as file:
            np.savez(file, rows=rows, scores=scores)
    with np.load(path) as kept:
        return kept["rows"], kept["scores"]
