"""Can items be recommended that nobody had taken when the model was trained?

    python benchmarks/cold_start.py --data ../shared/data/amazon14_office --store

A tenth of the items is held out: their events are taken from the train histories, and the index is built without them.
After training, `add_items` gives them codes from their texts. Asked are the users whose next item is one of them, over
the whole catalog (the new items compete with all the old ones) and among the new items alone; beside it a nearest
neighbour by text, which knows no old from new, and chance. `llmrec_with_text` mixes that neighbour's similarities into
the search (`recommend(..., bias=...)`); their weight is chosen on validation users whose next item is an old one.
What the new items cost the others is shown by `old_hr@10`: users whose next item is an old one.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from common import report
from small_decoder import TOKENIZER, load_data, train_for

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.data.split import Examples, Split
from llmrec.encoders.tfidf import TfidfEncoder
from llmrec.registry import build
from llmrec.types import Ragged, Rows

K = 10
LAST = 3
"""Items of a history whose texts the bias is near to."""
WEIGHTS = (0.0, 2.0, 5.0, 10.0, 20.0)
MOST_OLD = 1000
"""Users whose next item is an old one that are asked."""


def hold_out(catalog: Catalog, split: Split, share: float, seed: int) -> tuple[Catalog, Split, Rows]:
    """The catalog with the held-out items last, the split in its rows, and which rows are new."""
    taken = np.flatnonzero(np.bincount(split.train.item_rows, minlength=len(catalog)) > 0)
    chosen = np.random.default_rng(seed).permutation(len(catalog))[: int(share * len(catalog))]
    cold = np.intersect1d(chosen, taken)
    order = np.concatenate([np.setdiff1d(np.arange(len(catalog)), cold), cold])
    place = np.empty(len(catalog), np.int32)
    place[order] = np.arange(len(catalog))
    moved = catalog.take(order)

    def examples(old: Examples) -> Examples:
        return dataclasses.replace(
            old,
            histories=Ragged(place[old.histories.values], old.histories.offsets),
            targets=Ragged(place[old.targets.values], old.targets.offsets),
        )

    train = split.train
    rows = pa.array(place[train.item_rows], pa.int32())
    table = train.table.set_column(train.table.column_names.index("item"), "item", rows)
    train = Interactions(train.users, moved.items, table, train.offsets)
    new = np.arange(len(catalog) - len(cold), len(catalog), dtype=np.int32)
    return moved, Split(train, examples(split.valid), examples(split.test), split.protocol), new


def next_is_new(questions: Examples, new: Rows) -> Examples:
    """The questions whose answer is a new item."""
    targets = np.array([int(target[0]) for target in questions.targets])
    return questions.take(np.flatnonzero(targets >= new[0]))


def hit_rate(rows: Rows, questions: Examples) -> float:
    """Share of lists `int32[B, k]` that hold the target."""
    targets = np.array([int(target[0]) for target in questions.targets])
    return float((rows == targets[:, None]).any(axis=1).mean())


def text_knn(vectors: np.ndarray, questions: Examples, candidates: Rows, last: int) -> Rows:
    """The candidates whose text is nearest to the mean of the last items; seen items excluded."""
    found = np.empty((len(questions.histories), K), np.int32)
    for user, history in enumerate(questions.histories):
        scores = vectors[candidates] @ vectors[history[-last:]].mean(axis=0)
        scores[np.isin(candidates, history)] = -np.inf
        found[user] = candidates[np.argsort(-scores, kind="stable")[:K]]
    return found


def similarities(vectors: np.ndarray, questions: Examples) -> np.ndarray:
    """`float32[B, N]`: how near each item's text is to the mean of the last items; 0 without a history."""
    means = [
        vectors[history[-LAST:]].mean(axis=0) if len(history) else 0 * vectors[0] for history in questions.histories
    ]
    return (np.stack(means) @ vectors.T).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/amazon14_office")
    parser.add_argument("--kind", choices=["title", "rqkmeans", "rqkmeans_digit"], default="rqkmeans")
    parser.add_argument("--share", type=float, default=0.1, help="of the items that is held out")
    parser.add_argument("--seconds", type=float, default=120, help="CPU seconds of training, on one thread")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--store", action="store_true", help="keep the result under benchmarks/results/")
    chosen = parser.parse_args()
    runs = [one_run(chosen, seed) for seed in range(chosen.seeds)]
    figures = {
        name: {who: round(float(np.mean([run[name][who] for run in runs])), 4) for who in runs[0][name]}
        for name in ("hr@10", "among_new_hr@10", "old_hr@10")
    }
    more = {"data": Path(chosen.data).name, "kind": chosen.kind, "share": chosen.share, "seeds": chosen.seeds}
    report("cold_start", {**figures, **more, "train_cpu_seconds": chosen.seconds, "runs": runs}, chosen.store)


def one_run(chosen: argparse.Namespace, seed: int) -> dict[str, Any]:
    catalog, split = load_data(chosen.data)
    catalog, split, new = hold_out(catalog, split, chosen.share, seed)
    old = Catalog(catalog.table.slice(0, int(new[0])))
    kept = split.train.filter(split.train.item_rows < new[0])
    train = Interactions(kept.users, old.items, kept.table, kept.offsets)
    fields = [name for name in ("title", "brand", "categories") if name in catalog.table.column_names]
    first = 2 ** int(np.ceil(np.log2(np.sqrt(len(catalog)))))
    quantized = {
        "kind": "rqkmeans",
        "encoder": {"kind": "tfidf", "fields": fields},
        "levels": [first, 2 * first],
        "behaviour": {"window": 5},
        "collisions": "digit" if chosen.kind.endswith("_digit") else "nearest",
        "seed": seed,
    }
    settings = {"kind": "title", "tokenizer": TOKENIZER, "max_tokens": 12} if chosen.kind == "title" else quantized
    index = build("index", settings, "index").build(old, train)
    valid = split.valid.take(
        np.flatnonzero(
            [
                max(*history, *target) < new[0]
                for history, target in zip(split.valid.histories, split.valid.targets, strict=True)
            ]
        )
    )
    recommender, trained = train_for(chosen.seconds, index, old, Split(train, valid, split.test, split.protocol), seed)
    grown = recommender.add_items(Catalog(catalog.table.slice(int(new[0]))))
    vectors = TfidfEncoder(fields=fields).fit(catalog, split.train).vectors
    everything = np.arange(len(catalog), dtype=np.int32)
    asked = next_is_new(split.test, new)
    old_targets = [int(target[0]) < new[0] for target in split.test.targets]
    others = split.test.take(np.flatnonzero(old_targets)).sample(MOST_OLD, seed)

    def mixed(questions: Examples, weight: float, among: Rows | None = None) -> Rows:
        near = similarities(vectors, questions)
        return grown.recommend(questions.histories, K, candidates=among, bias=near, bias_weight=weight).rows

    tuning = valid.sample(MOST_OLD, seed)
    tuned = {weight: hit_rate(mixed(tuning, weight), tuning) for weight in WEIGHTS}
    weight = max(tuned, key=lambda w: tuned[w])
    seen = float(np.mean([len(np.unique(history)) for history in asked.histories]))
    neighbours = {last: hit_rate(text_knn(vectors, asked, everything, last), asked) for last in (1, 3, 10)}
    among = {last: hit_rate(text_knn(vectors, asked, new, last), asked) for last in (1, 3, 10)}
    result = grown.recommend(asked.histories, K)
    before = [history[history < new[0]] for history in others.histories]
    return {
        "hr@10": {
            "llmrec": hit_rate(result.rows, asked),
            "llmrec_with_text": hit_rate(mixed(asked, weight), asked),
            "text_knn": max(neighbours.values()),
            "random": K / (len(catalog) - seen),
        },
        "among_new_hr@10": {
            "llmrec": hit_rate(grown.recommend(asked.histories, K, candidates=new).rows, asked),
            "llmrec_with_text": hit_rate(mixed(asked, weight, new), asked),
            "text_knn": max(among.values()),
            "random": K / len(new),
        },
        "old_hr@10": {
            "llmrec_before_adding": hit_rate(recommender.recommend(before, K).rows, others),
            "llmrec": hit_rate(grown.recommend(others.histories, K).rows, others),
            "llmrec_with_text": hit_rate(mixed(others, weight), others),
            "text_knn": hit_rate(text_knn(vectors, others, everything, LAST), others),
        },
        "weight": weight,
        "valid_hr@10_by_weight": tuned,
        "share_of_new_in_lists": round(float((result.rows >= new[0]).mean()), 4),
        "text_knn_by_last_items": {"all": neighbours, "among_new": among},
        "asked": len(asked.histories),
        "old_asked": len(others.histories),
        "new_items": len(new),
        **trained,
    }


if __name__ == "__main__":
    main()
