"""Candidates of each user: the same lists as when everything is scored and the rest is crossed out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from brute_force import brute_force
from fake_vllm import OneStep, patch_one_step
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import TinyWorld, make_tiny_model, make_tiny_tokenizer, make_tiny_world, make_titled_world

from llmrec.engines.base import Engine
from llmrec.engines.mask import NodeMask
from llmrec.engines.transformers import TransformersEngine
from llmrec.engines.vllm import VLLMEngine
from llmrec.errors import DecodingError
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.types import Ragged, ScoredItems

PROMPTS = [[5, 6, 7], [9], [3, 4, 5, 6, 7, 8, 9, 10]]
TOLERANCE = 5e-4  # float32, nats; the codes of titles are long


def ragged(lists: list[list[int]]) -> Ragged:
    return Ragged.from_lists([np.array(rows, np.int32) for rows in lists])


def assert_by_hand(world: TinyWorld, found: ScoredItems, allowed: list[set[int]], k: int, beams: int) -> None:
    """Every returned item is allowed and has its true score, and a proven list is the best there is."""
    for user, prompt in enumerate(PROMPTS):
        expected = brute_force(world, prompt, "codebook")
        rows = found.rows[user][found.rows[user] >= 0].tolist()
        assert set(rows) <= allowed[user]
        assert len(set(rows)) == len(rows) >= min(k, len(allowed[user]), beams)
        np.testing.assert_allclose(found.scores[user, : len(rows)], expected[rows], atol=TOLERANCE)
        if found.exact[user]:
            best = sorted((expected[row] for row in allowed[user]), reverse=True)[:k]
            np.testing.assert_allclose(expected[rows], best, atol=TOLERANCE)
        else:
            assert beams < len(world.index)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 50),
    item_count=st.integers(1, 24),
    beams=st.integers(1, 30),
    most_beams=st.sampled_from([0, 40]),
    data=st.data(),
)
def test_codes_of_equal_length(seed: int, item_count: int, beams: int, most_beams: int, data: st.DataObject) -> None:
    world = make_tiny_world(item_count, (4, 3, 3), seed)
    rows = st.lists(st.integers(0, item_count - 1), max_size=item_count)
    own, excluded = ([data.draw(rows) for _ in PROMPTS] for _ in range(2))
    k = data.draw(st.integers(1, item_count + 2))
    found = TransformersEngine(world.model, world.items).decode(
        PROMPTS, k, beams, excluded=ragged(excluded), candidates=ragged(own), most_beams=most_beams
    )
    allowed = [set(mine) - set(seen) for mine, seen in zip(own, excluded, strict=True)]
    assert_by_hand(world, found, allowed, k, max(beams, most_beams))
    if most_beams:
        assert found.exact.all()


@settings(max_examples=15, deadline=None)
@given(
    titles=st.lists(st.text(alphabet="ab", min_size=1, max_size=9), min_size=1, max_size=14),
    beams=st.integers(1, 20),
    data=st.data(),
)
def test_titles(tmp_path_factory: pytest.TempPathFactory, titles: list[str], beams: int, data: st.DataObject) -> None:
    world = make_titled_world(titles, tmp_path_factory.mktemp("titles"))
    rows = st.lists(st.integers(0, len(titles) - 1), max_size=len(titles))
    own, excluded = ([data.draw(rows) for _ in PROMPTS] for _ in range(2))
    found = TransformersEngine(world.model, world.items).decode(
        PROMPTS, 5, beams, excluded=ragged(excluded), candidates=ragged(own)
    )
    allowed = [set(mine) - set(seen) for mine, seen in zip(own, excluded, strict=True)]
    assert_by_hand(world, found, allowed, 5, beams)


def bucket_engine() -> Engine:
    """Items 0, 2 and 4 share a code."""
    index = ItemIndex(np.array([[1, 0], [0, 2], [1, 0], [0, 1], [1, 0]], np.int32), (2, 3))
    items = ItemTokenizer.bind(make_tiny_tokenizer(), index)
    return TransformersEngine(make_tiny_model(len(items.tokenizer)), items)


def test_of_items_that_share_a_code_only_the_candidates_come() -> None:
    found = bucket_engine().decode(
        PROMPTS, 5, 5, excluded=ragged([[], [2], [0, 2, 4]]), candidates=ragged([[4, 0], [4, 2, 1], [0, 2, 3]])
    )
    assert found.rows[0].tolist() == [0, 4, -1, -1, -1]
    assert sorted(found.rows[1].tolist()) == [-1, -1, -1, 1, 4]
    assert found.rows[2].tolist() == [3, -1, -1, -1, -1]


def test_an_empty_list_allows_nothing_and_none_everything(tiny_world: TinyWorld) -> None:
    engine = TransformersEngine(tiny_world.model, tiny_world.items)
    found = engine.decode(PROMPTS, 20, 20, candidates=ragged([[], list(range(20)), []]))
    everything = engine.decode(PROMPTS, 20, 20)
    assert (found.rows[[0, 2]] == -1).all()
    assert found.exact.all()
    assert found.rows[1].tolist() == everything.rows[1].tolist()


def test_the_search_over_vllm_obeys_too(monkeypatch: pytest.MonkeyPatch) -> None:
    patch_one_step(monkeypatch)
    world = make_tiny_world(40, (5, 4, 5), seed=3)
    own, excluded = ragged([[3, 9, 22, 31], [], list(range(30))]), ragged([[9], [1], [4, 5]])
    given = {"candidates": own, "excluded": excluded, "most_beams": 40}
    found = VLLMEngine(OneStep(world), world.items).decode(PROMPTS, 5, 1, **given)
    expected = TransformersEngine(world.model, world.items).decode(PROMPTS, 5, 1, **given)
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)


def test_what_a_user_costs_does_not_grow_with_the_catalog() -> None:
    """No array of the mask is longer than the ways to the user's items, however many others there are."""
    world = make_tiny_world(2_000, (16, 16, 16))
    mask = NodeMask.of(world.items.trie, world.index.codes, ragged([[7]]), ragged([[7, 11, 12]]))
    assert len(mask.nodes.keys) <= 2 * 3
    assert mask.items.keys.tolist() == [11, 12]


def test_lists_for_other_users_are_refused(tiny_world: TinyWorld) -> None:
    engine = TransformersEngine(tiny_world.model, tiny_world.items)
    with pytest.raises(DecodingError, match="candidates holds 2 lists for 3 prompts"):
        engine.decode(PROMPTS, 1, 1, candidates=ragged([[1], [2]]))
    with pytest.raises(DecodingError, match="excluded holds 4 lists for 3 prompts"):
        engine.decode(PROMPTS, 1, 1, excluded=ragged([[], [], [], []]))


def test_candidates_counted_for_another_engine_are_refused(tiny_world: TinyWorld) -> None:
    other = make_tiny_world(30, (4, 3, 5), seed=1)
    allowed = TransformersEngine(other.model, other.items).allow(np.array([1, 2], np.int32))
    with pytest.raises(DecodingError, match="another engine"):
        TransformersEngine(tiny_world.model, tiny_world.items).decode(PROMPTS, 1, 1, candidates=allowed)
