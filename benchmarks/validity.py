"""Ten thousand lists of recommendations under every kind of mask: how many items are invalid, repeated or excluded?

    python benchmarks/validity.py runs/office_smollm2_cpu --lists 10000

Histories are those of the model's own data, and random ones (any length, any item). A third of the lists excludes the
history, a third also draws a random half of the catalog as candidates, a third excludes nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from common import report

from llmrec import artifact
from llmrec.pipeline.run import load_split, plan
from llmrec.recipe import load_recipe
from llmrec.recommenders.llm import LLMRecommender


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--lists", type=int, default=10_000)
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", action="store_true", help="keep the result under benchmarks/results/")
    arguments = parser.parse_args()

    rng = np.random.default_rng(arguments.seed)
    recommender = LLMRecommender.from_pretrained(arguments.model)
    size = len(recommender.catalog)
    real = load_split(plan(load_recipe(arguments.model / artifact.RECIPE))).test.histories
    histories = [real[int(user)] for user in rng.permutation(len(real))[: arguments.lists // 2]]
    while len(histories) < arguments.lists:
        histories.append(rng.integers(0, size, rng.integers(0, 60)).astype(np.int32))
    order = rng.permutation(arguments.lists)
    counts = dict.fromkeys(("recommendations", "invalid", "duplicate", "excluded", "not_candidates", "unfilled"), 0)
    for number, part in enumerate(np.array_split(order, 3)):
        chosen = [histories[int(position)] for position in part]
        candidates = np.sort(rng.choice(size, size // 2, replace=False)).astype(np.int32) if number == 1 else None
        rows = recommender.recommend(
            chosen, arguments.k, exclude_seen=number < 2, candidates=candidates, progress=True
        ).rows
        for history, returned in zip(chosen, rows, strict=True):
            found = returned[returned >= 0]
            counts["recommendations"] += len(found)
            counts["unfilled"] += len(returned) - len(found)
            counts["invalid"] += int((found >= size).sum())
            counts["duplicate"] += len(found) - len(np.unique(found))
            counts["excluded"] += int(np.isin(found, history).sum()) if number < 2 else 0
            counts["not_candidates"] += 0 if candidates is None else int((~np.isin(found, candidates)).sum())
    report("validity", {"lists": arguments.lists, **counts, "seed": arguments.seed}, arguments.store)


if __name__ == "__main__":
    main()
