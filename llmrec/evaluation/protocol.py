"""Ask a recommender the questions of a split and measure its answers, without knowing what it is.

The counts of wrong answers are taken from the returned rows themselves, never from what the recommender promises; and
an evaluation carries its protocol in words, since a number without it cannot be compared.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from llmrec.data.split import Examples
from llmrec.errors import ArtifactError, DataError, RecipeError, did_you_mean
from llmrec.evaluation.metrics import METRICS, first_ranks, is_in, repeats
from llmrec.evaluation.sampled import SampledRanking
from llmrec.recommenders.base import Recommender
from llmrec.types import Ragged

logger = logging.getLogger(__name__)

PER_EXAMPLE = ("per_example", "ranks", "rows", "scores")


@dataclass(frozen=True)
class Evaluation:
    """What one recommender scored on one set of examples.

    Args:
        metrics: `name@k` -> mean over examples, such as `ndcg@10`.
        protocol: how it was measured, in words.
        examples: questions asked. users: the different users who asked them.
        invalid: returned rows that are not in the catalog. duplicates: items that a list repeats.
        excluded_returned: returned items of the history although seen items were to be left out.
        unfilled: empty places (-1): the recommender found fewer items than were wanted.
        unreachable: examples with a target that is in their history although seen items are left out: no recommender
            can hit it.
        exact: lists that the recommender proved to be its true best (`ScoredItems.exact`); the others may miss an item
            that its search gave up too early.
        seconds: time spent in `recommend`.
        intervals: `name@k` -> `[low, high]`; empty until `llmrec.evaluation.describe` fills it, as are the next three.
        slices: name of a slicing -> its slices, see `llmrec.evaluation.slices`.
        popularity: how popular and how varied the lists are, see `llmrec.evaluation.beyond_accuracy`.
        calibration: whether stated probabilities hold, see `llmrec.evaluation.calibration`; empty if none are stated.
        per_example: `name@k` -> `float64[E]`, in the order of the examples; for intervals and paired tests.
        ranks: `int32[E]`, the rank of the first target among the largest k, from 1; 0 if it is not there.
        rows: `int32[E, k]`, what was recommended, for the largest k. scores: `float32[E, k]`, of the same items.
    """

    metrics: dict[str, float]
    protocol: str
    examples: int
    users: int
    invalid: int
    duplicates: int
    excluded_returned: int
    unfilled: int
    unreachable: int
    exact: int
    seconds: float
    intervals: dict[str, list[float]] = field(default_factory=dict)
    slices: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    popularity: dict[str, float] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)
    per_example: dict[str, NDArray[np.float64]] = field(default_factory=dict, repr=False, compare=False)
    ranks: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32), repr=False, compare=False)
    rows: NDArray[np.int32] = field(default_factory=lambda: np.empty((0, 0), np.int32), repr=False, compare=False)
    scores: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32), repr=False, compare=False)

    def to_dict(self, per_example: bool = False) -> dict[str, Any]:
        """JSON values; the values of every example only when asked for."""
        head = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in PER_EXAMPLE}
        if per_example:
            head["per_example"] = {name: values.tolist() for name, values in self.per_example.items()}
            head["ranks"] = self.ranks.tolist()
        return head

    def to_json(self, per_example: bool = False) -> str:
        """The text of `eval.json`."""
        return json.dumps(self.to_dict(per_example), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Evaluation:
        """Read what `to_json` wrote.

        Raises:
            ArtifactError: the text is not an evaluation.
        """
        try:
            head = json.loads(text)
            per_example = {name: np.asarray(values, np.float64) for name, values in head.pop("per_example", {}).items()}
            return cls(**head | {"per_example": per_example, "ranks": np.asarray(head.pop("ranks", []), np.int32)})
        except (ValueError, TypeError, AttributeError) as error:
            raise ArtifactError(f"This is not an evaluation ({error}). Run the evaluation again.") from error


def evaluate(
    recommender: Recommender,
    examples: Examples,
    ks: Sequence[int] = (5, 10),
    exclude_seen: bool = True,
    batch_size: int = 256,
    progress: bool = True,
    split: str = "split not stated",
    metrics: Sequence[str] = ("hr", "ndcg", "mrr"),
    sampled: SampledRanking | None = None,
) -> Evaluation:
    """Recommend after every history, over the whole catalog, and compare with the targets.

    Args:
        recommender: anything that keeps the `Recommender` contract, fitted.
        examples: `E` histories with their targets.
        ks: list lengths to report; the longest is asked for.
        exclude_seen: leave out the items of the history.
        batch_size: histories per call of `recommend`.
        progress: a bar on stderr.
        split: how the examples were cut, in words (`Split.protocol`).
        metrics: names of `METRICS`; `recall` differs from `hr` only where an example has several targets.
        sampled: rank the targets among drawn items only, which is another and an easier question; says so by a warning
            and in the protocol.

    Raises:
        DataError: there is no example, or no k.
        RecipeError: a metric is unknown.
    """
    _check(examples, ks, metrics)
    if sampled is not None:
        logger.warning("sampled ranking: it may order models otherwise than a ranking of the whole catalog does")
    size, longest = len(recommender.catalog), max(ks)
    counts: dict[str, Any] = dict.fromkeys(
        ("invalid", "duplicates", "excluded_returned", "unfilled", "unreachable", "exact"), 0
    )
    values: dict[str, list[NDArray[np.float64]]] = {f"{name}@{k}": [] for k in ks for name in metrics}
    ranks, answers, seconds = [], [], 0.0
    with tqdm(total=len(examples), desc="evaluate", unit="history", disable=not progress) as bar:
        for start in range(0, len(examples), batch_size):
            batch = examples.take(np.arange(start, min(start + batch_size, len(examples))))
            among = None if sampled is None else sampled.candidates(batch, size, start)
            began = time.perf_counter()
            answer = recommender.recommend(batch.histories, longest, exclude_seen, candidates=among)
            seconds += time.perf_counter() - began
            rows = answer.rows  # (b, longest)
            if rows.shape != (len(batch), longest):
                raise ValueError(f"recommend gave rows of shape {rows.shape}, not {(len(batch), longest)}.")
            for name, count in _wrong_answers(rows, batch, size, exclude_seen).items():
                counts[name] += count
            counts["exact"] += int(answer.exact.sum())
            answers.append((rows, answer.scores))
            ranks.append(first_ranks(rows, batch.targets, longest))
            for name in metrics:
                for k in ks:
                    values[f"{name}@{k}"].append(METRICS[name](rows, batch.targets, k))
            bar.update(len(batch))
    per_example = {name: np.concatenate(parts) for name, parts in values.items()}
    users = len(np.unique(examples.users))
    return Evaluation(
        metrics={name: float(column.mean()) for name, column in per_example.items()},
        protocol=_in_words(size, len(examples), users, exclude_seen, counts["unreachable"], split, sampled),
        examples=len(examples),
        users=users,
        seconds=seconds,
        per_example=per_example,
        ranks=np.concatenate(ranks),
        rows=np.concatenate([rows for rows, _ in answers]),
        scores=np.concatenate([scores for _, scores in answers]),
        **counts,
    )


def _check(examples: Examples, ks: Sequence[int], metrics: Sequence[str]) -> None:
    if not len(examples):
        raise DataError("there is no example to evaluate.", fix="Check the split and the sample size.")
    if not ks or min(ks) < 1:
        raise DataError(f"ks is {list(ks)}.", fix="Give list lengths of at least 1, such as 5 and 10.")
    for name in metrics:
        if name not in METRICS:
            raise RecipeError(f"There is no metric '{name}'. {did_you_mean(name, METRICS)}")


def _wrong_answers(rows: NDArray[np.int32], batch: Examples, size: int, exclude_seen: bool) -> dict[str, int]:
    return {
        "invalid": int(((rows >= size) | (rows < -1)).sum()),
        "duplicates": int(repeats(rows).sum()),
        "excluded_returned": int(is_in(rows, batch.histories).sum()) if exclude_seen else 0,
        "unfilled": int((rows == -1).sum()),
        "unreachable": int(is_in(_padded(batch.targets), batch.histories).any(axis=1).sum()) if exclude_seen else 0,
    }


def _padded(lists: Ragged) -> NDArray[np.int32]:
    """`int32[B, longest]`, filled up with -1."""
    table = np.full((len(lists), int(lists.lengths.max(initial=0))), -1, np.int32)
    table[np.arange(table.shape[1]) < lists.lengths[:, None]] = lists.values[lists.offsets[0] : lists.offsets[-1]]
    return table


def _in_words(
    size: int,
    examples: int,
    users: int,
    exclude_seen: bool,
    unreachable: int,
    split: str,
    sampled: SampledRanking | None,
) -> str:
    asked = f"{users:,} users" if users == examples else f"{examples:,} examples of {users:,} users"
    parts = [
        split,
        f"full ranking over {size:,} items" if sampled is None else f"{sampled.in_words()}, of {size:,} items",
        f"seen items {'excluded' if exclude_seen else 'allowed'}",
        asked,
    ]
    if unreachable:
        parts.append(f"{unreachable:,} with a target in their own history, which cannot be hit")
    return "; ".join(parts)
