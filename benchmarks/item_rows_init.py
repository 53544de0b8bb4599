"""Do item rows that begin from the meaning of their titles learn better than Hugging Face's default?

    python benchmarks/item_rows_init.py --data ../shared/data/amazon14_office --epochs 4

The same recipe with `train.init: text` and `default`, for the same epochs and seeds; validation NDCG@10 by real
decoding after every epoch.
"""

from __future__ import annotations

import argparse
import json
import tempfile

import numpy as np
from common import report

from llmrec.pipeline.run import plan
from llmrec.recipe import load_recipe

INITS = ("text", "default")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/amazon14_office")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--store", action="store_true", help="keep the result under benchmarks/results/")
    arguments = parser.parse_args()
    curves: dict[str, list[list[float]]] = {init: [] for init in INITS}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(arguments.seeds):
            for init in INITS:
                changes = {
                    "data.root": arguments.data,
                    "output": folder,
                    "seed": seed,
                    "index.seed": 0,  # the same codes for all
                    "train.init": init,
                    "train.patience": "null",
                    "train.args.num_train_epochs": arguments.epochs,
                }
                recipe = load_recipe("sft/office_smollm2_cpu", [f"{key}={value}" for key, value in changes.items()])
                planned = plan(recipe)
                log = json.loads((planned.cache.get(planned.train) / "training.json").read_text())
                curves[init].append([entry["eval_ndcg@10"] for entry in log["history"] if "eval_ndcg@10" in entry])
    best = {init: [max(curve) for curve in runs] for init, runs in curves.items()}
    figures = {
        "valid_ndcg@10": {init: {"mean": float(np.mean(b)), "each": b} for init, b in best.items()},
        "text_over_default": round(float(np.mean(best["text"]) / np.mean(best["default"])), 3),
        "curves": curves,
        "epochs": arguments.epochs,
        "seeds": arguments.seeds,
    }
    report("item_rows_init", figures, arguments.store)


if __name__ == "__main__":
    main()
