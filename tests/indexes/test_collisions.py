"""Every item gets a code of its own, and no item is moved without need."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from llmrec.errors import RecipeError
from llmrec.indexes import placement
from llmrec.indexes.collisions import collision_report, group_ids, nearest_free, with_digit
from llmrec.indexes.kmeans import nearest
from llmrec.indexes.placement import rank_within

few_codes = arrays(np.int32, st.tuples(st.integers(0, 40), st.integers(1, 3)), elements=st.integers(0, 2))


def column(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None]


def plain_codes(vectors: np.ndarray, codebooks: list[np.ndarray]) -> np.ndarray:
    """Residual codes without any care for collisions."""
    columns = []
    for codebook in codebooks:
        labels = nearest(vectors, codebook)[0]
        columns.append(labels)
        vectors = vectors - codebook[labels]
    return np.column_stack(columns)


def test_digit_numbers_the_items_of_a_group_in_row_order() -> None:
    codes, sizes = with_digit(np.array([[1, 0], [0, 2], [1, 0], [1, 0], [0, 1]], np.int32), (2, 3))
    assert codes.tolist() == [[1, 0, 0], [0, 2, 0], [1, 0, 1], [1, 0, 2], [0, 1, 0]]
    assert sizes == (2, 3, 3)


def test_digit_adds_no_level_where_nothing_collides() -> None:
    codes = np.array([[0, 1], [1, 0]], np.int32)
    same, sizes = with_digit(codes, (2, 2))
    assert same.tolist() == codes.tolist()
    assert sizes == (2, 2)


@given(few_codes)
def test_digit_is_unique_and_keeps_what_was_there(codes: np.ndarray) -> None:
    longer, sizes = with_digit(codes, (3,) * codes.shape[1])
    assert len(np.unique(longer, axis=0)) == len(codes)
    np.testing.assert_array_equal(longer[:, : codes.shape[1]], codes)
    assert (longer < np.asarray(sizes)).all()


@given(few_codes)
def test_the_report_counts(codes: np.ndarray) -> None:
    counts = np.unique(codes, axis=0, return_counts=True)[1] if len(codes) else np.zeros(0, int)
    expected = {"colliding": int((counts - 1).sum()), "largest_group": int(counts.max(initial=0))}
    assert collision_report(codes) == expected


def test_groups_of_codes_too_wide_for_one_number() -> None:
    codes = np.full((3, 8), 2**31 - 2, np.int32)  # the product of the sizes is far above 2**63
    codes[1, 0] = 0
    assert group_ids(codes).tolist() == [1, 0, 1]


def test_rank_within_groups() -> None:
    ranks = rank_within(np.array([1, 0, 1, 1, 0]), column(5, 2, 4, 4, 1).ravel())
    assert ranks.tolist() == [2, 1, 0, 1, 0]  # equal keys by position


def test_nearest_worked_example() -> None:
    # All want code 0. Row 0 is closest and stays; of the others, row 2 is closer to code 1, and row 1 gets code 2.
    codes = nearest_free(column(0, 0.1, 0.2), [column(0, 1, 2)])
    assert codes.ravel().tolist() == [0, 2, 1]


def test_nearest_settles_equal_items_by_row() -> None:
    assert nearest_free(column(1, 1, 1), [column(3, 1, 2)]).ravel().tolist() == [1, 2, 0]


def test_nearest_moves_on_the_last_level_only_while_it_has_room() -> None:
    codebooks = [column(0, 10), column(-1, 0, 1)]
    codes = nearest_free(column(0, 0, 10, 10.2), codebooks)
    assert codes.tolist() == [[0, 1], [0, 0], [1, 1], [1, 2]]


def test_nearest_moves_to_another_prefix_when_the_last_level_is_full() -> None:
    codebooks = [column(0, 10), column(0, 1)]
    codes = nearest_free(column(0, 0.1, 1, 0.4), codebooks)  # four items near prefix 0, which holds two
    assert codes[:, 0].tolist() == [0, 0, 1, 1]  # the two closest to it stay
    assert len(np.unique(codes, axis=0)) == 4


def test_nearest_refuses_more_items_than_codes() -> None:
    with pytest.raises(RecipeError, match=r"make 4 codes, fewer than the 5 items.*digit"):
        nearest_free(column(0, 1, 2, 3, 4), [column(0, 1), column(0, 1)])


@pytest.mark.parametrize("block", [1, 3, 10**6])
def test_blocks_make_no_difference(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(200, 3)).astype(np.float32)
    codebooks = [rng.normal(size=(7, 3)).astype(np.float32) for _ in range(3)]
    expected = nearest_free(vectors, codebooks)
    monkeypatch.setattr(placement, "BLOCK", block)
    np.testing.assert_array_equal(nearest_free(vectors, codebooks), expected)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_nearest_is_unique_up_to_the_last_code(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    count = data.draw(st.integers(1, math.prod(sizes)))
    whole = st.integers(-3, 3)  # small whole numbers: many ties and duplicates
    vectors = data.draw(arrays(np.float32, (count, 2), elements=whole))
    codebooks = [data.draw(arrays(np.float32, (size, 2), elements=whole)) for size in sizes]
    codes = nearest_free(vectors, codebooks)
    assert len(np.unique(codes, axis=0)) == count
    assert ((codes >= 0) & (codes < np.asarray(sizes))).all()
    plain = plain_codes(vectors, codebooks)
    if len(np.unique(plain, axis=0)) == count:
        np.testing.assert_array_equal(codes, plain)
    if len(sizes) == 1:  # a code that anybody wanted is held by one who wanted it, from no farther than the others
        for code in set(plain.ravel().tolist()):
            holder = int(np.flatnonzero(codes[:, 0] == code)[0])
            wanted = np.flatnonzero(plain[:, 0] == code)
            distances = ((vectors - codebooks[0][code]) ** 2).sum(axis=1)
            assert holder == wanted[distances[wanted].argmin()]
