"""A list whose items are chosen together against the k best items, and what aligning whole lists changes.

    python benchmarks/lists.py --data ../shared/data/amazon14_office --seconds 240

The last five events of users with at least ten are what is asked for; a fifth of these users is for validation, and all
that came before is train. A small decoder is trained on it, and then aligned in different ways from there. Each model
answers every test user twice: with its five best items, and with its best list of five. Both are compared with all five
targets (NDCG whose ideal list has five hits), and for how unlike their items are.

What the list search itself saves is measured against `Engine.decode` on the prompts of the lists so far, which has to
compute prompt and list anew for every list that goes on.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import report
from small_decoder import train_for

from llmrec.data.interactions import Interactions
from llmrec.data.split import Examples, Split, k_core
from llmrec.evaluation.beyond_accuracy import diversity, group_diversity
from llmrec.evaluation.metrics import METRICS
from llmrec.indexes.rqkmeans import RQKMeansIndex
from llmrec.recommenders.as_lists import AsLists
from llmrec.recommenders.llm import LLMRecommender
from llmrec.recommenders.markov import Markov
from llmrec.registry import build
from llmrec.sources.table import TableSource
from llmrec.trainers.list_dpo import ListDPO
from llmrec.trainers.sft import SFT
from llmrec.types import Ragged, Rows

LENGTH = 5
INDEX: dict[str, Any] = {
    "levels": [64, 128],
    "encoder": {"kind": "tfidf", "fields": ["title", "brand", "categories"], "dimensions": 128},
    "behaviour": {"window": 5, "dimensions": 64},
    "behaviour_weight": 0.5,
    "collisions": "nearest",
}
QUICK = {
    "lr_scheduler_type": "cosine",
    "bf16": False,
    "use_cpu": True,
    "gradient_checkpointing": False,
    "disable_tqdm": True,
    "logging_steps": 20,
    "num_train_epochs": 4,
}
TUNING = {"tuning": "full", "batch_tokens": 2048, "valid_users": 600}


def list_split(interactions: Interactions, seed: int) -> Split:
    """The last five events of users with at least ten; all before them, and all of the other users, is train."""
    lengths = np.diff(interactions.offsets)
    users = np.flatnonzero(lengths >= 2 * LENGTH)
    from_end = np.repeat(interactions.offsets[1:], lengths) - np.arange(len(interactions))  # 1 for a user's last event
    train = interactions.filter((from_end > LENGTH) | (lengths < 2 * LENGTH)[interactions.user_rows])
    is_valid = np.random.default_rng(seed).random(len(users)) < 0.2

    def examples(some: Rows) -> Examples:
        whole = [interactions.history(int(user)) for user in some]
        histories, targets = [rows[:-LENGTH] for rows in whole], [rows[-LENGTH:] for rows in whole]
        return Examples(some.astype(np.int32), Ragged.from_lists(histories), Ragged.from_lists(targets))

    return Split(train, examples(users[is_valid]), examples(users[~is_valid]), f"the last {LENGTH} events of a user")


def measured(rows: Rows, targets: Ragged, vectors: Any, first_codes: Any) -> dict[str, Any]:
    """One value a user for each metric."""
    return {
        **{name: METRICS[name](rows, targets, LENGTH) for name in ("ndcg", "recall", "hr")},
        "diversity": diversity(rows, vectors),
        "different_first_codes": group_diversity(rows, first_codes),
    }


def summed_up(rows: Rows, values: dict[str, Any]) -> dict[str, float]:
    """The means over users, and the number of distinct items over all lists."""
    means = {name: round(float(np.nanmean(of_users)), 4) for name, of_users in values.items()}
    return {**means, "distinct_items": len(np.unique(rows[rows >= 0]))}


def paired(ours: Any, theirs: Any) -> list[float]:
    """The mean difference over users and its standard error."""
    difference = ours - theirs
    return [round(float(difference.mean()), 4), round(float(difference.std() / np.sqrt(len(difference))), 4)]


def by_decode(recommender: LLMRecommender, prompts: list[list[int]], excluded: Ragged, beams: int) -> np.ndarray:
    """The same search through `Engine.decode`: after each item, `beams` next items for each list, the best lists kept.

    Returns:
        `float64[B]`, the score of each best list.
    """
    engine, items = recommender.engine, recommender.task.items
    found = engine.decode(prompts, beams, beams, excluded=excluded)
    lists, scores = found.rows[..., None], found.scores.astype(np.float64)  # (B, K, 1), (B, K)
    for _ in range(LENGTH - 1):
        whole = [
            prompt + [token for row in rows for token in items.encode(int(row))]
            for prompt, of_user in zip(prompts, lists, strict=True)
            for rows in of_user
        ]
        closed = [np.concatenate([excluded[u], rows]) for u, of_user in enumerate(lists) for rows in of_user]
        parts = [
            engine.decode(whole[at : at + 64], beams, beams, excluded=Ragged.from_lists(closed[at : at + 64]))
            for at in range(0, len(whole), 64)
        ]
        nexts = np.concatenate([part.rows for part in parts]).reshape(len(prompts), -1)  # (B, K * K)
        totals = np.concatenate([part.scores for part in parts]).reshape(*scores.shape, beams) + scores[..., None]
        best = np.argsort(-totals.reshape(nexts.shape), axis=1, kind="stable")[:, :beams]
        longer = np.take_along_axis(lists, (best // beams)[..., None], 1)
        lists = np.concatenate([longer, np.take_along_axis(nexts, best, 1)[..., None]], -1)
        scores = np.take_along_axis(totals.reshape(nexts.shape), best, 1)
    return scores[:, 0]


def speed(recommender: LLMRecommender, test: Examples, users: int) -> dict[str, Any]:
    """Seconds of a ranking, of a list, and of a list through `Engine.decode`, for the same users."""
    histories = test.histories.slice(0, users)
    beams = recommender.decoding.beams

    def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
        call()
        began = time.process_time()
        found = call()
        return time.process_time() - began, found

    prompts = [recommender.task.prompt(history) for history in histories]
    ranking, _ = seconds(lambda: recommender.recommend(histories, LENGTH))
    lists, found = seconds(lambda: recommender.recommend_lists(histories, LENGTH))
    plain, scores = seconds(lambda: by_decode(recommender, prompts, histories, beams))
    return {
        "users": users,
        "cpu_seconds": {"five best items": round(ranking, 3), "list": round(lists, 3), "by decode": round(plain, 3)},
        "list_in_rankings": round(lists / ranking, 2),
        "speedup_over_decode": round(plain / lists, 1),
        "list_scores_higher": round(float((found.scores[:, 0] > scores + 1e-3).mean()), 3),
        "list_scores_lower": round(float((found.scores[:, 0] < scores - 1e-3).mean()), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/amazon14_office")
    parser.add_argument("--seconds", type=float, default=240, help="CPU seconds of the first training's steps")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--rate", type=float, default=3e-4, help="learning rate of what follows")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", action="store_true", help="keep the result under benchmarks/results/")
    chosen = parser.parse_args()
    catalog, interactions = TableSource(root=Path(chosen.data)).load()
    split = list_split(k_core(interactions, 3, 1), chosen.seed)
    index = RQKMeansIndex.parse(INDEX).build(catalog, split.train)
    vectors = build("encoder", INDEX["encoder"]).fit(catalog, split.train).vectors
    start, log = train_for(chosen.seconds, index, catalog, split, chosen.seed, chosen.width)
    torch.set_num_threads(1)

    def next_stage(trainer: Any) -> LLMRecommender:
        with tempfile.TemporaryDirectory() as folder:
            start.save_pretrained(Path(folder) / "start")
            copy = LLMRecommender.from_pretrained(Path(folder) / "start", device="cpu")
            work = Path(folder) / "work"
            recommender, _ = trainer.train(
                copy.model, copy.task, split.train, split.valid, work, chosen.seed, start.decoding
            )
            return recommender

    args = {**QUICK, "learning_rate": chosen.rate}
    on_lists = {**TUNING, "lists": {"length": LENGTH, "min_history": 2}, "args": {**args, "beta": 0.5}}
    stages: dict[str, Callable[[], LLMRecommender]] = {
        "fine-tuned": lambda: start,
        "fine-tuned on": lambda: next_stage(SFT.parse({**TUNING, "init": "keep", "args": args})),
        "lists, observed": lambda: next_stage(ListDPO.parse(on_lists)),
        "lists, best": lambda: next_stage(ListDPO.parse({**on_lists, "judged": {"chosen": "best"}})),
        "lists, observed, no nll": lambda: next_stage(ListDPO.parse({**on_lists, "nll_weight": 0})),
        "lists, diverse": lambda: next_stage(
            ListDPO.parse({**on_lists, "judged": {"chosen": "best"}, "reward": {"ndcg": 1, "diversity": 0.5}})
        ),
    }
    histories, targets = split.test.histories, split.test.targets
    counter = Markov().fit(split.train, catalog).recommend(histories, LENGTH).rows
    answers = {"markov": {"items": summed_up(counter, measured(counter, targets, vectors, index.codes[:, 0]))}}
    for name, make in stages.items():
        recommender = make()
        values, answers[name] = {}, {}
        for how, asked in {"items": recommender, "list": AsLists(recommender)}.items():
            rows = asked.recommend(histories, LENGTH).rows
            values[how] = measured(rows, targets, vectors, index.codes[:, 0])
            answers[name][how] = summed_up(rows, values[how])
        answers[name]["list_minus_items"] = {
            metric: paired(values["list"][metric], values["items"][metric])
            for metric in ("ndcg", "recall", "diversity")
        }
        if name == "fine-tuned":
            first = values["list"]["ndcg"]
        answers[name]["list_ndcg_minus_fine_tuned"] = paired(values["list"]["ndcg"], first)
        print(name, answers[name], flush=True)
    figures = {
        "answers": answers,
        "speed": speed(start, split.test, 64),
        "data": Path(chosen.data).name,
        "test_users": len(split.test),
        "train_events": len(split.train),
        "training": log,
        "seed": chosen.seed,
    }
    report("lists", figures, chosen.store)


if __name__ == "__main__":
    main()
