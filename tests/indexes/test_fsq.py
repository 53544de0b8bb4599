"""Finite scalar quantization: codes are rounded numbers, and nested dropout puts what matters first."""

from pathlib import Path

import numpy as np
import pytest
import torch
from contracts.index_contract import clustered_world
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from llmrec.errors import RecipeError
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.fsq import FiniteScalars, FSQIndex, grids
from llmrec.indexes.quantized import SavedState, Vectors, residual_codes

TFIDF = {"kind": "tfidf", "dimensions": 32}
FAST = {"encoder": TFIDF, "groups": [[4, 3], [5, 2]], "hidden": [32], "steps": 200, "batch_size": 64}


def rounded(values: Vectors, groups: list[list[int]]) -> np.ndarray:
    """Codes without any codebook: each value to its cell, the cells of a level to one number."""
    columns, first = [], 0
    for group in groups:
        cells = [np.floor((values[:, first + at] + 1) * size / 2) for at, size in enumerate(group)]
        inside = tuple(np.clip(cell, 0, size - 1).astype(int) for cell, size in zip(cells, group, strict=True))
        columns.append(np.ravel_multi_index(inside, group))
        first += len(group)
    return np.column_stack(columns)


def directions(strengths: list[float]) -> Vectors:
    """Vectors that differ along as many directions, in some more than in others."""
    rng = np.random.default_rng(2)
    axes = np.linalg.qr(rng.normal(size=(16, 16)))[0][: len(strengths)]
    return (rng.uniform(-1, 1, size=(500, len(strengths))) * strengths @ axes).astype(np.float32)


def test_the_grid_of_an_even_and_an_odd_dimension_by_hand() -> None:
    first, second = grids([[2, 3], [4]])
    third = 2 / 3
    pairs = [[-0.5, -third], [-0.5, 0], [-0.5, third], [0.5, -third], [0.5, 0], [0.5, third]]
    np.testing.assert_allclose(first, [[*pair, 0] for pair in pairs], atol=1e-7)
    np.testing.assert_allclose(second, [[0, 0, value] for value in (-0.75, -0.25, 0.25, 0.75)])


@given(arrays(np.float32, (20, 5), elements=st.floats(-1, 1, width=32)))
def test_residual_codes_are_rounding(values: Vectors) -> None:
    groups = [[2, 3], [8, 5, 7]]
    edges = np.abs((values + 1) * [2, 3, 8, 5, 7] / 2 % 1 - 0.5) > 0.499  # either cell is right there
    codes, _ = residual_codes(values, grids(groups))
    same = codes == rounded(values, groups)
    assert (same | np.column_stack([edges[:, :2].any(axis=1), edges[:, 2:].any(axis=1)])).all()


def test_trained_codes_are_rounded_latents() -> None:
    vectors = directions([4, 2, 1, 1])
    learned = FSQIndex.parse(FAST).fit_quantizer(vectors)
    codes, _ = residual_codes(learned.latents, learned.codebooks)
    np.testing.assert_array_equal(codes, rounded(learned.latents, [[4, 3], [5, 2]]))
    assert (np.abs(learned.latents) <= 1).all()
    assert [len(np.unique(column)) for column in codes.T] == [12, 10]  # every code is used


def test_what_the_decoder_gets_by_hand() -> None:
    scalars = FiniteScalars([[2, 3], [4]])
    wanted = torch.tensor([[-0.9, 0.1, 0.3], [0.2, 0.5, -0.6]])
    shown, added = scalars.quantize(wanted.atanh(), torch.tensor([2, 1]))
    assert shown.flatten().tolist() == pytest.approx([-0.5, 0, 0.25, 0.5, 2 / 3, 0])  # the last one is hidden
    assert added.item() == 0
    assert scalars.used() == [2, 2]
    assert scalars.used() == [0, 0]


def test_values_at_the_bounds_are_in_the_outermost_cells() -> None:
    shown, _ = FiniteScalars([[4], [5]]).quantize(torch.tensor([[50.0, 50.0], [-50.0, -50.0]]), torch.tensor([2, 2]))
    assert shown.flatten().tolist() == pytest.approx([0.75, 0.8, -0.75, -0.8])


def test_the_gradient_goes_straight_through_the_rounding() -> None:
    latents = torch.tensor([[0.3, -1.0]], requires_grad=True)
    shown, _ = FiniteScalars([[4], [4]]).quantize(latents, torch.tensor([1]))
    shown.sum().backward()
    assert latents.grad is not None
    assert latents.grad.tolist() == [[pytest.approx(1 - np.tanh(0.3) ** 2), 0]]


def test_losses_fall_and_are_told() -> None:
    losses = FSQIndex.parse(FAST).fit_quantizer(directions([4, 2, 1, 1])).report["losses"]
    assert [losses[0]["step"], losses[-1]["step"], len(losses)] == [4, 200, 50]
    assert losses[-1]["reconstruction"] < 0.5 * losses[0]["reconstruction"]
    assert all(entry["loss"] == entry["reconstruction"] for entry in losses)
    assert np.array([entry["used"] for entry in losses[-10:]]).max(axis=0).tolist() == [12, 10]
    assert np.array([entry["used"] for entry in losses]).min() > 0


def test_no_code_mixes_items_of_two_groups() -> None:
    rng = np.random.default_rng(4)
    groups = np.repeat(np.arange(6), 40)
    vectors = np.eye(6, 12, dtype=np.float32)[groups] + rng.normal(scale=0.01, size=(240, 12)).astype(np.float32)
    learned = FSQIndex.parse({**FAST, "groups": [[3, 3], [3, 3]]}).fit_quantizer(vectors)
    codes, _ = residual_codes(learned.latents, learned.codebooks)
    distinct = len(np.unique(codes, axis=0))
    assert distinct < 30  # of 81, for 240 items
    assert len(np.unique(np.column_stack([codes, groups]), axis=0)) == distinct
    assert learned.report["decoded_error"][-1] < 0.1


def test_nested_dropout_puts_the_strong_directions_first() -> None:
    vectors = directions([4, 1, 1])
    groups = [[6], [6], [6]]
    ordered, unordered = (
        FSQIndex.parse({**FAST, "groups": groups, "nested_dropout": share})
        .fit_quantizer(vectors)
        .report["decoded_error"]
        for share in (0.5, 0.0)
    )
    assert ordered == sorted(ordered, reverse=True)
    # The strong direction is 16 of 18 parts, and six equal cells leave 1/36 of it: at best .136 is left.
    assert ordered[0] < 0.25
    assert ordered[0] < 0.6 * unordered[0]


def test_levels_have_as_many_codes_as_their_values_make() -> None:
    world = clustered_world()
    index = FSQIndex.parse({**FAST, "collisions": "nearest"}).build(world.catalog, world.train)
    assert index.level_sizes == (12, 10)
    assert index.collisions == 0


def test_what_is_saved_encodes_as_what_was_trained(tmp_path: Path) -> None:
    world = clustered_world()
    indexer = FSQIndex.parse(FAST)
    index = indexer.build(world.catalog, world.train)
    index.save(tmp_path)
    saved = SavedState.of(ItemIndex.load(tmp_path).state)
    vectors = indexer._space().fit(world.catalog, world.train).vectors
    latents = indexer.latents(vectors, saved.quantizer)
    np.testing.assert_array_equal(rounded(latents, [[4, 3], [5, 2]]), index.codes[:, :2])
    np.testing.assert_array_equal(latents, indexer.fit_quantizer(vectors).latents)


def test_the_seed_matters() -> None:
    vectors = directions([1, 1])
    first, second = (FSQIndex.parse({**FAST, "steps": 2, "seed": seed}) for seed in (1, 2))
    assert (first.fit_quantizer(vectors).latents != second.fit_quantizer(vectors).latents).any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"groups": []}, r"groups: "),
        ({"groups": [[8], []]}, r"groups\.1: "),
        ({"groups": [[8, 1]]}, r"groups\.0\.1: "),
        ({"levels": [8]}, "levels: unknown setting"),
        ({"nested_dropout": 1}, "nested_dropout"),
    ],
)
def test_settings_that_cannot_be_are_refused_when_read(settings: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        FSQIndex.parse({"encoder": TFIDF, **settings})
