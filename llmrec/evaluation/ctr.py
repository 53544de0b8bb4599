"""Click prediction: was this item taken, asked one item at a time (RecBench, Liu et al. 2025).

`scores` may be anything whose order counts: a recommender's score of the item, or a language model's probability of
"Yes". The log loss needs probabilities: those of a language model are some, and `fit_logistic` makes some of scores.

    labels = judgements.liked(4)
    found = evaluate_clicks(labels, item_scores(recommender, judgements.histories, judgements.items), judgements.users)

https://arxiv.org/abs/2503.05493
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmrec.errors import DataError
from llmrec.evaluation.significance import interval_of, intervals

Values = NDArray[np.float64]
Labels = NDArray[np.bool_]

SMALLEST = 1e-7
"""Probabilities are kept this far from 0 and 1, so that one bold mistake does not make the log loss infinite."""


@dataclass(frozen=True)
class Clicks:
    """How well clicks were predicted.

    Args:
        metrics: `auc`; `grouped_auc` where a user has both kinds of labels; `log_loss` where there are probabilities.
        intervals: of each, `[low, high]`, users drawn.
        share: of the questions whose label is 1. base_log_loss: of a model that always states this share.
        questions, users: asked. grouped_users: those with both kinds of labels; others have no AUC of their own.
    """

    metrics: dict[str, float]
    intervals: dict[str, list[float]]
    share: float
    base_log_loss: float
    questions: int
    users: int
    grouped_users: int = field(default=0)


def evaluate_clicks(
    labels: Labels,
    scores: Values,
    users: NDArray[np.integer],
    probabilities: Values | None = None,
    level: float = 0.95,
    samples: int = 1000,
    seed: int = 0,
) -> Clicks:
    """Measure predictions.

    Args:
        labels: `bool[E]`. scores: `float64[E]`, higher is likelier; `-inf` is allowed, NaN is not.
        users: `int[E]`, who was asked. probabilities: `float64[E]` in [0, 1].
        level, samples, seed: of the intervals.

    Raises:
        DataError: all labels are alike, lengths differ, or a number is none.
    """
    labels = _checked(labels, scores, users, probabilities)
    per_user = user_auc(labels, scores, users)
    columns = {"grouped_auc": per_user} if not np.isnan(per_user).all() else {}
    if probabilities is not None:
        columns["log_loss"] = log_losses(labels, probabilities)
    measured = {"auc": interval_of(_Ranking(labels, scores).auc, users, level, samples, seed)}
    measured |= intervals(columns, users, level, samples, seed)
    share = float(labels.mean())
    return Clicks(
        {name: of.mean for name, of in measured.items()},
        {name: [of.low, of.high] for name, of in measured.items()},
        share,
        float(log_losses(labels, np.full(len(labels), share)).mean()),
        len(labels),
        len(np.unique(users)),
        len(np.unique(users[~np.isnan(per_user)])),
    )


def auc(labels: Labels, scores: Values) -> float:
    """Area under the ROC curve: how often a taken item has a higher score than one that was not; ties count half.

    NaN where all labels are alike (Hanley and McNeil, 1982).

    >>> auc(np.array([True, False, False]), np.array([0.5, 0.5, 0.1]))
    0.75
    """
    return _Ranking(labels, scores).auc(np.ones(len(labels)))


def user_auc(labels: Labels, scores: Values, users: NDArray[np.integer]) -> Values:
    """`float64[E]`: beside each question the AUC of its user's questions; NaN where these are all alike.

    The mean over questions is the grouped AUC: each user weighs as many as they have questions (Zhou et al., 2018,
    "Deep Interest Network"). It leaves out what `auc` also rewards: that some users take more than others.

    >>> user_auc(np.array([True, False, True]), np.array([0.1, 0.9, 0.5]), np.array([0, 0, 1]))
    array([ 0.,  0., nan])
    """
    found = np.full(len(labels), np.nan)
    order = np.argsort(users, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(users[order])) + 1) if len(order) else []:
        found[group] = auc(labels[group], scores[group])
    return found


def log_losses(labels: Labels, probabilities: Values) -> Values:
    """`float64[E]`, in nats: `-log p(what happened)`, with probabilities kept within [1e-7, 1 - 1e-7].

    >>> log_losses(np.array([True, False]), np.array([0.5, 0.0])).round(3)
    array([0.693, 0.   ])
    """
    kept = np.clip(probabilities, SMALLEST, 1 - SMALLEST)
    return -np.log(np.where(labels, kept, 1 - kept))


class Logistic(NamedTuple):
    """`p = 1 / (1 + exp(-(slope * score + intercept)))`; below `lowest` a score counts as `lowest`.

    Args:
        slope, intercept: fitted. lowest: the lowest finite score among those it was fitted on; `-inf` counts as this.
    """

    slope: float
    intercept: float
    lowest: float

    def __call__(self, scores: Values) -> Values:
        """`float64[E]`: the probabilities."""
        from scipy.special import expit

        return np.asarray(expit(self.slope * np.maximum(scores, self.lowest) + self.intercept), np.float64)


def fit_logistic(labels: Labels, scores: Values) -> Logistic:
    """Probabilities from scores, by logistic regression (Platt, 1999).

    Fit on validation questions, never on those that are measured.

    Raises:
        DataError: all labels are alike, or no score is finite.
    """
    from sklearn.linear_model import LogisticRegression

    labels = _checked(labels, scores, np.zeros(len(labels), np.int64), None)
    finite = np.isfinite(scores)
    if not finite.any():
        raise DataError("no score is finite.", fix="Give the scores of another recommender.")
    lowest = float(scores[finite].min())
    kept = np.maximum(scores, lowest)
    middle, spread = float(kept.mean()), float(kept.std()) or 1.0
    fitted = LogisticRegression(C=1e6, max_iter=1000).fit(((kept - middle) / spread)[:, None], labels)
    slope = float(fitted.coef_[0, 0]) / spread
    return Logistic(slope, float(fitted.intercept_[0]) - slope * middle, lowest)


class _Ranking:
    """Questions sorted by score once, so that many weighings of them are cheap."""

    def __init__(self, labels: Labels, scores: Values) -> None:
        self.order = np.argsort(scores, kind="stable")
        ordered = scores[self.order]
        self.labels = labels[self.order]
        self.ties = np.cumsum(np.concatenate([[0], ordered[1:] != ordered[:-1]])) if len(ordered) else np.zeros(0, int)

    def auc(self, weights: Values) -> float:
        """Where question `e` counts `weights[e]` times."""
        weights = weights[self.order]
        taken = np.bincount(self.ties, weights * self.labels)
        others = np.bincount(self.ties, weights * ~self.labels)
        pairs = taken.sum() * others.sum()
        below = np.cumsum(others) - others
        return float((taken * (below + others / 2)).sum() / pairs) if pairs else float("nan")


def _checked(labels: Labels, scores: Values, users: NDArray[np.integer], probabilities: Values | None) -> Labels:
    lengths = {len(column) for column in (labels, scores, users, probabilities) if column is not None}
    if len(lengths) > 1:
        raise DataError(f"the columns have {sorted(lengths)} values.", fix="Give one of each a question.")
    labels = np.asarray(labels, bool)
    if labels.all() or not labels.any():
        raise DataError(
            f"all of {len(labels)} labels are alike, so nothing can be told apart.",
            fix="Choose another threshold, or draw items that were not taken.",
        )
    if np.isnan(scores).any():
        raise DataError(f"{int(np.isnan(scores).sum())} scores are no numbers.", fix="Leave these questions out.")
    if probabilities is not None and not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise DataError("a probability is not in [0, 1].", fix="Give scores alone, or fit_logistic(...)(scores).")
    return labels
