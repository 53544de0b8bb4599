"""The search over vLLM against the embedded engine, with a stand-in for vLLM that runs the model in transformers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fake_vllm import OneStep, patch_one_step
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import TinyWorld, make_tiny_world, make_titled_world

from llmrec.engines.bias import ItemBias
from llmrec.engines.transformers import TransformersEngine
from llmrec.engines.vllm import VLLMEngine, require_vllm, settings_for
from llmrec.errors import DecodingError, MissingExtraError
from llmrec.types import Ragged

PROMPTS = [[5, 6, 7], [9], [3, 4, 5, 6, 7, 8, 9, 10]]


@pytest.fixture(autouse=True)
def _without_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    patch_one_step(monkeypatch)


@settings(max_examples=15, deadline=None)
@given(
    normalize=st.sampled_from(["codebook", "children", "vocab"]),
    beams=st.integers(1, 8),
    most_beams=st.sampled_from([0, 40]),
    weight=st.sampled_from([None, 0.5]),
    data=st.data(),
)
def test_it_equals_the_embedded_engine(
    normalize: str, beams: int, most_beams: int, weight: float | None, data: st.DataObject
) -> None:
    world = make_tiny_world(40, (5, 4, 5), seed=3)
    rows = st.lists(st.integers(0, 39), max_size=30)
    excluded = Ragged.from_lists([np.array(data.draw(rows), np.int32) for _ in PROMPTS])
    candidates = data.draw(st.none() | rows.map(lambda given: np.unique(np.array(given, np.int32))))
    other = None if weight is None else ItemBias(np.linspace(-3, 3, 40).astype(np.float32), weight)
    arguments = {"excluded": excluded, "candidates": candidates, "bias": other, "most_beams": most_beams}
    with torch.inference_mode():
        found = VLLMEngine(OneStep(world), world.items).decode(PROMPTS, 7, beams, normalize, **arguments)
    expected = TransformersEngine(world.model, world.items).decode(PROMPTS, 7, beams, normalize, **arguments)
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    np.testing.assert_array_equal(found.exact, expected.exact)


@pytest.mark.parametrize("length_penalty", [0.0, 0.7])
@pytest.mark.parametrize("normalize", ["codebook", "children", "vocab"])
def test_titles_too(tmp_path: Path, normalize: str, length_penalty: float) -> None:
    """Codes of different lengths in the words of the base vocabulary, two of them alike, with runs without a branch."""
    world = make_titled_world(["abcdef", "abcxyz", "b", "bb", "bbbbbb", "xyz", "xyz"], tmp_path)
    found = VLLMEngine(OneStep(world), world.items).decode(PROMPTS, 7, 4, normalize, length_penalty=length_penalty)
    expected = TransformersEngine(world.model, world.items).decode(
        PROMPTS, 7, 4, normalize, length_penalty=length_penalty
    )
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_allclose(found.scores, expected.scores, atol=5e-4)
    np.testing.assert_array_equal(found.exact, expected.exact)


def test_a_vllm_with_other_settings_is_refused(tiny_world: TinyWorld) -> None:
    backend = OneStep(tiny_world)
    backend.model_config = SimpleNamespace(logits_processors=None, logprobs_mode="raw_logprobs", max_logprobs=2)
    said = r"logits_processors=None .* logprobs_mode='raw_logprobs' .* max_logprobs=2 \(wanted: at least 4\)"
    with pytest.raises(DecodingError, match=said):
        VLLMEngine(backend, tiny_world.items)


def test_a_level_is_one_call_for_all_users() -> None:
    world = make_tiny_world(40, (5, 4, 5), seed=3)
    backend = OneStep(world)
    VLLMEngine(backend, world.items).decode(PROMPTS, 5, 5)
    assert backend.calls == 3


def test_a_new_item_is_scored_as_its_stand_in() -> None:
    from llmrec.indexes.base import ItemIndex
    from llmrec.indexes.item_tokenizer import ItemTokenizer

    world = make_tiny_world(6, (4, 3))
    codes = np.array([[0, 0], [3, 0], [2, 2], [3, 1], [1, 2]], np.int32)
    grown = ItemIndex(codes, (4, 3), stand_ins=np.array([[3, 0], [2, 2]], np.int32))
    world = world._replace(items=ItemTokenizer(world.items.tokenizer, grown))
    found = VLLMEngine(OneStep(world), world.items).decode(PROMPTS, 5, 10)
    expected = TransformersEngine(world.model, world.items).decode(PROMPTS, 5, 10)
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)


def test_what_cannot_be_decoded_is_refused(tiny_world: TinyWorld) -> None:
    engine = VLLMEngine(OneStep(tiny_world), tiny_world.items)
    with pytest.raises(DecodingError, match="no token"):
        engine.decode([[1], []], k=1, beams=1)
    with pytest.raises(DecodingError, match="at least 1"):
        engine.decode([[1]], k=0, beams=1)


def test_the_settings_allow_what_the_search_asks_for(tiny_world: TinyWorld) -> None:
    settings = settings_for("folder", tiny_world.items)
    assert settings["max_logprobs"] == tiny_world.items.trie.fan_out
    assert settings["logprobs_mode"] == "processed_logits"
    assert settings["load_format"] == "safetensors"


def test_without_vllm_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'llmrec\[vllm\]'"):
        require_vllm()
