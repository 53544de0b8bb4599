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

from llmrec.encoders.vectors import one_blas_thread
from llmrec.errors import DataError


def fuse(text: NDArray[np.float32], behaviour: NDArray[np.float32], weight: float) -> NDArray[np.float32]:
    """One vector an item, `[text * sqrt(1 - weight), behaviour * sqrt(weight)]`.

    Args:
        text: `float32[N, D]` unit rows.
        behaviour: `float32[N, E]` unit rows, zero where nothing is known.
        weight: share of behaviour in squared distances, 0 (text alone, unchanged) to 1 (behaviour alone).

    Returns:
        `float32[N, D + E]`; `text` itself for weight 0, `float32[N, E]` for weight 1.

    Raises:
        DataError: the weight is not in [0, 1], or no item has behaviour.
    """
    if not 0 <= weight <= 1:
        raise DataError(f"the behaviour weight is {weight}.", fix="Give a share from 0 to 1.")
    if weight == 0:
        return text
    complete = expected_behaviour(text, behaviour)
    if weight == 1:
        return complete
    return np.hstack([text * np.float32(np.sqrt(1 - weight)), complete * np.float32(np.sqrt(weight))])


def expected_behaviour(text: NDArray[np.float32], behaviour: NDArray[np.float32]) -> NDArray[np.float32]:
    """`behaviour` with its zero rows replaced by what the texts predict, `float32[N, E]`.

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
    if known.all():
        return behaviour
    with one_blas_thread():  # the same bytes on any number of cores
        model = Ridge(alpha=1.0, solver="cholesky").fit(text[known], behaviour[known])
        complete = behaviour.copy()
        complete[~known] = model.predict(text[~known])
    return complete
