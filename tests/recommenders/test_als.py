"""ALS: the factors of `implicit`, histories folded in as it does, and no need of it to recommend."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from implicit.cpu.als import AlternatingLeastSquares
from recommenders.letters import CATALOG, LETTERS, answer, events, history
from scipy import sparse

from llmrec.errors import MissingExtraError
from llmrec.recommenders.als import ALS

WALKS = ("abc", "abc", "abd", "efg", "efg", "efa")
TAKEN = sparse.csr_matrix(np.array([[letter in walk for letter in LETTERS] for walk in WALKS], np.float32))


def fitted(**settings: float) -> ALS:
    return ALS(factors=3, alpha=8, regularization=0.5, **settings).fit(events(*WALKS), CATALOG)


def test_a_history_is_folded_in_as_the_package_does() -> None:
    theirs = AlternatingLeastSquares(3, 0.5, 8.0, num_threads=1, random_state=0)
    theirs.fit(TAKEN, show_progress=False)
    ours = fitted()
    np.testing.assert_array_equal(ours._arrays["factors"], theirs.item_factors)
    for user, walk in enumerate(WALKS):
        expected = theirs.recalculate_user(0, TAKEN[user]) @ theirs.item_factors.T
        np.testing.assert_allclose(ours.score(history(walk))[0], expected, atol=1e-5)


def test_a_user_s_factors_have_the_lowest_loss() -> None:
    ours = fitted()
    items = ours._arrays["factors"].astype(float)
    preference = np.array([letter in "ab" for letter in LETTERS], float)
    confidence = np.where(preference > 0, 8, 1)
    left = np.vstack([np.sqrt(confidence)[:, None] * items, np.sqrt(0.5) * np.eye(3)])
    right = np.concatenate([np.sqrt(confidence) * preference, np.zeros(3)])
    user = np.linalg.lstsq(left, right, rcond=None)[0]
    np.testing.assert_allclose(ours.score(history("ab"))[0], items @ user, atol=1e-5)


def test_items_of_the_same_people_come_first() -> None:
    assert set(answer(fitted(), "ab", k=2)) == {"c", "d"}
    assert answer(fitted(), "ef", k=1) == "g"


def test_repeats_count_once_and_the_seed_decides() -> None:
    np.testing.assert_array_equal(fitted().score(history("aab")), fitted().score(history("ab")))
    assert not np.array_equal(fitted()._arrays["factors"], fitted(seed=1)._arrays["factors"])


def test_only_training_needs_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fitted()
    before.save_pretrained(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "implicit"]:
        monkeypatch.setitem(sys.modules, name, None)
    loaded = ALS.from_pretrained(tmp_path)
    np.testing.assert_array_equal(loaded.score(history("ab")), before.score(history("ab")))
    with pytest.raises(MissingExtraError, match=r"pip install 'llmrec\[als\]'"):
        fitted()
