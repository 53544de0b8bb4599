"""Join what an item says about itself with what people do with it.

The squared distance of two fused items is `(1 - w)` times that of their texts plus `w` times that of their behaviour,
so `w` is exactly the share of behaviour in what k-means minimises.

An item without train events has no behaviour. A zero in its place would push all such items into one corner, whatever
they are; leaving the text at full weight would put it on another scale than its neighbours'. Both make codes that say
"new item" instead of what the item is. It gets instead the behaviour to be expected from its text (ridge regression
over the items that have both). That is the right guess for k-means: the expected squared distance to a centroid is
the distance from the expected vector plus a constant, so both choose the same centroid.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmrec.encoders.base import State
from llmrec.encoders.vectors import one_blas_thread
from llmrec.errors import DataError


def fuse(
    text: NDArray[np.float32], behaviour: NDArray[np.float32], weight: float, state: State | None = None
) -> tuple[NDArray[np.float32], State]:
    """One vector an item, `[text * sqrt(1 - weight), behaviour * sqrt(weight)]`.

    Args:
        text: `float32[N, D]` unit rows.
        behaviour: `float32[N, E]` unit rows, zero where nothing is known.
        weight: share of behaviour in squared distances, more than 0, to 1 (behaviour alone).
        state: what an earlier call learned, for items that came later; learned from these items when None.

    Returns:
        `float32[N, D + E]` (`float32[N, E]` for weight 1), and how text predicts behaviour, for later items.

    Raises:
        DataError: the weight is not in (0, 1], or no item has behaviour.
    """
    if not 0 < weight <= 1:
        raise DataError(f"the behaviour weight is {weight}.", fix="Give a share above 0, up to 1.")
    state = predict_behaviour(text, behaviour) if state is None else state
    known = behaviour.any(axis=1, keepdims=True)
    with one_blas_thread():  # the same bytes on any number of cores
        complete = behaviour if known.all() else np.where(known, behaviour, text @ state["slope"] + state["intercept"])
    if weight == 1:
        return complete, state
    return np.hstack([text * np.float32(np.sqrt(1 - weight)), complete * np.float32(np.sqrt(weight))]), state


def predict_behaviour(text: NDArray[np.float32], behaviour: NDArray[np.float32]) -> State:
    """A linear map from texts to behaviour, learned from the items that have both: `slope` and `intercept`.

    Predicted rows are shorter than one: the less the text tells, the closer to the average item.

    Raises:
        DataError: no item has behaviour.
    """
    from sklearn.linear_model import Ridge

    known = behaviour.any(axis=1)
    if not known.any():
        raise DataError(
            "no item has behaviour: no train history holds two different items within the window.",
            fix="Leave out 'behaviour', lower its min_count, or give a train split with longer histories.",
        )
    with one_blas_thread():
        model = Ridge(alpha=1.0, solver="cholesky").fit(text[known], behaviour[known])
    slope = np.atleast_2d(model.coef_).T  # (D, E)
    return {"slope": slope.astype(np.float32), "intercept": np.atleast_1d(model.intercept_).astype(np.float32)}
