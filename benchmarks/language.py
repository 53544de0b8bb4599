"""Does a recommender still understand words, and do its reasons stay with the truth?

    python benchmarks/language.py runs/office --store
    python benchmarks/language.py runs/office runs/office_with_tasks --users 200

`recall`: of items whose own title (or another column) is the request, the share that is among the best ten.
`named_elsewhere`: of reasons for recommended items, those that name a title which is neither in the history nor in the
list; counted in the sentences themselves, by looking for every title of the catalog that they quote.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import numpy as np
from common import report

from llmrec.pipeline.run import load_split, plan
from llmrec.recipe import load_recipe
from llmrec.recommenders.llm import LLMRecommender
from llmrec.recommenders.reasons import reasons

QUOTED = re.compile("“(.*?)”(?=[,:.]| and “)")


def recall(recommender: LLMRecommender, column: str, count: int, k: int) -> float:
    """The share of items that are found by their own text."""
    texts = [str(text or "") for text in recommender.catalog.table[column].to_pylist()]
    rows = np.random.default_rng(0).permutation([row for row, text in enumerate(texts) if text.strip()])[:count]
    found = recommender.search([texts[row] for row in rows], k)
    return float((found.rows == rows[:, None]).any(1).mean())


def named_elsewhere(recommender: LLMRecommender, histories: Any, k: int) -> dict[str, int]:
    """Reasons for whole lists, and how many of them name something else."""
    told, wrong, because = 0, 0, 0
    for history, rows in zip(histories, recommender.recommend(histories, k).rows, strict=True):
        allowed = {recommender.catalog.title(int(row)) for row in (*history, *rows) if row >= 0}
        for reason in reasons(recommender, history, rows):
            told += 1
            because += bool(reason.because)
            wrong += not set(QUOTED.findall(reason.text)) <= allowed
    return {"reasons": told, "with_items_of_the_history": because, "named_elsewhere": wrong}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, help="model folders of one data set")
    parser.add_argument("--column", default="title", help="of the catalog, whose texts are the requests")
    parser.add_argument("--items", type=int, default=500, help="requests")
    parser.add_argument("--users", type=int, default=100, help="whose lists are explained")
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--store", action="store_true", help="keep the result under benchmarks/results/")
    chosen = parser.parse_args()
    figures: dict[str, Any] = {}
    for folder in chosen.models:
        recommender = LLMRecommender.from_pretrained(folder)
        split = load_split(plan(load_recipe(folder / "recipe.yaml")))
        histories = split.test.sample(chosen.users, 0).histories
        figures[folder.name] = {
            f"recall@{chosen.k}": round(recall(recommender, chosen.column, chosen.items, chosen.k), 4),
            "chance": round(chosen.k / len(recommender.catalog), 4),
            **named_elsewhere(recommender, histories, chosen.k),
        }
    report("language", {"models": figures, "column": chosen.column, "requests": chosen.items}, chosen.store)


if __name__ == "__main__":
    main()
