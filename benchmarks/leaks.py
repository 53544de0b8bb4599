"""Is a recommender that cheats caught, and an honest one not? And do shuffled targets give chance level?

Three that have looked (one that knows the answers, one that knows every tenth, and item neighbours that were fitted on
all events, test included) and three honest ones, on one data set.

    python benchmarks/leaks.py --data ../shared/data/amazon14_office
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from common import report
from small_decoder import load_data

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.data.split import Split
from llmrec.evaluation.leaks import better_than_validation, planted_targets, shuffled_targets
from llmrec.evaluation.protocol import evaluate
from llmrec.recommenders.itemknn import ItemKNN
from llmrec.recommenders.markov import Markov
from llmrec.recommenders.popularity import Popularity
from llmrec.recommenders.scoring import ScoringRecommender
from llmrec.types import Ragged


class Oracle(Popularity):
    """Popularity that looks some answers up."""

    def knowing(self, split: Split, every: int) -> Oracle:
        known = zip(split.test.histories, split.test.targets, strict=True)
        answers = {tuple(history): int(target[0]) for n, (history, target) in enumerate(known) if n % every == 0}
        object.__setattr__(self, "answers", answers)
        return self

    def score(self, histories: Ragged) -> np.ndarray:
        scores = super().score(histories)
        for number, history in enumerate(histories):
            if (answer := self.answers.get(tuple(history))) is not None:
                scores[number, answer] = 1.0
        return scores


def all_events(split: Split) -> Interactions:
    """Train and every question with its answer, as a careless script would count them."""
    lists = zip(split.test.histories, split.test.targets, strict=True)
    events = [(user, item) for user, (history, target) in enumerate(lists) for item in (*history, *target)]
    users, rows = np.array(events).T
    ids = split.train.items.ids.take(pa.array(rows))
    return Interactions.from_columns(
        pa.array([str(user) for user in users]), ids, np.arange(len(rows)), split.train.items
    )


def contestants(catalog: Catalog) -> dict[str, Callable[[Split], ScoringRecommender]]:
    return {
        "oracle": lambda split: Oracle().fit(split.train, catalog).knowing(split, 1),
        "oracle, every tenth": lambda split: Oracle().fit(split.train, catalog).knowing(split, 10),
        "itemknn on all events": lambda split: ItemKNN().fit(all_events(split), catalog),
        "popularity": lambda split: Popularity().fit(split.train, catalog),
        "markov": lambda split: Markov().fit(split.train, catalog),
        "itemknn": lambda split: ItemKNN().fit(split.train, catalog),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/amazon14_office")
    parser.add_argument("--store", action="store_true", help="keep the result under benchmarks/results/")
    chosen = parser.parse_args()
    catalog, split = load_data(chosen.data)
    found: dict[str, Any] = {}
    for name, fit in contestants(catalog).items():
        recommender, how = fit(split), {"ks": (10,), "progress": False, "split": split.protocol}
        test, valid = (evaluate(recommender, part, **how) for part in (split.test, split.valid))
        column = "ndcg@10"
        checks = {
            "planted": planted_targets(fit, split),
            "shuffled": shuffled_targets(test, split.test),
            "against_validation": better_than_validation(
                test.per_example[column], valid.per_example[column], split.test.users
            ),
        }
        found[name] = {
            "hr@10": round(test.metrics["hr@10"], 4),
            "caught": checks["planted"].leaks,
            **{check: {k: v if k == "leaks" else float(f"{v:.4g}") for k, v in c._asdict().items()}
               for check, c in checks.items()},
        }  # fmt: skip
        print(name, found[name], flush=True)
    honest = ("popularity", "markov", "itemknn")
    summary = {
        "cheats_caught": sum(line["caught"] for name, line in found.items() if name not in honest),
        "honest_accused": sum(found[name]["caught"] for name in honest),
        "largest_shuffled_to_chance": max(
            line["shuffled"]["found"] / line["shuffled"]["expected"] for line in found.values()
        ),
    }
    report(f"leaks_{Path(chosen.data).name}", {**summary, **found, "protocol": split.protocol}, chosen.store, "leaks")


if __name__ == "__main__":
    main()
