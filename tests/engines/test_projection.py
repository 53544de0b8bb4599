"""The walk over blocks of items equals a sort of everything, ties and exclusions included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from llmrec.engines import projection
from llmrec.engines.projection import best_items
from llmrec.types import Ragged


def by_sorting(
    queries: torch.Tensor, vectors: torch.Tensor, k: int, allowed: np.ndarray
) -> tuple[list[list[int]], np.ndarray]:
    """Everything scored, everything sorted; equal scores by row."""
    scores = (queries.double() @ vectors.double().T).log_softmax(1).numpy()
    scores = np.where(allowed, scores, -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    found = np.take_along_axis(scores, order, 1)
    order = np.where(np.isinf(found), -1, order)
    pad = ((0, 0), (0, k - order.shape[1]))
    return np.pad(order, pad, constant_values=-1).tolist(), np.pad(found, pad, constant_values=-np.inf)


@settings(max_examples=60, deadline=None)
@given(
    items=st.integers(1, 90), users=st.integers(1, 4), k=st.integers(1, 12), seed=st.integers(0, 999),
    kind=st.sampled_from(["all", "excluded", "shared", "own"]), order=st.sampled_from(["none", "rising"]),
)  # fmt: skip
def test_it_equals_a_sort_of_everything(items: int, users: int, k: int, seed: int, kind: str, order: str) -> None:
    rng = np.random.default_rng(seed)
    # Small whole numbers: products are exact and many of them equal.
    queries = torch.from_numpy(rng.integers(-2, 3, (users, 3)).astype(np.float32))
    vectors = torch.from_numpy(rng.integers(-2, 3, (items, 3)).astype(np.float32))
    if order == "rising":  # the worst for a walk: every block beats the one before
        vectors = vectors[(vectors @ queries[0]).argsort()]
    lists = [rng.choice(items, rng.integers(0, items + 1), replace=False) for _ in range(users)]
    allowed = np.ones((users, items), bool)
    excluded, candidates = None, None
    if kind == "excluded":
        excluded = Ragged.from_lists(lists)
        for user, rows in enumerate(lists):
            allowed[user, rows] = False
    elif kind == "shared":
        candidates = np.sort(lists[0]).astype(np.int32)
        allowed[:] = np.isin(np.arange(items), candidates)
    elif kind == "own":
        candidates = Ragged.from_lists(lists)
        allowed[:] = False
        for user, rows in enumerate(lists):
            allowed[user, rows] = True
    with pytest.MonkeyPatch.context() as patch:  # several blocks of a few items
        patch.setattr(projection, "FIRST_BLOCK", 5)
        patch.setattr(projection, "SCORES_AT_ONCE", 20 * users)
        found = best_items(queries, vectors, k, excluded, candidates)
    rows, scores = by_sorting(queries, vectors, k, allowed)
    assert found.rows.tolist() == rows
    np.testing.assert_allclose(found.scores.numpy(), scores, atol=1e-5)


def test_a_large_catalog_in_its_real_blocks() -> None:
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(64, 16, generator=generator)
    vectors = torch.randn(50_000, 16, generator=generator)
    found = best_items(queries, vectors, 20)
    whole = (queries @ vectors.T).log_softmax(1)
    assert torch.equal(found.rows, whole.topk(20).indices)
    torch.testing.assert_close(found.scores, whole.topk(20).values, atol=1e-4, rtol=0)


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that an operation makes."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        sizes = [tensor.numel() for tensor in tree_leaves(made) if isinstance(tensor, torch.Tensor)]
        self.elements = max([self.elements, *sizes] if not func.is_view else [self.elements])
        return made


def test_no_table_of_users_by_items_is_ever_there() -> None:
    queries, vectors = torch.ones(16, 4), torch.rand(100_000, 4, generator=torch.Generator().manual_seed(0))
    seen = Ragged.from_lists([np.array([5, 70_000], np.int32)] * 16)
    with Largest() as largest:
        best_items(queries, vectors, 20, seen)
    assert 0 < largest.elements <= projection.SCORES_AT_ONCE < 16 * 100_000


def test_mixed_precision_around_it_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(1)
    queries, vectors = torch.randn(2, 16, generator=generator), torch.randn(3000, 16, generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        inside = best_items(queries, vectors, 50)
    outside = best_items(queries, vectors, 50)
    assert torch.equal(inside.rows, outside.rows)
    assert torch.equal(inside.scores, outside.scores)


def test_nobody_asks() -> None:
    found = best_items(torch.zeros(0, 4), torch.ones(9, 4), 3)
    assert found.rows.shape == found.scores.shape == (0, 3)
