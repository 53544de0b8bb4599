"""The embedded engine equals brute-force scoring of every item."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from brute_force import brute_force
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import TinyWorld, make_tiny_model, make_tiny_tokenizer, make_tiny_world, make_titled_world

from llmrec.engines.transformers import TransformersEngine
from llmrec.errors import DecodingError
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.types import Ragged

TOLERANCE = 1e-4  # float32, nats


PROMPTS = [[5, 6, 7], [9], [3, 4, 5, 6, 7, 8, 9, 10]]


@pytest.mark.parametrize("normalize", ["codebook", "children", "vocab"])
def test_it_equals_brute_force_with_ragged_prompts(tiny_world: TinyWorld, normalize: str) -> None:
    engine = TransformersEngine(tiny_world.model, tiny_world.items)
    found = engine.decode(PROMPTS, k=20, beams=20, normalize=normalize)
    for user, prompt in enumerate(PROMPTS):
        expected = brute_force(tiny_world, prompt, normalize)
        order = np.argsort(-expected, kind="stable")
        assert found.rows[user].tolist() == order.tolist()
        np.testing.assert_allclose(found.scores[user], expected[order], atol=TOLERANCE)
    assert found.exact.all()


def test_with_children_the_probabilities_of_all_items_sum_to_one(tiny_world: TinyWorld) -> None:
    engine = TransformersEngine(tiny_world.model, tiny_world.items)
    found = engine.decode(PROMPTS, k=20, beams=20, normalize="children")
    np.testing.assert_allclose(np.exp(found.scores).sum(axis=1), 1, atol=1e-4)


@given(
    seed=st.integers(0, 50),
    item_count=st.integers(1, 24),
    sizes=st.lists(st.integers(3, 5), min_size=2, max_size=4).map(tuple),
    beams=st.integers(1, 8),
    data=st.data(),
)
@settings(max_examples=25, deadline=None)
def test_any_trie_any_mask(seed: int, item_count: int, sizes: tuple[int, ...], beams: int, data: st.DataObject) -> None:
    world = make_tiny_world(min(item_count, int(np.prod(sizes))), sizes, seed)
    count = len(world.index)
    rows = st.lists(st.integers(0, count - 1), max_size=count)
    excluded = [np.array(data.draw(rows), np.int32) for _ in PROMPTS]
    candidates = data.draw(st.none() | rows.map(lambda r: np.unique(np.array(r, np.int32))))
    k = data.draw(st.integers(1, count + 2))
    engine = TransformersEngine(world.model, world.items)
    found = engine.decode(PROMPTS, k, beams, excluded=Ragged.from_lists(excluded), candidates=candidates)
    for user, prompt in enumerate(PROMPTS):
        allowed = set(range(count) if candidates is None else candidates.tolist()) - set(excluded[user].tolist())
        returned = [int(row) for row in found.rows[user] if row >= 0]
        assert len(set(returned)) == len(returned)
        assert set(returned) <= allowed
        assert len(returned) >= min(k, len(allowed), beams)
        expected = brute_force(world, prompt, "codebook")
        np.testing.assert_allclose(found.scores[user, : len(returned)], expected[returned], atol=TOLERANCE)
        if found.exact[user]:
            best = sorted((expected[row] for row in allowed), reverse=True)[:k]
            np.testing.assert_allclose(expected[returned], best, atol=TOLERANCE)


def test_items_that_share_a_code_come_out_in_row_order(tiny_world: TinyWorld) -> None:
    codes = np.array([[1, 0], [0, 2], [1, 0], [0, 1]], np.int32)
    index = ItemIndex(codes, (2, 3))
    items = ItemTokenizer.bind(make_tiny_tokenizer(), index)
    engine = TransformersEngine(make_tiny_model(len(items.tokenizer)), items)
    found = engine.decode([[4, 5]], k=4, beams=4)
    rows = found.rows[0].tolist()
    assert sorted(rows) == [0, 1, 2, 3]
    assert rows.index(2) == rows.index(0) + 1
    only_second = engine.decode([[4, 5]], k=4, beams=4, excluded=Ragged.from_lists([[0]])).rows[0].tolist()
    assert only_second[-1] == -1
    assert 0 not in only_second
    assert 2 in only_second


def test_no_prompt_is_refused(tiny_world: TinyWorld) -> None:
    engine = TransformersEngine(tiny_world.model, tiny_world.items)
    with pytest.raises(DecodingError, match="no token"):
        engine.decode([[1], []], k=1, beams=1)
    with pytest.raises(DecodingError, match="at least 1"):
        engine.decode([[1]], k=0, beams=1)


def test_the_model_is_left_in_the_mode_it_was_in(tiny_world: TinyWorld) -> None:
    tiny_world.model.train()
    TransformersEngine(tiny_world.model, tiny_world.items).decode([[1]], k=1, beams=1)
    assert tiny_world.model.training
    tiny_world.model.eval()


@pytest.mark.parametrize("length_penalty", [0.0, 0.7])
@pytest.mark.parametrize("normalize", ["codebook", "children", "vocab"])
@settings(max_examples=8, deadline=None)
@given(
    titles=st.lists(st.text(alphabet="ab", min_size=1, max_size=9), min_size=1, max_size=14),
    beams=st.integers(1, 6),
    data=st.data(),
)
def test_titles_equal_brute_force(
    tmp_path_factory: pytest.TempPathFactory,
    normalize: str,
    length_penalty: float,
    titles: list[str],
    beams: int,
    data: st.DataObject,
) -> None:
    world = make_titled_world(titles, tmp_path_factory.mktemp("titles"))
    count = len(titles)
    excluded = [data.draw(st.sets(st.integers(0, count - 1))) for _ in PROMPTS]
    k = data.draw(st.integers(1, count + 1))
    engine = TransformersEngine(world.model, world.items)
    closed = Ragged.from_lists([np.array(sorted(rows), np.int32) for rows in excluded])
    few = engine.decode(PROMPTS, k, beams, normalize, closed, length_penalty=length_penalty)
    all_of_them = engine.decode(PROMPTS, k, count + 1, normalize, closed, length_penalty=length_penalty)
    assert all_of_them.exact.all()
    for user, prompt in enumerate(PROMPTS):
        expected = brute_force(world, prompt, normalize) / world.index.lengths**length_penalty
        expected[list(excluded[user])] = -np.inf
        best = np.argsort(-expected, kind="stable")[: min(k, count - len(excluded[user]))]
        np.testing.assert_allclose(all_of_them.scores[user][: len(best)], expected[best], atol=5e-4)
        assert (all_of_them.rows[user][len(best) :] == -1).all()
        rows = few.rows[user][few.rows[user] >= 0]
        assert len(set(rows.tolist())) == len(rows)
        assert not set(rows.tolist()) & excluded[user]
        np.testing.assert_allclose(few.scores[user][: len(rows)], expected[rows], atol=5e-4)  # a score is never a guess
        if few.exact[user]:
            np.testing.assert_allclose(few.scores[user][: len(best)], expected[best], atol=5e-4)


@pytest.mark.parametrize(("normalize", "passes"), [("codebook", [20, 6 + 3]), ("children", [20])])
def test_a_run_is_one_pass_and_certain_ones_are_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, normalize: str, passes: list[int]
) -> None:
    """`abcdef` and `xyz`: after the prompt (20 tokens) one pass of 6 + 3 letters scores both."""
    world = make_titled_world(["abcdef", "xyz"], tmp_path)
    widths = []
    decoder = world.model.get_decoder()
    forward = decoder.forward

    def counting(*args: object, input_ids: torch.Tensor, **kwargs: object) -> object:
        widths.append(input_ids.shape[1])
        return forward(*args, input_ids=input_ids, **kwargs)

    monkeypatch.setattr(decoder, "forward", counting)
    found = TransformersEngine(world.model, world.items).decode([list(range(20))], 2, 4, normalize)
    assert sorted(found.rows[0].tolist()) == [0, 1]
    assert widths == passes  # the last letter is fed too: it says how likely the end is


def test_a_new_item_is_scored_as_its_stand_in() -> None:
    """(3, 1) is new and stands for itself as (3, 0) does; (1, 2) is new on both levels and is scored as (2, 2)."""
    world = make_tiny_world(6, (4, 3))
    codes = np.array([[0, 0], [3, 0], [2, 2], [3, 1], [1, 2]], np.int32)
    grown = ItemIndex(codes, (4, 3), stand_ins=np.array([[3, 0], [2, 2]], np.int32))
    items = ItemTokenizer(world.items.tokenizer, grown)
    plain = ItemTokenizer(world.items.tokenizer, ItemIndex(codes[:3], (4, 3)))
    found = TransformersEngine(world.model, items).decode(PROMPTS, 5, 10)
    before = TransformersEngine(world.model, plain).decode(PROMPTS, 3, 10)
    for user in range(len(PROMPTS)):
        score = dict(zip(found.rows[user].tolist(), found.scores[user].tolist(), strict=True))
        old = dict(zip(before.rows[user].tolist(), before.scores[user].tolist(), strict=True))
        assert {row: score[row] for row in old} == pytest.approx(old, abs=1e-5)  # a new item changes nobody's score
        assert score[3] == pytest.approx(old[1], abs=1e-5)
        alone = brute_force(
            TinyWorld(world.catalog, ItemIndex(codes, (4, 3)), items, world.model), PROMPTS[user], "codebook"
        )
        assert score[4] != pytest.approx(alone[4], abs=1e-3)


def test_an_unproven_list_is_searched_again_until_it_is_proven() -> None:
    world = make_tiny_world(40, (5, 4, 5), seed=3)
    engine = TransformersEngine(world.model, world.items)
    few = engine.decode(PROMPTS, 10, 1)
    assert not few.exact.all()  # or this test shows nothing
    proven = engine.decode(PROMPTS, 10, 1, most_beams=64)
    assert proven.exact.all()
    for user, prompt in enumerate(PROMPTS):
        best = np.sort(brute_force(world, prompt, "codebook"))[::-1][:10]
        np.testing.assert_allclose(proven.scores[user], best, atol=TOLERANCE)
    bounded = engine.decode(PROMPTS, 10, 1, most_beams=2)
    assert not bounded.exact.all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_grouped_attention_is_that_of_transformers(dtype: torch.dtype) -> None:
    world = make_tiny_world(40, (5, 4, 5), seed=3)
    world.model.to(dtype)
    engine = TransformersEngine(world.model, world.items)
    scores = {}
    for implementation in ("sdpa", "eager"):
        world.model.set_attn_implementation(implementation)
        found = engine.decode(PROMPTS, 40, 40)
        assert world.model.config._attn_implementation == implementation
        scores[implementation] = np.take_along_axis(found.scores, found.rows.argsort(1), 1)
    # In bfloat16 both are off by about 0.1 nats from float32 on these random weights, each in its own way.
    np.testing.assert_allclose(scores["sdpa"], scores["eager"], atol=1e-4 if dtype == torch.float32 else 0.25)
