"""Which way to write items as tokens recommends best, when all get the same decoder and the same training time?

    python benchmarks/index_quality.py --data ../shared/data/amazon14_office --store
    python benchmarks/index_quality.py --data ../shared/data/amazon14_beauty --users 4000 --kinds atomic rqkmeans

Every kind of index, three seeds each (of index, model and training): test NDCG@10 and HR@10 by constrained decoding,
full ranking, seen items excluded, beside Markov and popularity on the same users. A run that is done is kept in
`--keep` and not repeated.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
from common import report
from small_decoder import TOKENIZER, load_data, train_for

KINDS = (
    "title", "atomic", "random", "sequential", "collaborative", "semantic", "hybrid", "rqkmeans", "rqkmeans_balanced",
    "rqkmeans_fused", "rqkmeans_digit_fused", "rqvae", "rqvae_fused", "fsq", "fsq_fused", "opq", "opq_fused",
    "published",
)  # fmt: skip

METRICS = ("ndcg@10", "hr@10")


def settings_of(kind: str, root: str, items: int, columns: list[str], seed: int) -> dict[str, Any]:
    """The recipe's `index` mapping of a kind; `_fused` and `_w0.25` add behaviour."""
    first = 2 ** int(np.ceil(np.log2(np.sqrt(items))))
    levels = [first, 2 * first]  # about twice as many codes as items, so that `nearest` has room
    fields = [name for name in ("title", "brand", "categories") if name in columns]
    name, _, weight = kind.removesuffix("_fused").partition("_w")
    behaviour = {"behaviour": {"window": 5, "dimensions": 64}, "behaviour_weight": float(weight or 0.5)}
    quantizer = {
        "encoder": {"kind": "tfidf", "fields": fields, "dimensions": 128},
        "levels": levels,
        "collisions": "nearest",
        "seed": seed,
        **(behaviour if kind.endswith("_fused") or weight else {}),
    }
    grid = {256: [8, 8, 4], 128: [8, 4, 4], 64: [4, 4, 4]}
    return {
        "title": {"kind": "title", "tokenizer": TOKENIZER, "max_tokens": 12},
        "atomic": {"kind": "atomic"},
        "random": {"kind": "random", "levels": levels, "seed": seed},
        "sequential": {"kind": "sequential", "levels": levels},
        "collaborative": {"kind": "collaborative", "seed": seed},
        "hybrid": {"kind": "hybrid", "collaborative": {"seed": seed}},
        "semantic": {"kind": "semantic", "category": "categories"},
        "rqkmeans": {"kind": "rqkmeans", **quantizer},
        "rqkmeans_digit": {"kind": "rqkmeans", **quantizer, "collisions": "digit"},
        "rqkmeans_balanced": {"kind": "rqkmeans", **quantizer, "balanced": True},
        "rqvae": {"kind": "rqvae", **quantizer},
        "opq": {"kind": "opq", **quantizer},
        "fsq": {
            "kind": "fsq",
            **{key: value for key, value in quantizer.items() if key != "levels"},
            "groups": [grid[size] for size in levels],
        },
        "published": {
            "kind": "published",
            "path": f"{root}/published_sids.parquet",
            "source": "APAO-rq-kmeans",
        },
    }[name]


def one_run(kind: str, seed: int, chosen: argparse.Namespace) -> dict[str, Any]:
    """Build the index, train, measure, or what that gave the last time; in a process of its own, on one thread."""
    from llmrec.evaluation.protocol import evaluate
    from llmrec.registry import build

    catalog, split = load_data(chosen.data)
    settings = settings_of(kind, chosen.data, len(catalog), catalog.table.column_names, seed)
    same = [kind, seed, settings, chosen.seconds, chosen.width, chosen.layers, chosen.users]
    key = hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()[:8]
    path = Path(chosen.keep) / f"{Path(chosen.data).name}-{kind}-{seed}-{key}.json"
    if path.is_file():
        return json.loads(path.read_text())
    began = time.perf_counter()
    index = build("index", settings, "index").build(catalog, split.train)
    built = time.perf_counter() - began
    recommender, trained = train_for(chosen.seconds, index, catalog, split, seed, chosen.width, chosen.layers)
    found = evaluate(recommender, split.test.sample(chosen.users, 0), split=split.protocol, progress=False)
    result = {
        **trained,
        "metrics": found.metrics,
        "invalid": found.invalid + found.duplicates + found.excluded_returned,
        "exact": round(found.exact / found.examples, 3),
        "index_seconds": round(built, 1),
        "tokens_an_item": round(float(index.lengths.mean()), 2),
        "level_sizes": list(index.level_sizes[:6]),
        "collisions": index.provenance["collisions"],
        "protocol": found.protocol,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result))
    return result


def baselines(chosen: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Markov and popularity on the same users."""
    from llmrec.evaluation.protocol import evaluate
    from llmrec.registry import resolve

    catalog, split = load_data(chosen.data)
    questions = split.test.sample(chosen.users, 0)
    return {
        name: evaluate(resolve("recommender", name)().fit(split.train, catalog), questions).metrics
        for name in ("markov", "popularity")
    }


def spread(values: list[float]) -> dict[str, Any]:
    """Mean and sample standard deviation."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {
        "mean": round(float(np.mean(values)), 5),
        "std": None if deviation is None else round(deviation, 5),
        "each": [round(value, 5) for value in values],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/amazon14_office")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), help="also rqkmeans_w0.25 and the like")
    parser.add_argument("--seconds", type=float, default=60, help="CPU seconds of training a run, on one thread")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--users", type=int, default=None, help="test users drawn once; all by default")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once, one thread each")
    parser.add_argument("--keep", default="runs/index_quality", help="folder of the finished runs")
    parser.add_argument("--store", action="store_true", help="keep the result under benchmarks/results/")
    chosen = parser.parse_args()
    wanted = [(kind, seed) for seed in range(chosen.seeds) for kind in chosen.kinds]
    found: dict[str, dict[int, dict[str, Any]]] = {kind: {} for kind in chosen.kinds}
    with ProcessPoolExecutor(chosen.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        pending = {pool.submit(one_run, kind, seed, chosen): (kind, seed) for kind, seed in wanted}
        for done in as_completed(pending):
            kind, seed = pending[done]
            found[kind][seed] = done.result()
            print(kind, seed, {k: round(v, 4) for k, v in found[kind][seed]["metrics"].items()}, flush=True)
    simple = baselines(chosen)
    runs = {kind: [found[kind][seed] for seed in sorted(found[kind])] for kind in chosen.kinds}
    figures = {
        "data": Path(chosen.data).name,
        **{m: {kind: spread([run["metrics"][m] for run in each]) for kind, each in runs.items()} for m in METRICS},
        **{name: {m: round(values[m], 5) for m in METRICS} for name, values in simple.items()},
        "protocol": runs[chosen.kinds[0]][0]["protocol"],
        "train_cpu_seconds": chosen.seconds,
        "decoder": {"width": chosen.width, "layers": chosen.layers},
        "seeds": chosen.seeds,
        "users": chosen.users,
        "runs": {
            kind: [{key: value for key, value in run.items() if key not in ("metrics", "protocol")} for run in each]
            for kind, each in runs.items()
        },
    }
    report(f"index_quality_{Path(chosen.data).name}", figures, chosen.store, script="index_quality")


if __name__ == "__main__":
    main()
