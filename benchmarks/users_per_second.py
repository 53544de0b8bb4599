"""How many users a second does a saved model answer, on real histories?

    llmrec run sft/office_smollm2_cpu data.root=../shared/data/amazon14_beauty train.args.max_steps=20 name=beauty
    python benchmarks/users_per_second.py runs/beauty --data ../shared/data/amazon14_beauty --store

The histories are the test histories of a leave-one-out split, the longest `--users` drawn once, answered with the
saved settings and again with other beams. Speed does not depend on how long the model was trained, except through how
early a search can stop.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from common import report
from small_decoder import load_data

from llmrec.recommenders.llm import Decoding, LLMRecommender


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model folder")
    parser.add_argument("--data", default="../shared/data/amazon14_beauty")
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--beams", type=int, nargs="+", default=[20, 50])
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--store", action="store_true", help="keep the result under benchmarks/results/")
    chosen = parser.parse_args()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    recommender = LLMRecommender.from_pretrained(chosen.model, dtype=chosen.dtype)
    catalog, split = load_data(chosen.data)
    if catalog.items.ids.to_pylist() != recommender.catalog.items.ids.to_pylist():
        raise SystemExit(f"{chosen.model} was made for another catalog than that of {chosen.data}.")
    histories = split.test.sample(chosen.users, 0).histories
    tokens = float(np.mean([len(recommender.task.prompt(history)) for history in histories]))
    measured = {}
    for beams in chosen.beams:
        settings = recommender.decoding.model_copy(update={"beams": beams})
        asked = LLMRecommender(recommender.model, recommender.task, Decoding(**settings.settings()))
        asked.recommend(list(histories)[:64], 10)
        began = time.perf_counter()
        found = asked.recommend(histories, 10, progress=True)
        took = time.perf_counter() - began
        measured[str(beams)] = {
            "users_per_second": round(len(histories) / took, 1),
            "exact": round(float(found.exact.mean()), 3),
            "incomplete_lists": int((found.rows < 0).any(axis=1).sum()),
        }
        print(beams, measured[str(beams)], flush=True)
    model = recommender.model
    figures = {
        "users_per_second": {beams: value["users_per_second"] for beams, value in measured.items()},
        "by_beams": measured,
        "users": len(histories),
        "mean_prompt_tokens": round(tokens, 1),
        "items": len(catalog),
        "model": {
            "parameters": sum(p.numel() for p in model.parameters()),
            "layers": model.config.num_hidden_layers,
            "dtype": str(model.dtype).removeprefix("torch."),
        },
        "data": Path(chosen.data).name,
        "decoding": recommender.decoding.settings(),
    }
    report("users_per_second", figures, chosen.store)


if __name__ == "__main__":
    main()
