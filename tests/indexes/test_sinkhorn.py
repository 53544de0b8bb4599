"""Transport plans by hand, and codes that are unique, evenly used and inside their prefix."""

import math

import numpy as np
import pytest
from contracts.index_contract import clustered_world
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from llmrec.errors import RecipeError
from llmrec.indexes import sinkhorn
from llmrec.indexes.collisions import make_unique, nearest_free, transported
from llmrec.indexes.quantized import residual_codes
from llmrec.indexes.rqkmeans import RQKMeansIndex
from llmrec.indexes.sinkhorn import spread, transport_plan


def column(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None]


def one_prefix(count: int) -> np.ndarray:
    return np.zeros(count, np.int64)


def test_plan_worked_example() -> None:
    # By symmetry both items share themselves out as 1 : exp(-1 / epsilon) between the near and the far code.
    plan = transport_plan(np.array([[0.0, 1], [1, 0]]), epsilon=1, iterations=20)
    near = 0.5 / (1 + math.exp(-1))
    np.testing.assert_allclose(plan, [[near, 0.5 - near], [0.5 - near, near]])


def test_all_items_and_all_codes_count_alike() -> None:
    costs = np.random.default_rng(0).random((5, 4, 7))  # five problems at once
    plan = transport_plan(costs, epsilon=0.1, iterations=500)
    np.testing.assert_allclose(plan.sum(axis=2), 1 / 4)
    np.testing.assert_allclose(plan.sum(axis=1), 1 / 7, rtol=1e-6)
    np.testing.assert_allclose(plan[3], transport_plan(costs[3], epsilon=0.1, iterations=500))


def test_small_epsilon_is_the_cheapest_plan_and_large_epsilon_an_even_one() -> None:
    costs = np.array([[0.0, 0.4, 2], [0, 1, 3], [0.1, 2, 2]])
    # Permutations cost 0+1+2=3, 0+3+2=5, 0.4+0+2=2.4, 0.4+3+0.1=3.5, 2+0+2=4, 2+1+0.1=3.1: the third is cheapest.
    cheapest = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]]) / 3
    np.testing.assert_allclose(transport_plan(costs, 0.01, 3000), cheapest, atol=1e-3)
    np.testing.assert_allclose(transport_plan(costs, 1e6, 10), np.full((3, 3), 1 / 9), rtol=1e-4)


@pytest.mark.parametrize("scale", [1e-30, 1e6, 1e30])
def test_extreme_costs(scale: float) -> None:
    plan = transport_plan(np.array([[0, 1, 5], [0, 2, 3]]) * scale, epsilon=1e-3, iterations=50)
    assert np.isfinite(plan).all()
    np.testing.assert_allclose(plan.sum(axis=1), 0.5)


def test_spread_worked_example() -> None:
    # Four codes for two points: each is to fill two. What 0 saves over 0.4 grows with the code, so 0 takes the lower
    # two codes and 0.4 the upper two; of those each gets the nearest. (One after the other, 0.4 would get 1.)
    assert spread(column(0, 0.4), one_prefix(2), column(0, 1, 2, 10)).tolist() == [0, 2]
    assert spread(column(0.4, 0), one_prefix(2), column(0, 1, 2, 10)).tolist() == [2, 0]


def test_as_many_points_as_codes_is_the_cheapest_assignment() -> None:
    # 0 to 0 and 1 to 5 cost 16, the reverse 26.
    assert spread(column(1, 0), one_prefix(2), column(0, 5)).tolist() == [1, 0]


def test_equal_points_and_points_of_any_size() -> None:
    assert sorted(spread(column(2, 2, 2), one_prefix(3), column(2, 2, 2)).tolist()) == [0, 1, 2]
    for scale in (1e-12, 1e12):
        codes = spread(column(0, 0.4) * np.float32(scale), one_prefix(2), column(0, 1, 2, 10) * np.float32(scale))
        assert codes.tolist() == [0, 2]


@pytest.mark.parametrize("block", [1, 10, 10**6])
def test_blocks_and_other_prefixes_make_no_difference(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    points, codebook = rng.normal(size=(120, 3)).astype(np.float32), rng.normal(size=(9, 3)).astype(np.float32)
    prefixes = rng.permutation(np.repeat(np.arange(30), np.tile([1, 3, 5, 7, 4], 6))).astype(np.int64)
    monkeypatch.setattr(sinkhorn, "BLOCK", block)
    labels = spread(points, prefixes, codebook)
    for prefix in range(30):
        rows = np.flatnonzero(prefixes == prefix)
        assert len(set(labels[rows].tolist())) == len(rows)
        np.testing.assert_array_equal(labels[rows], spread(points[rows], one_prefix(len(rows)), codebook))


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_unique_up_to_the_last_code_and_only_where_needed(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    count = data.draw(st.integers(1, math.prod(sizes)))
    whole = st.integers(-3, 3)  # small whole numbers: many ties and duplicates
    vectors = data.draw(arrays(np.float32, (count, 2), elements=whole))
    codebooks = [data.draw(arrays(np.float32, (size, 2), elements=whole)) for size in sizes]
    plain = residual_codes(vectors, codebooks)[0]
    codes = transported(vectors, codebooks, plain)
    assert codes.dtype == np.int32
    assert len(np.unique(codes, axis=0)) == count
    assert ((codes >= 0) & (codes < np.asarray(sizes))).all()
    np.testing.assert_array_equal(codes[:, :-1], nearest_free(vectors, codebooks)[:, :-1])
    if (codes[:, :-1] == plain[:, :-1]).all():  # no prefix was too full: those without a collision are as they were
        for prefix in np.unique(plain[:, :-1], axis=0):
            rows = np.flatnonzero((plain[:, :-1] == prefix).all(axis=1))
            if len(np.unique(plain[rows, -1])) == len(rows):
                np.testing.assert_array_equal(codes[rows], plain[rows])


def test_all_items_of_a_colliding_prefix_are_assigned_anew() -> None:
    # Prefix 0 holds 0, 0.1 and 1, the first two on one code. Three codes for three items: the cheapest is 0, 1, 2, so
    # 1 makes room too. Prefix 1 has no collision and stays.
    codebooks = [column(0, 100), column(0, 1, 2)]
    vectors = column(0, 0.1, 1, 100, 102)
    plain = residual_codes(vectors, codebooks)[0]
    assert plain.tolist() == [[0, 0], [0, 0], [0, 1], [1, 0], [1, 2]]
    codes, sizes = make_unique(plain, vectors, codebooks, "sinkhorn")
    assert codes.tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 2]]
    assert sizes == (2, 3)


def test_a_prefix_that_is_too_full_sends_the_farthest_to_another() -> None:
    codebooks = [column(0, 10), column(0, 1)]
    vectors = column(0, 0.1, 1, 0.4)  # four items near prefix 0, which has two codes
    codes = transported(vectors, codebooks, residual_codes(vectors, codebooks)[0])
    assert codes[:, 0].tolist() == [0, 0, 1, 1]  # as `nearest` does
    assert len(np.unique(codes, axis=0)) == 4


def test_the_last_level_is_used_more_evenly_than_by_nearest() -> None:
    rng = np.random.default_rng(0)
    tight = 0.1 * rng.normal(size=(300, 4))  # every prefix has its items near one code of the last level
    vectors = (rng.choice(20, size=(300, 1)) * 10 + tight).astype(np.float32)
    codebooks = [np.repeat(np.arange(20, dtype=np.float32)[:, None] * 10, 4, axis=1)]
    codebooks.append(rng.normal(size=(32, 4)).astype(np.float32))
    plain = residual_codes(vectors, codebooks)[0]
    even, near = (
        np.bincount(make_unique(plain, vectors, codebooks, strategy)[0][:, 1], minlength=32)
        for strategy in ("sinkhorn", "nearest")
    )
    assert near.std() > 1.5 * even.std()  # `nearest` fills the same half of the codes under every prefix


def test_moves_are_counted() -> None:
    world = clustered_world()
    settings = {"encoder": {"kind": "tfidf"}, "levels": [5, 16], "iterations": 5}
    index = RQKMeansIndex(**settings, collisions="sinkhorn").build(world.catalog, world.train)
    digit = RQKMeansIndex(**settings, collisions="digit").build(world.catalog, world.train)  # holds the plain codes
    assert index.provenance["collisions"]["resolved_by"] == "sinkhorn"
    assert index.provenance["moved"] == int((index.codes != digit.codes[:, :2]).any(axis=1).sum()) > 0
    assert index.level_sizes == (5, 16)


def test_too_few_codes_is_an_error_that_teaches() -> None:
    codebooks = [column(0, 1), column(0, 1)]
    with pytest.raises(RecipeError, match=r"make 4 codes, fewer than the 5 items. Enlarge a level.*digit"):
        make_unique(np.zeros((5, 2), np.int32), column(0, 1, 2, 3, 4), codebooks, "sinkhorn")
