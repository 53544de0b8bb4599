"""How well do recommenders without a language model recommend, and what do they cost?

    python benchmarks/baselines.py --data ../shared/data/amazon14_office --store
    python benchmarks/baselines.py --data ../shared/data/amazon14_beauty --models popularity markov skip_markov
    python benchmarks/baselines.py --data ../shared/data/amazon14_office --models sasrec --set loss=bce --seeds 3

Every baseline with the settings of its recipe (`recipes/baselines/`): test HR@10 and NDCG@10, leave-one-out, full
ranking, seen items excluded, beside the seconds of training and of answering, and what others published. Models that
train in epochs stop by validation NDCG@10. Published figures are printed where the protocol is the same.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from common import report
from small_decoder import load_data

MODELS = (
    "popularity", "markov", "skip_markov", "itemknn", "ease", "als", "text_knn", "text_linear", "sasrec", "bert4rec",
)  # fmt: skip

PUBLISHED = {
    "amazon14_beauty": {
        "TIGER": [0.0648, 0.0384],
        "SASRec, as usually reported": [0.0605, 0.0318],
        "SASRec, sampled softmax, history 50 (eSASRec)": [0.0921, 0.0531],
        "HSTU, rerun": [0.0788, 0.0439],
        "LC-Rec, Qwen3-1.7B": [0.0791, 0.0438],
        "ActionPiece": [0.0775, 0.0424],
    }
}
"""HR@10 and NDCG@10 on the same data and split, full ranking; whether seen items are left out is rarely said."""


def settings_of(name: str, chosen: argparse.Namespace, columns: list[str], seed: int) -> dict[str, Any]:
    """The recipe's settings, the command line's over them; only text fields that the catalog has."""
    from llmrec.recipe import BaselineRecipe, load_recipe
    from llmrec.registry import resolve

    recipe = load_recipe(f"baselines/{name}")
    assert isinstance(recipe, BaselineRecipe)
    fields = resolve("recommender", name).model_fields
    changes = {key: yaml.safe_load(value) for key, _, value in (text.partition("=") for text in chosen.set)}
    settings = {**recipe.recommender, **{key: value for key, value in changes.items() if key in fields}}
    if "encoder" in settings:
        wanted = [field for field in settings["encoder"]["fields"] if field in columns]
        settings["encoder"] = {**settings["encoder"], "fields": wanted}
    return {**settings, **({"seed": seed} if "seed" in fields else {})}


def one_run(settings: dict[str, Any], data: tuple[Any, Any]) -> dict[str, Any]:
    """Fit and measure."""
    from llmrec.evaluation.protocol import evaluate
    from llmrec.pipeline.baseline import fitted
    from llmrec.registry import build

    catalog, split = data
    wall, cpu = time.perf_counter(), time.process_time()
    recommender = fitted(build("recommender", settings), split, catalog)
    spent = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    found = evaluate(recommender, split.test, split=split.protocol, progress=False)
    epochs = len(getattr(recommender, "log", []))
    return {
        "hr@10": round(found.metrics["hr@10"], 5),
        "ndcg@10": round(found.metrics["ndcg@10"], 5),
        **{name: round(value, 1) for name, value in spent.items()},
        "evaluate_seconds": round(found.seconds, 1),
        **({"epochs": epochs} if epochs else {}),
        "faults": found.invalid + found.duplicates + found.excluded_returned + found.unfilled,
        "protocol": found.protocol,
    }


def summary_of(runs: list[dict[str, Any]], settings: dict[str, Any]) -> dict[str, Any]:
    """Means over seeds, and the runs where there are several."""
    keys = [key for key in runs[0] if key != "protocol"]
    means = {key: round(float(np.mean([run[key] for run in runs])), 5) for key in keys}
    each = {"each_ndcg@10": [run["ndcg@10"] for run in runs]} if len(runs) > 1 else {}
    return {**means, **each, "settings": {key: value for key, value in settings.items() if key != "seed"}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/amazon14_office")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--seeds", type=int, default=1, help="runs of each model that draws random numbers")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the models that have it")
    parser.add_argument("--store", action="store_true", help="keep the result under benchmarks/results/")
    chosen = parser.parse_args()
    data = load_data(chosen.data)
    found, protocol = {}, ""
    for name in chosen.models:
        runs = []
        for seed in range(chosen.seeds):
            settings = settings_of(name, chosen, data[0].table.column_names, seed)
            runs.append(one_run(settings, data))
            if "seed" not in settings:
                break
        found[name], protocol = summary_of(runs, settings), runs[0]["protocol"]
        print(name, json.dumps(found[name]), flush=True)
    dataset = Path(chosen.data).name
    figures = {
        "data": dataset,
        **found,
        "published hr@10, ndcg@10": PUBLISHED.get(dataset, {}),
        "protocol": protocol,
        "seeds": chosen.seeds,
    }
    report(f"baselines_{dataset}", figures, chosen.store, script="baselines")


if __name__ == "__main__":
    main()
