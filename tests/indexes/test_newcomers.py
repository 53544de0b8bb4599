"""A new item stands beside the trained item that is nearest, and is spoken for by it."""

import numpy as np
import pytest

from llmrec.errors import RecipeError
from llmrec.indexes.newcomers import stand_beside

CODEBOOKS = [np.array([[0.0], [10.0], [20.0]], np.float32), np.array([[-2.0], [0.0], [2.0]], np.float32)]
TRAINED = np.array([[0, 0], [0, 2], [1, 1]], np.int32)
LATENTS = np.array([[-2.0], [2.0], [10.0]], np.float32)
SIZES = (3, 3)


def beside(*latents: float, taken: np.ndarray = TRAINED) -> tuple[list[list[int]], list[list[int]]]:
    new = np.array(latents, np.float32)[:, None]
    codes, speakers = stand_beside(new, LATENTS, CODEBOOKS, taken, SIZES)
    return codes.tolist(), speakers.tolist()


def test_the_nearest_trained_item_shares_its_prefix_and_speaks() -> None:
    assert beside(1.5) == ([[0, 1]], [[0, 2]])
    assert beside(12.5) == ([[1, 2]], [[1, 1]])
    assert beside(8.0) == ([[1, 0]], [[1, 1]])


def test_a_prefix_that_nobody_has_is_not_entered() -> None:
    assert beside(21.0) == ([[1, 2]], [[1, 1]])


def test_who_finds_no_room_goes_to_the_next_neighbour_and_the_closest_stays() -> None:
    codes, speakers = beside(1.0, 1.9)  # one place is left under 0
    assert speakers == [[1, 1], [0, 2]]
    assert codes == [[1, 0], [0, 1]]


def test_later_items_leave_the_codes_of_earlier_ones_alone() -> None:
    taken = np.vstack([TRAINED, [[0, 1]]]).astype(np.int32)  # an item that was added before, and speaks for nobody
    codes, speakers = beside(1.5, taken=taken)
    assert speakers == [[1, 1]]
    assert codes == [[1, 0]]


def test_digits_take_the_lowest_that_is_free() -> None:
    taken = np.column_stack([TRAINED[[0, 0, 1]], [0, 2, 0]]).astype(np.int32)
    latents = np.array([[-2.0], [-2.0], [2.0]], np.float32)
    codes, speakers = stand_beside(np.array([[-2.0], [2.5]], np.float32), latents, CODEBOOKS, taken, (3, 3, 3))
    assert codes.tolist() == [[0, 0, 1], [0, 2, 1]]
    assert speakers.tolist() == [[0, 0, 0], [0, 2, 0]]


def test_no_room_beside_anybody_is_an_error() -> None:
    with pytest.raises(RecipeError, match="3 free codes beside trained items for 4 new items"):
        beside(0, 1, 2, 3)


@pytest.mark.parametrize("seed", range(5))
def test_codes_are_new_and_speakers_trained(seed: int) -> None:
    """More new items than neighbours that are looked at first."""
    rng = np.random.default_rng(seed)
    codes = np.unique(rng.integers(0, 40, (60, 2)), axis=0).astype(np.int32)
    latents, new = (rng.normal(size=(count, 3)).astype(np.float32) for count in (len(codes), 400))
    books = [rng.normal(size=(40, 3)).astype(np.float32) for _ in range(2)]
    found, speakers = stand_beside(new, latents, books, codes, (40, 40))
    assert len(np.unique(np.vstack([codes, found]), axis=0)) == len(codes) + len(found)
    assert {tuple(code) for code in speakers} <= {tuple(code) for code in codes}
    assert (found[:, 0] == speakers[:, 0]).all()
