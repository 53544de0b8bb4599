"""The figures of an index, against values worked out by hand on six items."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from contracts.index_cases import catalog_of, histories_of

from llmrec.data.catalog import Catalog
from llmrec.encoders.behaviour import cooccurrence
from llmrec.errors import ArtifactError, DataError
from llmrec.indexes.base import END, ItemIndex
from llmrec.indexes.inspect import DepthFigures, category_column, inspect
from llmrec.indexes.prefixes import neighbours, prefix_groups, purity, purity_by_chance

CODES = [[0, 0], [0, 0], [0, 1], [1, 0], [1, 1], [1, 1]]
HISTORIES = [[0, 1, 3], [4, 5, 4], [2, 2, 0]]


def numbers(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def index_of(codes: list[list[int]], sizes: tuple[int, ...], **provenance: Any) -> ItemIndex:
    return ItemIndex(np.array(codes, np.int32), sizes, provenance)


def shop() -> Catalog:
    return catalog_of(6, category=["pen", "pen", "lamp", "lamp", "lamp", "desk"])


def test_levels_say_how_evenly_they_are_used() -> None:
    found = inspect(index_of(CODES, (3, 2), reconstruction_error=[0.5]))
    assert [(level.size, level.used, level.perplexity) for level in found.levels] == [(3, 2, 2.0), (2, 2, 2.0)]
    assert [level.reconstruction_error for level in found.levels] == [0.5, None]


def test_collisions_are_counted_now_and_told_from_before() -> None:
    made = {"collisions": {"before": {"colliding": 4}, "after": {"colliding": 99}}}
    found = inspect(index_of(CODES, (2, 2), **made))
    assert (found.colliding_before, found.colliding, found.largest_bucket) == (4, 2, 2)
    assert inspect(index_of(CODES, (2, 2))).colliding_before is None


def test_prefixes_purity_and_neighbours_of_six_items() -> None:
    catalog = shop()
    found = inspect(index_of(CODES, (2, 2)), catalog, histories_of(catalog, HISTORIES), window=1)
    first, second = found.depths
    assert (first.prefixes, first.mean_items, first.largest) == (2, 3.0, 3)
    assert (second.prefixes, second.mean_items, second.largest) == (4, 1.5, 2)
    # pen pen lamp | lamp lamp desk: 2 of 3 and 2 of 3. Below: pen pen | lamp desk: 2 and 1 of 4 items.
    assert first.purity == pytest.approx(4 / 6)
    assert second.purity == pytest.approx(3 / 4)
    # Pairs 0-1, 1-3, 4-5, 5-4, 2-0 (2-2 is one item), so the items occur 2, 2, 1, 1, 2, 2 times in pairs.
    assert (found.pairs, found.window) == (5, 1)
    assert first.neighbours == pytest.approx(4 / 5)
    assert second.neighbours == pytest.approx(3 / 5)
    # (5^2 + 5^2 - 18) / (10^2 - 18), and (4^2 + 1 + 1 + 4^2 - 18) / 82.
    assert first.neighbours_chance == pytest.approx(32 / 82)
    assert second.neighbours_chance == pytest.approx(16 / 82)
    assert first.lift == pytest.approx(0.8 * 82 / 32)
    assert second.lift == pytest.approx(0.6 * 82 / 16)


def test_what_cannot_be_measured_is_left_out() -> None:
    catalog = shop()
    index = index_of([[row] for row in range(6)], (6,))
    alone = inspect(index, catalog, histories_of(catalog, HISTORIES)).depths[0]
    assert (alone.purity, alone.purity_chance, alone.neighbours, alone.lift) == (None, None, 0.0, None)
    assert inspect(index).depths == [DepthFigures(prefixes=6, mean_items=1.0, largest=1)]
    strangers = inspect(index, catalog, histories_of(catalog, [[0], [1]]))
    assert (strangers.pairs, strangers.depths[0].neighbours) == (0, None)


def test_neighbours_are_those_of_the_cooccurrence_counts() -> None:
    rng = np.random.default_rng(0)
    catalog = catalog_of(30)
    train = histories_of(catalog, [rng.integers(0, 30, rng.integers(1, 12)).tolist() for _ in range(40)])
    group = rng.integers(0, 4, 30).astype(np.int32)
    counts = cooccurrence(train, 5).toarray()
    found = neighbours([group], train, 5)
    same = group[:, None] == group[None, :]
    assert found.pairs * 2 == counts.sum()
    assert found.shares[0] == pytest.approx(counts[same].sum() / counts.sum())
    often = counts.sum(axis=0)
    by_chance = np.outer(often, often) * (1 - np.eye(30))
    assert found.chances[0] == pytest.approx(by_chance[same].sum() / by_chance.sum())


def test_codes_without_meaning_have_no_lift() -> None:
    rng = np.random.default_rng(0)
    catalog = catalog_of(200)
    train = histories_of(catalog, [rng.integers(0, 200, 10).tolist() for _ in range(400)])
    found = inspect(index_of(rng.integers(0, 4, (200, 1)).tolist(), (4,)), catalog, train)
    assert found.depths[0].lift == pytest.approx(1, abs=0.05)


def test_purity_of_the_docstring() -> None:
    assert purity(numbers(0, 0, 0, 1, 1, 2), numbers(0, 0, 1, 2, 2, 0)) == 0.8


def test_items_without_a_category_do_not_count() -> None:
    assert purity(numbers(0, 0, 0, 1, 1), numbers(0, -1, 1, 2, -1)) == 0.5
    assert purity(numbers(0, 0), numbers(-1, 0)) is None
    assert purity(numbers(0, 0), numbers(-1, -1)) is None


def test_chance_is_what_the_sizes_give_alone() -> None:
    assert purity_by_chance(numbers(0, 0, 0, 0), numbers(5, 5, 5, 7)) == 0.75  # one prefix: no shuffle changes it
    assert purity_by_chance(numbers(0, 0, 1, 1), numbers(0, 1, 2, 3)) == 0.5  # all differ: one of two, always
    assert purity_by_chance(numbers(0, 1, 2), numbers(0, 1, 2)) is None
    # Two categories alike in number, prefixes of two: alike with probability 999/1999, half pure otherwise.
    groups, values = np.repeat(np.arange(1000, dtype=np.int32), 2), np.repeat(numbers(0, 1), 1000)
    assert purity(groups, values) == 1
    assert purity_by_chance(groups, values) == pytest.approx(0.75, abs=0.01)
    assert purity_by_chance(groups, values) == purity_by_chance(groups, values)


def test_chance_shuffles_only_the_items_that_have_a_category() -> None:
    # Two pairs in one prefix are half pure however they are shuffled, unless the other items take part.
    values = numbers(3, 3, 4, 4, *[-1] * 12)
    assert purity_by_chance(np.repeat(numbers(0, 1), [4, 12]), values) == 0.5


def test_prefixes_are_numbered_in_the_order_of_the_tree() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, (60, 4)).astype(np.int32)
    codes[np.arange(4) >= rng.integers(1, 5, 60)[:, None]] = END
    for depth, group in enumerate(prefix_groups(codes), start=1):
        prefixes = [tuple(code[:depth]) for code in codes.tolist()]
        ranks = {prefix: rank for rank, prefix in enumerate(sorted(set(prefixes)))}
        assert group.tolist() == [ranks[prefix] for prefix in prefixes]


def test_codes_of_different_lengths() -> None:
    found = inspect(index_of([[0, END], [1, 0], [1, 1], [0, 1]], (2, 2)))
    assert found.lengths == {1: 1, 2: 3}
    assert [depth.prefixes for depth in found.depths] == [2, 4]
    assert (found.colliding, found.largest_bucket) == (0, 1)
    assert found.levels[1].perplexity == pytest.approx(1.89, abs=0.01)  # shares 1/3 and 2/3 of three items


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"brand": ["x", "x", "y", "y"]}, "brand"),
        ({"brand": ["x", "x", "y", "y"], "categories": ["p", "p", "p", "q"]}, "categories"),
        ({"categories": ["p", "q", "r", "s"], "genres": ["x", "x", "", ""]}, None),  # none repeats, one value
        ({"colour": ["x", "x", "y", "y"]}, None),
    ],
)
def test_the_category_column_is_found_by_name_where_values_repeat(
    columns: dict[str, list[str]], expected: str | None
) -> None:
    assert category_column(catalog_of(4, **columns)) == expected


def test_a_column_that_is_asked_for_is_taken() -> None:
    catalog = catalog_of(6, colour=["x", "x", "x", "y", "y", ""])
    found = inspect(index_of(CODES, (2, 2)), catalog, category="colour")
    assert (found.category, found.category_values) == ("colour", 2)
    assert found.depths[0].purity == 1.0
    with pytest.raises(DataError, match=r"no column 'color'\. Did you mean 'colour'"):
        inspect(index_of(CODES, (2, 2)), catalog, category="color")


def test_what_belongs_to_other_items_is_refused() -> None:
    index, other = index_of(CODES, (2, 2)), catalog_of(5)
    with pytest.raises(ArtifactError, match="the catalog has 5 items, the index 6"):
        inspect(index, other)
    with pytest.raises(ArtifactError, match="the train data has 5 items, the index 6"):
        inspect(index, None, histories_of(other, [[0, 1]]))
    with pytest.raises(ArtifactError, match="no item"):
        inspect(ItemIndex(np.empty((0, 1), np.int32), (1,)))


ODD: list[Any] = [
    None,
    True,
    3,
    "x",
    [],
    [1],
    {},
    {"before": 3},
    {"before": {"colliding": "4"}},
    [{"loss": "x"}],
    10**400,
]


@pytest.mark.parametrize(
    "provenance",
    [
        {name: value}
        for name, value in itertools.product(("kind", "settings", "collisions", "reconstruction_error", "losses"), ODD)
    ],
    ids=lambda made: str(made)[:40],
)
def test_a_provenance_that_makes_no_sense_does_no_harm(provenance: dict[str, Any]) -> None:
    found = inspect(index_of(CODES, (2, 2), **provenance))
    assert found.colliding_before is None
    assert found.losses == []
    assert isinstance(found.kind, str)
    assert isinstance(found.settings, dict)


def test_losses_are_kept_where_they_are_numbers() -> None:
    losses = [{"step": 10, "loss": 0.5, "used": [1, 2]}, {"step": 20, "loss": 0.25, "reconstruction": 0.125}]
    found = inspect(index_of(CODES, (2, 2), losses=losses, kind="rqvae\x1b[2J"))
    assert found.losses == [{"step": 10, "loss": 0.5}, {"step": 20, "loss": 0.25, "reconstruction": 0.125}]
    assert found.kind == "rqvae[2J"
