"""What was computed before is continued, and gives what a fresh computation gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from brute_force import brute_force
from worlds import TinyWorld

from llmrec.engines.transformers import TransformersEngine
from llmrec.types import ScoredItems

SHARED = list(range(10, 40))
PROMPTS = [[*SHARED, 5, 6, 7], [*SHARED, 9], [*SHARED, 3, 4, 5, 6, 7, 8]]


@pytest.fixture
def fed(tiny_world: TinyWorld, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of all inputs that the model gets from now on."""
    shapes: list[tuple[int, ...]] = []
    decoder = tiny_world.model.get_decoder()
    forward = decoder.forward

    def counting(*args: object, input_ids: torch.Tensor, **kwargs: object) -> object:
        shapes.append(tuple(input_ids.shape))
        return forward(*args, input_ids=input_ids, **kwargs)

    monkeypatch.setattr(decoder, "forward", counting)
    return shapes


def assert_right(world: TinyWorld, prompts: list[list[int]], found: ScoredItems) -> None:
    for user, prompt in enumerate(prompts):
        expected = brute_force(world, prompt, "codebook")
        np.testing.assert_allclose(found.scores[user], np.sort(expected)[::-1][: found.scores.shape[1]], atol=1e-4)


def test_the_shared_beginning_is_computed_once(tiny_world: TinyWorld, fed: list[tuple[int, ...]]) -> None:
    engine = TransformersEngine(tiny_world.model, tiny_world.items, shared_prompt=SHARED)
    first, second = (engine.decode(PROMPTS, 20, 20) for _ in range(2))
    assert fed.count((1, len(SHARED))) == 1
    assert fed.count((3, 6)) == 2  # the rest of the prompts, each time
    fed.clear()
    assert_right(tiny_world, PROMPTS, first)
    np.testing.assert_array_equal(first.scores, second.scores)


def test_a_prompt_without_it_is_computed_whole(tiny_world: TinyWorld) -> None:
    engine = TransformersEngine(tiny_world.model, tiny_world.items, shared_prompt=SHARED)
    prompts = [PROMPTS[0], [7, 8], SHARED]  # the last is nothing but the beginning
    assert_right(tiny_world, prompts, engine.decode(prompts, 20, 20))


def test_a_user_who_comes_back_pays_for_the_new_events_only(tiny_world: TinyWorld, fed: list[tuple[int, ...]]) -> None:
    engine = TransformersEngine(tiny_world.model, tiny_world.items, cached_tokens=1000)
    engine.decode(PROMPTS, 5, 20)
    fed.clear()
    later = [[*PROMPTS[0], 11, 12], [*PROMPTS[1], 13], PROMPTS[2]]
    found = engine.decode(later, 20, 20)
    assert fed[0] == (3, 2)
    assert_right(tiny_world, later, found)
    again = [[*later[0], 20], [*later[1], 21, 22]]  # in another batch, continued a second time
    assert_right(tiny_world, again, engine.decode(again, 20, 20))


def test_what_is_kept_is_bounded_and_the_oldest_goes(tiny_world: TinyWorld) -> None:
    engine = TransformersEngine(tiny_world.model, tiny_world.items, cached_tokens=70)
    for prompt in PROMPTS:
        engine.decode([prompt], 1, 1)
    assert engine.prompts.tokens == len(PROMPTS[1]) + len(PROMPTS[2])
    assert TransformersEngine(tiny_world.model, tiny_world.items).prompts.tokens == 0


def test_a_changed_weight_forgets_everything(tiny_world: TinyWorld) -> None:
    engine = TransformersEngine(tiny_world.model, tiny_world.items, shared_prompt=SHARED, cached_tokens=1000)
    before = engine.decode(PROMPTS, 20, 20)
    weight = next(tiny_world.model.parameters())
    kept = weight.detach().clone()
    try:
        with torch.no_grad():
            weight += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
        found = engine.decode(PROMPTS, 20, 20)
        assert not np.allclose(found.scores, before.scores)
        assert_right(tiny_world, PROMPTS, found)
    finally:
        with torch.no_grad():
            weight.copy_(kept)
