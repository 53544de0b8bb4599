"""Was it liked, and how many stars? Click and rating prediction by baselines, and by a language model asked in words.

    python benchmarks/pointwise.py --data ../shared/data/ml-latest-small --store
    python benchmarks/pointwise.py --model HuggingFaceTB/SmolLM2-135M-Instruct --questions 100

Cut by time (80/10/10): every later rating of a user who has a past is a question. A click is a rating of at least
`--threshold`. Probabilities of scores come from logistic regression on validation questions. The language model is not
trained for it; it answers `--questions` test questions, drawn by a seed, with the last `--max-history` items in view,
and the biases are measured on the same ones (`biases_same`).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import report

BASELINES = ("popularity", "skip_markov", "itemknn")


def measured(judged: Any, threshold: float, scores: Any, probabilities: Any) -> dict[str, Any]:
    from llmrec.evaluation.ctr import evaluate_clicks

    found = evaluate_clicks(judged.liked(threshold), scores, judged.users, probabilities)
    return {
        **{name: round(value, 4) for name, value in found.metrics.items()},
        "intervals": {name: [round(end, 4) for end in ends] for name, ends in found.intervals.items()},
        "base_log_loss": round(found.base_log_loss, 4),
        "share": round(found.share, 4),
        "grouped_users": found.grouped_users,
    }


def stars(judged: Any, predicted: Any) -> dict[str, Any]:
    from llmrec.evaluation.ratings import evaluate_ratings

    found = evaluate_ratings(judged.values, predicted, judged.users)
    return {
        **{name: round(value, 4) for name, value in found.metrics.items()},
        "star_intervals": {name: [round(end, 4) for end in ends] for name, ends in found.intervals.items()},
    }


def asked(name: str, judged: Any, catalog: Any, max_history: int, threshold: float) -> dict[str, Any]:
    """What a pretrained language model says without any training."""
    from llmrec import assets
    from llmrec.base_models import load_model
    from llmrec.evaluation.item_scores import ask
    from llmrec.tasks.choice import STARS, YES_NO, ChoiceTask
    from llmrec.tasks.template import PromptTemplate

    model, tokenizer = load_model(name)
    found: dict[str, Any] = {}
    for prompt, answers in (("click", YES_NO), ("stars", STARS)):
        template = PromptTemplate(assets.path("prompts", f"choice/{prompt}.jinja").read_text())
        task = ChoiceTask(template, catalog, tokenizer, answers, max_history)
        began = time.perf_counter()
        said = ask(model, task, judged, progress=False)
        found[f"{prompt}_seconds"] = round(time.perf_counter() - began, 1)
        found[f"{prompt}_mass"] = round(float(said.mass.mean()), 4)
        if prompt == "click":
            yes = said.probabilities[:, 1]
            found |= measured(judged, threshold, yes, yes)
        else:
            found |= stars(judged, said.probabilities @ np.arange(1, 6))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/ml-latest-small"))
    parser.add_argument("--threshold", type=float, default=4.0)
    parser.add_argument("--model", default="", help="a language model to ask too")
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--max-history", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", action="store_true")
    chosen = parser.parse_args()

    from llmrec.data.judgements import rated
    from llmrec.data.split import global_temporal
    from llmrec.evaluation.ctr import fit_logistic
    from llmrec.evaluation.item_scores import item_scores
    from llmrec.evaluation.ratings import fit_biases
    from llmrec.registry import resolve
    from llmrec.sources.table import TableSource

    catalog, interactions = TableSource(root=chosen.data).load()
    split = global_temporal(interactions)
    valid, test = rated(interactions, split.valid), rated(interactions, split.test)
    biases, few = fit_biases(split.train), test.sample(chosen.questions, chosen.seed)
    models: dict[str, Any] = {}

    def probable(name: str, score: Any, judged: Any) -> dict[str, Any]:
        fitted = fit_logistic(valid.liked(chosen.threshold), score(valid))
        scores = score(judged)
        return measured(judged, chosen.threshold, scores, fitted(scores))

    def by_biases(judged: Any) -> Any:
        return biases.predict(judged.users, judged.items)

    models["biases"] = probable("biases", by_biases, test) | stars(test, by_biases(test))
    models["mean"] = stars(test, np.full(len(test), biases.mean))
    for name in BASELINES:
        recommender = resolve("recommender", name)().fit(split.train, catalog)
        models[name] = probable(
            name, lambda judged, by=recommender: item_scores(by, judged.histories, judged.items), test
        )
    if chosen.model:
        models["biases_same"] = probable("biases", by_biases, few) | stars(few, by_biases(few))
        models["language_model"] = asked(chosen.model, few, catalog, chosen.max_history, chosen.threshold)
    figures = {
        "data": chosen.data.name,
        "protocol": f"{split.protocol}; a click is a rating of at least {chosen.threshold:g}",
        "questions": len(test),
        "users": len(np.unique(test.users)),
        "language_model": chosen.model or None,
        "questions_asked": len(few) if chosen.model else 0,
        "models": models,
    }
    report("pointwise", figures, chosen.store)


if __name__ == "__main__":
    main()
