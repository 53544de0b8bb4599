"""A new item is spoken for by the trained item that stands closest to it."""

import numpy as np

from llmrec.indexes.newcomers import stand_ins

CODEBOOKS = [np.array([[0.0], [10.0], [20.0]], np.float32), np.array([[-2.0], [0.0], [2.0]], np.float32)]
TRAINED = np.array([[0, 0], [0, 2], [1, 1]], np.int32)


def speaking(latent: float, *code: int) -> list[int]:
    return stand_ins(np.array([[latent]], np.float32), CODEBOOKS, np.array([code], np.int32), TRAINED)[0].tolist()


def test_the_nearest_trained_code_under_the_same_prefix() -> None:
    assert speaking(1.5, 0, 1) == [0, 2]
    assert speaking(-1.5, 0, 1) == [0, 0]
    assert speaking(12.0, 1, 2) == [1, 1]  # the only one there


def test_a_prefix_that_nobody_has_is_left_for_the_nearest_that_somebody_has() -> None:
    assert speaking(21.0, 2, 1) == [1, 1]


def test_digits_are_spoken_for_by_the_lowest() -> None:
    trained = np.column_stack([TRAINED[[0, 0, 1]], [0, 1, 0]]).astype(np.int32)
    found = stand_ins(np.array([[-2.0]], np.float32), CODEBOOKS, np.array([[0, 0, 2]], np.int32), trained)
    assert found.tolist() == [[0, 0, 0]]


def test_every_stand_in_is_trained() -> None:
    rng = np.random.default_rng(0)
    codes = np.unique(rng.integers(0, 3, (9, 2)), axis=0).astype(np.int32)
    trained, new = codes[::2], codes[1::2]
    found = stand_ins(rng.normal(size=(len(new), 1)).astype(np.float32) * 9, CODEBOOKS, new, trained)
    assert {tuple(code) for code in found} <= {tuple(code) for code in trained}
