"""Do stated probabilities hold, and how likely did a model call what was taken?

A score that is `log p(item | history)` can be checked against what happened: of the items that a model gave 2%, two in
a hundred should be taken (expected calibration error, Naeini et al. 2015, here over parts of equally many items). And
the mean log-probability of what was taken compares models on the whole catalog, not on ten places (LABOR-LLM, Du et al.
2024, https://arxiv.org/abs/2406.17972).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmrec.data.split import Examples
from llmrec.evaluation.item_scores import item_scores
from llmrec.evaluation.metrics import is_in
from llmrec.evaluation.significance import interval
from llmrec.recommenders.base import Recommender
from llmrec.types import Ragged

PARTS = 10
"""Parts of equally many listed items, by their probability."""


@dataclass(frozen=True)
class Reliability:
    """Listed items in parts of equal size, from the least likely up.

    Args:
        stated: mean probability of each part. taken: share of its items that are targets. counts: items of each.
    """

    stated: tuple[float, ...]
    taken: tuple[float, ...]
    counts: tuple[int, ...]

    @property
    def error(self) -> float:
        """The expected calibration error: the mean difference between stated and taken, over all listed items."""
        weights = np.array(self.counts) / max(sum(self.counts), 1)
        return float(weights @ np.abs(np.array(self.stated) - np.array(self.taken)))

    def to_dict(self) -> dict[str, Any]:
        """JSON values, with the `error`."""
        columns = {"stated": self.stated, "taken": self.taken}
        rounded = {name: [round(value, 6) for value in values] for name, values in columns.items()}
        return {"error": round(self.error, 6), **rounded, "counts": list(self.counts)}


def reliability(
    rows: NDArray[np.int32], scores: NDArray[np.float32], targets: Ragged, parts: int = PARTS
) -> Reliability:
    """Of items in lists: items outside of them, whose probabilities are the smallest, are not seen here.

    Args:
        rows: `int32[E, k]`, -1 for none. scores: `float32[E, k]`, `log p`. targets: `E` lists.

    >>> found = reliability(np.array([[1, 2]]), np.log([[0.5, 0.1]]), Ragged.from_lists([[1]]), parts=2)
    >>> found.counts, round(found.error, 3)
    ((1, 1), 0.3)
    """
    real = (rows >= 0) & np.isfinite(scores)
    stated, taken = np.exp(scores[real].astype(np.float64)), is_in(rows, targets)[real]
    order = np.array_split(np.argsort(stated, kind="stable"), min(parts, max(len(stated), 1)))
    order = [part for part in order if len(part)]
    return Reliability(
        tuple(float(stated[part].mean()) for part in order),
        tuple(float(taken[part].mean()) for part in order),
        tuple(len(part) for part in order),
    )


def log_likelihood(recommender: Recommender, examples: Examples) -> NDArray[np.float64]:
    """`float64[E]`: `log p(first target | history)` in nats, among all items, seen ones too.

    A uniform choice among `N` items has `-log N`. A language model's probabilities sum to 1 over the catalog only with
    `normalize: children`; otherwise it also pays for what it leaves to codes that no item has.

    Args:
        recommender: one with `log_probabilities`. examples: one question costs a language model the prompt and one
            code, far less than a search.
    """
    return item_scores(recommender, examples.histories, examples.targets.values[examples.targets.offsets[:-1]])


def stated_likelihood(recommender: Recommender, examples: Examples, **how: Any) -> dict[str, Any]:
    """`log_likelihood`, the mean of the function of that name, and its interval `log_likelihood_interval`; JSON values.

    Empty where a target has no probability at all, since the mean would be minus infinity.

    Args:
        how: `level`, `samples` and `seed` of the interval.
    """
    values = log_likelihood(recommender, examples)
    if not np.isfinite(values).all():
        return {}
    found = interval(values, examples.users, **how)
    return {
        "log_likelihood": round(found.mean, 6),
        "log_likelihood_interval": [round(found.low, 6), round(found.high, 6)],
    }
