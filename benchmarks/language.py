"""Does a recommender still understand words, and do its reasons stay with the truth?

    python benchmarks/language.py runs/office_with_tasks --store
    python benchmarks/language.py runs/a runs/b --requests 200 --users 50

`recall@10`: of items that are described, the share that is among the best ten. They are described by a whole column
(`title`, and `description` where the catalog has it), or by `words`: four words of the title, in their order, which the
model was asked by at most by accident. Beside it a nearest neighbour by TF-IDF over the same columns, and chance. A
model that never learned to be asked is asked as a title is (`taught: false`).

`foreign`: of the reasons for recommended items, those that name an item which is neither in the history nor in the
list, counted by looking for every title of the catalog in every sentence (`llmrec/evaluation/naming.py`). So that the
count is known to count, the same sentences are looked through with nothing allowed: `found` is the share of them in
which the recommended item and its reasons are seen then, and must be 1.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from common import report
from sklearn.feature_extraction.text import TfidfVectorizer

from llmrec import assets
from llmrec.data.catalog import Catalog
from llmrec.evaluation.naming import Names
from llmrec.pipeline.run import load_split, plan
from llmrec.recipe import load_recipe
from llmrec.recommenders.llm import LLMRecommender
from llmrec.recommenders.reasons import reasons
from llmrec.tasks.template import PromptTemplate
from llmrec.types import Rows

COLUMNS = ("title", "description")
WORDS = 4


def askable(recommender: LLMRecommender) -> LLMRecommender:
    """The same, asked as a title is where it has no wording of its own."""
    if recommender.task.search is not None:
        return recommender
    wording = PromptTemplate(assets.path("prompts", "alignment/title_to_item/1.jinja").read_text())
    return LLMRecommender(recommender.model, recommender.task.searched_by(wording), recommender.decoding)


def requests(catalog: Catalog, count: int, seed: int) -> dict[str, tuple[list[str], Rows]]:
    """Kind of description -> texts, and the rows of the items that they describe."""
    rng, found = np.random.default_rng(seed), {}
    for column in COLUMNS:
        if column in catalog.table.column_names:
            texts = [str(text or "").strip() for text in catalog.table[column].to_pylist()]
            rows = rng.permutation([row for row, text in enumerate(texts) if text])[:count].astype(np.int32)
            found[column] = [texts[row] for row in rows], rows
    titles, rows = found["title"]
    few = []
    for words in (title.split() for title in titles):
        chosen = np.sort(rng.choice(len(words), min(WORDS, len(words)), replace=False))
        few.append(" ".join(words[at] for at in chosen))
    return {**found, "words": (few, rows)}


def recall(found: np.ndarray, rows: Rows) -> float:
    """The share of lists `int32[B, k]` that hold their item."""
    return round(float((found == rows[:, None]).any(axis=1).mean()), 4)


def recalls(recommender: LLMRecommender, count: int, k: int, seed: int = 0) -> dict[str, dict[str, float]]:
    """For every kind of description: the model, its neighbour by TF-IDF, chance."""
    catalog, asked = recommender.catalog, askable(recommender)
    columns = [name for name in COLUMNS if name in catalog.table.column_names]
    vectorizer = TfidfVectorizer(sublinear_tf=True)
    items = vectorizer.fit_transform(catalog.texts(columns))
    figures = {}
    for kind, (texts, rows) in requests(catalog, count, seed).items():
        near = np.asarray((vectorizer.transform(texts) @ items.T).todense())
        figures[kind] = {
            "llmrec": recall(asked.search(texts, k).rows, rows),
            "tfidf": recall(np.argsort(-near, axis=1, kind="stable")[:, :k], rows),
            "chance": round(k / len(catalog), 4),
            "requests": len(rows),
        }
    return figures


def explained(recommender: LLMRecommender, histories: Any, k: int) -> dict[str, float]:
    """Reasons for whole lists, how many of them name something else, and whether that would be seen."""
    names = Names(recommender.catalog)
    told = with_items = foreign = caught = 0
    for history, rows in zip(histories, recommender.recommend(histories, k).rows, strict=True):
        allowed = [*history.tolist(), *rows[rows >= 0].tolist()]
        for reason in reasons(recommender, history, rows):
            told += 1
            with_items += bool(reason.because)
            foreign += bool(names.foreign(reason.text, allowed))
            own = {reason.item, *reason.because}
            caught += bool(own <= set(names.foreign(reason.text, [])))
    return {
        "reasons": told,
        "with_items_of_the_history": round(with_items / max(told, 1), 4),
        "foreign": foreign,
        "found": round(caught / max(told, 1), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, help="model folders of llmrec run")
    parser.add_argument("--requests", type=int, default=500, help="of each kind")
    parser.add_argument("--users", type=int, default=100, help="whose lists are explained")
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--store", action="store_true", help="keep the result under benchmarks/results/")
    chosen = parser.parse_args()
    figures: dict[str, Any] = {}
    for folder in chosen.models:
        recommender = LLMRecommender.from_pretrained(folder)
        histories = load_split(plan(load_recipe(folder / "recipe.yaml"))).test.sample(chosen.users, 0).histories
        figures[folder.name] = {
            "taught": recommender.task.search is not None,
            f"recall@{chosen.k}": recalls(recommender, chosen.requests, chosen.k),
            **explained(recommender, histories, chosen.k),
        }
    report("language", {"models": figures}, chosen.store)


if __name__ == "__main__":
    main()
