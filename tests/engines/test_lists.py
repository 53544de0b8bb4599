"""Lists of several items against brute force: every ordered list by plain forward passes, and what is never in one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from brute_force import brute_force
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import TinyWorld, make_tiny_model, make_tiny_tokenizer, make_tiny_world, make_titled_world

from llmrec.engines.base import Engine
from llmrec.engines.lists import decode_lists
from llmrec.engines.transformers import TransformersEngine
from llmrec.errors import DecodingError
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.types import Ragged, ScoredLists

PROMPTS = [[5, 6, 7], [9], [3, 4, 5, 6, 7, 8, 9, 10]]
EVERYTHING = 1000

Make = Callable[[TinyWorld], Engine]
Scored = dict[tuple[int, ...], float]


def all_lists(
    world: TinyWorld, prompt: list[int], length: int, normalize: str, allowed: Iterable[int] | None = None
) -> Scored:
    """`log p` of every ordered list, one item after another by a pass of its own."""
    items = sorted(range(len(world.index)) if allowed is None else allowed)
    scored: Scored = {(): 0.0}
    for _ in range(length):
        longer: Scored = {}
        for rows, score in scored.items():
            before = [token for row in rows for token in world.items.encode(row)]
            said = brute_force(world, prompt + before, normalize)
            longer |= {(*rows, row): score + said[row] for row in items if row not in rows}
        scored = longer
    return scored


def assert_best(found: ScoredLists, user: int, expected: Scored) -> None:
    best = sorted(expected, key=lambda rows: -expected[rows])[: found.rows.shape[1]]
    assert [tuple(rows) for rows in found.rows[user, : len(best)].tolist()] == best
    np.testing.assert_allclose(found.scores[user, : len(best)], [expected[rows] for rows in best], atol=5e-4)
    assert (found.rows[user, len(best) :] == -1).all()
    assert (found.scores[user, len(best) :] == -np.inf).all()


@pytest.mark.parametrize("normalize", ["codebook", "children", "vocab"])
def test_with_enough_beams_they_are_the_best_of_all_ordered_lists(make: Make, normalize: str) -> None:
    world = make_tiny_world(6, (3, 2, 4), seed=3)
    found = decode_lists(make(world), PROMPTS, 7, 3, EVERYTHING, normalize)
    assert found.rows.shape == (3, 7, 3)
    assert found.exact.all()
    for user, prompt in enumerate(PROMPTS):
        assert_best(found, user, all_lists(world, prompt, 3, normalize))


def test_titles_of_different_lengths(make: Make, tmp_path: Path) -> None:
    world = make_titled_world(["abcdef", "abcxyz", "b", "bb", "xyz"], tmp_path)
    for normalize in ("codebook", "children"):
        found = decode_lists(make(world), PROMPTS, 5, 3, EVERYTHING, normalize)
        for user, prompt in enumerate(PROMPTS):
            assert_best(found, user, all_lists(world, prompt, 3, normalize))


def test_one_item_a_list_is_a_ranking(make: Make, tiny_world: TinyWorld) -> None:
    engine = make(tiny_world)
    found, ranking = decode_lists(engine, PROMPTS, 6, 1, 8), engine.decode(PROMPTS, 6, 8)
    np.testing.assert_array_equal(found.rows[..., 0], ranking.rows)
    np.testing.assert_allclose(found.scores, ranking.scores, atol=1e-5)
    np.testing.assert_array_equal(found.exact, ranking.exact)


def test_the_length_of_the_codes_may_be_one(make: Make) -> None:
    """Every item hangs on the root, so the next item follows at once."""
    world = make_tiny_world(5, (6,), seed=1)
    found = decode_lists(make(world), PROMPTS, 4, 2, EVERYTHING)
    for user, prompt in enumerate(PROMPTS):
        assert_best(found, user, all_lists(world, prompt, 2, "codebook"))


def test_only_open_items_come_and_their_scores_stay(make: Make) -> None:
    world = make_tiny_world(8, (3, 2, 3), seed=5)
    engine, own = make(world), np.array([0, 2, 3, 5, 7], np.int32)
    excluded = Ragged.from_lists([[3, 4], [], [0, 2, 7]])
    left = [{0, 2, 5, 7}, set(own.tolist()), {3, 5}]
    for candidates in (own, engine.allow(own), Ragged.from_lists([own] * 3)):
        found = decode_lists(engine, PROMPTS, 6, 2, EVERYTHING, excluded=excluded, candidates=candidates)
        for user, prompt in enumerate(PROMPTS):
            assert_best(found, user, all_lists(world, prompt, 2, "codebook", left[user]))


def test_where_items_run_out_lists_are_shorter(make: Make) -> None:
    """A user with one item left, one with none, one with enough, in one batch."""
    world = make_tiny_world(6, (3, 2, 4), seed=3)
    excluded = Ragged.from_lists([[0, 1, 2, 4, 5], range(6), [0]])
    found = decode_lists(make(world), PROMPTS, 3, 4, 10, excluded=excluded)
    assert found.rows[0].tolist() == [[3, -1, -1, -1], [-1] * 4, [-1] * 4]
    assert found.scores[0, 0] == pytest.approx(brute_force(world, PROMPTS[0], "codebook")[3], abs=1e-4)
    assert (found.rows[1] == -1).all()
    assert (found.scores[1] == -np.inf).all()
    assert (found.rows[2] >= 1).all()
    some = decode_lists(make(world), PROMPTS, 2, 3, 10, excluded=Ragged.from_lists([range(4)] * 3))
    assert sorted(map(sorted, some.rows[0].tolist())) == [[-1, 4, 5], [-1, 4, 5]]


def test_items_that_share_a_code_may_both_be_in_a_list(make: Make) -> None:
    index = ItemIndex(np.array([[1, 0], [0, 2], [1, 0], [0, 1]], np.int32), (2, 3))
    items = ItemTokenizer.bind(make_tiny_tokenizer(), index)
    catalog = make_tiny_world(4, (2, 3)).catalog
    world = TinyWorld(catalog, index, items, make_tiny_model(len(items.tokenizer)))
    found = decode_lists(make(world), PROMPTS, 24, 3, EVERYTHING)
    for user, prompt in enumerate(PROMPTS):
        expected = all_lists(world, prompt, 3, "codebook")
        lists = [tuple(rows) for rows in found.rows[user].tolist()]
        assert set(lists) == set(expected)  # 24 lists, each once
        np.testing.assert_allclose(found.scores[user], [expected[rows] for rows in lists], atol=5e-4)


@settings(max_examples=25, deadline=None)
@given(beams=st.integers(1, 12), lists=st.integers(1, 4), length=st.integers(1, 3), seed=st.integers(0, 50))
def test_a_proof_holds_and_no_list_is_wrong(beams: int, lists: int, length: int, seed: int) -> None:
    world = make_tiny_world(7, (3, 2, 4), seed=seed)
    excluded = Ragged.from_lists([[1], [], [2, 3]])
    engine = TransformersEngine(world.model, world.items)
    found = decode_lists(engine, PROMPTS, lists, length, beams, excluded=excluded)
    for user, prompt in enumerate(PROMPTS):
        expected = all_lists(world, prompt, length, "codebook", set(range(7)) - set(excluded[user].tolist()))
        if found.exact[user]:
            assert_best(found, user, expected)
        rows = [tuple(one) for one in found.rows[user].tolist()]
        assert len(set(rows)) == len(rows)
        np.testing.assert_allclose(found.scores[user], [expected[one] for one in rows], atol=5e-4)
        assert (np.diff(found.scores[user]) <= 0).all()


def test_more_beams_prove_more(tiny_world: TinyWorld) -> None:
    engine = TransformersEngine(tiny_world.model, tiny_world.items)
    assert not decode_lists(engine, PROMPTS, 1, 3, 1).exact.all()
    assert decode_lists(engine, PROMPTS, 1, 3, 400).exact.all()


def test_the_engines_agree_on_narrow_searches(make: Make) -> None:
    world = make_tiny_world(40, (5, 4, 5), seed=3)
    excluded = Ragged.from_lists([range(0, 40, 3), [], [7]])
    found = decode_lists(make(world), PROMPTS, 4, 4, 5, excluded=excluded)
    expected = decode_lists(TransformersEngine(world.model, world.items), PROMPTS, 4, 4, 5, excluded=excluded)
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_allclose(found.scores, expected.scores, atol=5e-4)
    np.testing.assert_array_equal(found.exact, expected.exact)


def test_who_else_asks_changes_nothing(tiny_world: TinyWorld) -> None:
    engine = TransformersEngine(tiny_world.model, tiny_world.items)
    together = decode_lists(engine, PROMPTS, 3, 3, 6)
    for user, prompt in enumerate(PROMPTS):
        alone = decode_lists(engine, [prompt], 3, 3, 6)
        np.testing.assert_array_equal(alone.rows[0], together.rows[user])
        np.testing.assert_allclose(alone.scores[0], together.scores[user], atol=1e-4)


def test_a_known_prompt_gives_the_same_lists(tiny_world: TinyWorld) -> None:
    plain = TransformersEngine(tiny_world.model, tiny_world.items)
    cached = TransformersEngine(tiny_world.model, tiny_world.items, cached_tokens=100)
    with torch.inference_mode():
        decode_lists(cached, [prompt[:-1] for prompt in PROMPTS[::2]], 2, 2, 5)
    np.testing.assert_array_equal(
        decode_lists(cached, PROMPTS, 4, 3, 6).rows, decode_lists(plain, PROMPTS, 4, 3, 6).rows
    )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"lists": 0}, "must be at least 1"),
        ({"beams": 0}, "must be at least 1"),
        ({"length": 0}, "length is 0"),
        ({"candidates": Ragged.from_lists([[1]])}, "candidates holds 1 lists for 3 prompts"),
    ],
)
def test_what_cannot_be_decoded_is_refused(tiny_world: TinyWorld, given: dict[str, object], says: str) -> None:
    engine = TransformersEngine(tiny_world.model, tiny_world.items)
    with pytest.raises(DecodingError, match=says):
        decode_lists(engine, PROMPTS, **{"lists": 2, "length": 2, "beams": 5, **given})  # type: ignore[arg-type]
    with pytest.raises(DecodingError, match="no token"):
        decode_lists(engine, [[]], 1, 2, 5)
    assert decode_lists(engine, [], 2, 3, 5).rows.shape == (0, 2, 3)


def test_a_list_must_fit_into_the_window() -> None:
    world = make_tiny_world(6, (3, 2, 4), seed=3)
    from transformers import MistralConfig, MistralForCausalLM

    settings = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = MistralConfig(vocab_size=len(world.items.tokenizer), num_key_value_heads=2, sliding_window=12, **settings)
    engine = TransformersEngine(MistralForCausalLM(config), world.items)
    assert decode_lists(engine, [[1, 2, 3]], 1, 3, 5).rows.shape == (1, 1, 3)
    with pytest.raises(DecodingError, match="the prompt and a code take 3"):
        decode_lists(engine, [[1, 2, 3]], 1, 4, 5)
