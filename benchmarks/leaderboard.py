"""Who recommends best, and at what cost? Every baseline and finished model folders, on one data set after another.

    python benchmarks/leaderboard.py --data ../shared/data/amazon14_office --models popularity,markov,sasrec,bert4rec
    python benchmarks/leaderboard.py --data ../shared/data/amazon14_beauty --models sasrec --set loss=bce
    python benchmarks/leaderboard.py --data ../shared/data/amazon14_office --models llm,llm_item_head --budget 480
    python benchmarks/leaderboard.py --data ../shared/data/amazon14_office --models "" --folders mine=runs/mine --store
    python benchmarks/leaderboard.py --table

A baseline has the settings of its recipe, `recipes/baselines/DATA_MODEL.yaml` where there is one for the data set,
otherwise `recipes/baselines/MODEL.yaml`; who trains in epochs stops by validation NDCG@10. llmrec's own models, `llm`
and `llm_item_head`, have the base model and the settings of `OWN` and learn for `--budget` CPU seconds on one thread,
validations not counted. Measured on the test part, leave-one-out, full ranking, seen items excluded. `seconds` are
those of the fit, `cpu_seconds` of all its threads. `--store` keeps a file for each line under
`benchmarks/results/leaderboard/`, and `--table` makes `docs/leaderboard.md` of all of them. A fitted baseline is kept
in `--keep` and not fitted again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from alignment import fresh, trainer_of
from budget import CpuBudget
from common import report
from leaderboard_table import write_table
from small_decoder import load_data

MODELS = (
    "popularity", "markov", "skip_markov", "itemknn", "ease", "als", "text_knn", "text_linear", "sasrec", "bert4rec",
)  # fmt: skip

OWN = {"llm": "sft/office_smollm2_cpu", "llm_item_head": "sft/office_item_head_cpu"}
"""A language model that writes codes, and one with an item head; their recipes."""

LARGE, LEVELS = 4_000, [128, 256]
"""Levels of the codes where there are more items than that; below, those of the recipe."""


def settings_of(name: str, data: str, changes: list[str], columns: list[str], seed: int) -> dict[str, Any]:
    """The recipe's settings, the command line's over them; only text fields that the catalog has."""
    from llmrec import assets
    from llmrec.recipe import BaselineRecipe, load_recipe
    from llmrec.registry import resolve

    own = f"baselines/{data}_{name}"
    recipe = load_recipe(own if f"{own}.yaml" in assets.names("recipes") else f"baselines/{name}")
    assert isinstance(recipe, BaselineRecipe)
    fields = resolve("recommender", name).model_fields
    parsed = {key: yaml.safe_load(value) for key, _, value in (text.partition("=") for text in changes)}
    settings = {**recipe.recommender, **{key: value for key, value in parsed.items() if key in fields}}
    return {**reading(settings, columns), **({"seed": seed} if "seed" in fields else {})}


def reading(settings: dict[str, Any], columns: list[str]) -> dict[str, Any]:
    """The settings, whose encoder reads those of its text fields that the catalog has."""
    if "encoder" not in settings:
        return settings
    wanted = [field for field in settings["encoder"]["fields"] if field in columns]
    return {**settings, "encoder": {**settings["encoder"], "fields": wanted}}


def fitted_once(settings: dict[str, Any], data: tuple[Any, Any], keep: Path) -> tuple[Any, dict[str, Any]]:
    """A fitted recommender and what that took, now or the last time."""
    from llmrec.pipeline.baseline import fitted
    from llmrec.recommenders.base import Recommender
    from llmrec.registry import build

    catalog, split = data
    recommender = build("recommender", settings)
    said = json.dumps([recommender.settings(), catalog.items.ids.to_pylist()[:100], len(split.train)], sort_keys=True)
    folder = keep / f"{settings['kind']}-{hashlib.sha256(said.encode()).hexdigest()[:12]}"
    took = folder / "fit.json"
    if took.is_file():
        return Recommender.from_pretrained(folder), json.loads(took.read_text())
    wall, cpu = time.perf_counter(), time.process_time()
    recommender = fitted(recommender, split, catalog)
    spent: dict[str, Any] = {
        "seconds": round(time.perf_counter() - wall, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }
    if log := getattr(recommender, "log", []):
        spent |= {"epochs": len(log), "valid_ndcg@10": round(max(entry.get("ndcg@10", 0.0) for entry in log), 5)}
    recommender.save_pretrained(folder)
    took.write_text(json.dumps(spent))
    return recommender, spent


def trained_for(budget: float, name: str, data: tuple[Any, Any], seed: int) -> tuple[Any, dict[str, Any]]:
    """One of llmrec's own models after so many CPU seconds, and what it took; the best of four validations."""
    import torch
    from transformers.utils import logging

    from llmrec.recipe import Recipe, load_recipe
    from llmrec.recommenders.llm import Decoding

    torch.set_num_threads(1)
    logging.set_verbosity_error()
    catalog, split = data
    recipe, columns = load_recipe(OWN[name], [f"seed={seed}"]), catalog.table.column_names
    assert isinstance(recipe, Recipe)
    index = reading(recipe.index, columns) | ({"levels": LEVELS} if len(catalog) > LARGE else {})
    recipe = recipe.model_copy(update={"index": index, "train": reading(recipe.train, columns)})
    model, task = fresh(recipe, catalog, split, seed)
    wall, clock = time.perf_counter(), CpuBudget(budget, validations=4)
    trainer = trainer_of({"kind": "sft", **recipe.train}, recipe)
    with tempfile.TemporaryDirectory() as work:
        recommender, _ = trainer.train(
            model, task, split.train, split.valid, Path(work), seed, Decoding.parse(recipe.decoding), callbacks=[clock]
        )
    return recommender, {"seconds": round(time.perf_counter() - wall, 1), "cpu_seconds": round(clock.spent, 1)}


def trained_in(folder: Path) -> dict[str, Any]:
    """The wall seconds of a finished folder's training and alignment, where it says so."""
    made = folder / "made.json"
    stages = json.loads(made.read_text())["seconds"] if made.is_file() else {}
    trained = [seconds for title, seconds in stages.items() if title.split()[0] in ("train", "align")]
    return {"seconds": round(sum(trained), 1)} if trained else {}


def measured(recommender: Any, split: Any) -> dict[str, Any]:
    """The test part; the intervals are of the users of this one run."""
    from llmrec.evaluation.protocol import evaluate
    from llmrec.evaluation.significance import intervals

    began = time.perf_counter()
    found = evaluate(recommender, split.test, split=split.protocol, progress=False)
    seconds = round(time.perf_counter() - began, 1)
    sure = intervals({name: found.per_example[name] for name in ("hr@10", "ndcg@10")}, split.test.users)
    return {
        "hr@10": round(found.metrics["hr@10"], 5),
        "ndcg@10": round(found.metrics["ndcg@10"], 5),
        "intervals": {name: [round(of.low, 5), round(of.high, 5)] for name, of in sure.items()},
        "evaluate_seconds": seconds,
        "users_per_second": round(found.examples / found.seconds, 1),
        "faults": found.invalid + found.duplicates + found.excluded_returned,
        "protocol": found.protocol,
    }


def mean_of(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """One line from its seeds."""
    numbers = [key for key, value in runs[0].items() if isinstance(value, int | float)]
    mean = {key: round(float(np.mean([run[key] for run in runs])), 5) for key in numbers}
    each = {f"each_{name}": [run[name] for run in runs] for name in ("hr@10", "ndcg@10")} if len(runs) > 1 else {}
    return {**runs[0], **mean, **each, "seeds": len(runs)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/amazon14_office")
    parser.add_argument("--models", default=",".join(MODELS), help="names, a comma between them")
    parser.add_argument("--folders", nargs="*", default=[], metavar="NAME=FOLDER", help="finished models beside them")
    parser.add_argument("--budget", type=float, default=480, help="CPU seconds that each of llmrec's own models learns")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each model that draws random numbers")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the models that have it")
    parser.add_argument("--keep", type=Path, default=Path("runs/leaderboard"), help="folder of the fitted models")
    parser.add_argument("--store", action="store_true", help="keep each line under benchmarks/results/leaderboard/")
    parser.add_argument("--table", action="store_true", help="only make docs/leaderboard.md of what is stored")
    chosen = parser.parse_args()
    if chosen.table:
        print(json.dumps({"lines": write_table()}))
        return
    names = [name for name in chosen.models.split(",") if name]
    if unknown := sorted(set(names) - {*MODELS, *OWN}):
        parser.error(f"there is no model {', '.join(unknown)}; there are {', '.join((*MODELS, *OWN))}")
    dataset, data = Path(chosen.data).name, load_data(chosen.data)
    lines: dict[str, dict[str, Any]] = {}
    for name in names:
        runs = []
        for seed in range(chosen.seeds):
            if name in OWN:
                settings = {"recipe": OWN[name], "budget": chosen.budget, "seed": seed}
                recommender, spent = trained_for(chosen.budget, name, data, seed)
            else:
                settings = settings_of(name, dataset, chosen.set, data[0].table.column_names, seed)
                recommender, spent = fitted_once(settings, data, chosen.keep)
            runs.append(spent | measured(recommender, data[1]))
            if "seed" not in settings:
                break
        said = {key: value for key, value in settings.items() if key not in ("seed", "progress")}
        lines[name] = mean_of(runs) | {"settings": said}
        _keep(lines[name], dataset, name, chosen.store)
    for name, _, folder in (text.partition("=") for text in chosen.folders):
        from llmrec.recommenders.base import Recommender

        lines[name] = trained_in(Path(folder)) | measured(Recommender.from_pretrained(folder), data[1]) | {"seeds": 1}
        _keep(lines[name], dataset, name, chosen.store)
    short = {
        name: {key: line[key] for key in ("hr@10", "ndcg@10", "seconds") if key in line} for name, line in lines.items()
    }
    print(json.dumps(short))


def _keep(line: dict[str, Any], dataset: str, name: str, store: bool) -> None:
    """Print a line, with the machine and the versions, and keep it where asked."""
    report(f"leaderboard/{dataset}.{name}", {"data": dataset, "model": name, **line}, store, script="leaderboard")


if __name__ == "__main__":
    main()
