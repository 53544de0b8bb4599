"""The engine equals brute force on the architectures that people use, and refuses by name those that cannot work."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import transformers
from brute_force import brute_force
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel
from worlds import TinyWorld, make_tiny_world

from llmrec.engines.transformers import TransformersEngine
from llmrec.errors import DecodingError
from llmrec.types import Ragged

TOLERANCE = 5e-4  # nats, float32
PROMPTS = [[5, 6, 7], [9], [3, 4, 5, 6, 7, 8, 9, 10]]
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.3,
    "pad_token_id": 1,
}
GROUPED = {**SIZES, "num_key_value_heads": 2}
GPT2 = {
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "initializer_range": 0.3,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
MODELS: dict[str, tuple[str, dict[str, object]]] = {
    "llama": ("Llama", GROUPED),
    "qwen3": ("Qwen3", {**GROUPED, "head_dim": 16}),
    "gemma": ("Gemma", {**GROUPED, "head_dim": 16}),
    "gemma2": ("Gemma2", {**GROUPED, "head_dim": 16, "sliding_window": 12, "final_logit_softcapping": 3.0}),
    "gemma3": ("Gemma3", {**GROUPED, "head_dim": 16, "sliding_window": 12, "num_hidden_layers": 6}),
    "mistral": ("Mistral", {**GROUPED, "sliding_window": 11}),
    "gpt_neox": ("GPTNeoX", SIZES),
    "gpt2": ("GPT2", GPT2),
}


def build(name: str, vocabulary: int, seed: int = 0, attention: str = "sdpa", **changes: object) -> PreTrainedModel:
    family, settings_of = MODELS[name]
    torch.manual_seed(seed)
    config_class = getattr(transformers, "Gemma3TextConfig" if family == "Gemma3" else f"{family}Config")
    model_class = getattr(transformers, f"{family}LMHeadModel" if family == "GPT2" else f"{family}ForCausalLM")
    model = model_class._from_config(
        config_class(vocab_size=vocabulary, **{**settings_of, **changes}), attn_implementation=attention
    )
    return model.eval()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 99),
    sizes=st.lists(st.integers(2, 4), min_size=2, max_size=3).map(tuple),
    normalize=st.sampled_from(["codebook", "children", "vocab"]),
    data=st.data(),
)
def test_it_equals_brute_force(
    name: str, attention: str, seed: int, sizes: tuple[int, ...], normalize: str, data: st.DataObject
) -> None:
    plain = make_tiny_world(min(8, int(np.prod(sizes))), sizes, seed)
    world = plain._replace(model=build(name, len(plain.items.tokenizer), seed, attention))
    count = len(world.index)
    rows = st.sets(st.integers(0, count - 1), max_size=count - 1).map(lambda r: np.array(sorted(r), np.int32))
    excluded = [data.draw(rows) for _ in PROMPTS]
    candidates = data.draw(st.none() | rows)
    found = TransformersEngine(world.model, world.items).decode(
        PROMPTS, count, count, normalize, Ragged.from_lists(excluded), candidates
    )
    assert found.exact.all()
    for user, prompt in enumerate(PROMPTS):
        expected = brute_force(world, prompt, normalize)
        allowed = np.ones(count, bool) if candidates is None else np.isin(np.arange(count), candidates)
        allowed[excluded[user]] = False
        best = np.sort(expected[allowed])[::-1]
        np.testing.assert_allclose(found.scores[user][: len(best)], best, atol=TOLERANCE)
        assert (found.rows[user][len(best) :] == -1).all()
        np.testing.assert_allclose(expected[found.rows[user][: len(best)]], best, atol=TOLERANCE)


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_stays_near_float32(name: str) -> None:
    """Scores of 12 items on random weights: within 0.1 nats, 0.03 in the mean (seen: at most .041 and .013)."""
    plain = make_tiny_world(12, (3, 4), 1)
    world = plain._replace(model=build(name, len(plain.items.tokenizer), 1, initializer_range=0.15))
    exact = np.stack([brute_force(world, prompt, "codebook") for prompt in PROMPTS])
    found = TransformersEngine(world.model.to(torch.bfloat16), world.items).decode(PROMPTS, 12, 12)
    errors = np.abs(np.take_along_axis(exact, found.rows.astype(np.int64), 1) - found.scores)
    assert errors.max() < 0.1
    assert errors.mean() < 0.03


def t5(vocabulary: int) -> PreTrainedModel:
    config = transformers.T5Config(vocab_size=vocabulary, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    return transformers.T5ForConditionalGeneration(config)


def mamba(vocabulary: int) -> PreTrainedModel:
    return transformers.MambaForCausalLM(
        transformers.MambaConfig(vocab_size=vocabulary, hidden_size=16, num_hidden_layers=1, state_size=4)
    )


def rwkv(vocabulary: int) -> PreTrainedModel:
    return transformers.RwkvForCausalLM(
        transformers.RwkvConfig(vocab_size=vocabulary, hidden_size=16, attention_hidden_size=16, num_hidden_layers=2)
    )


def linear_attention(vocabulary: int) -> PreTrainedModel:
    config = transformers.Qwen3NextConfig(
        vocab_size=vocabulary, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, num_experts=0, linear_num_key_heads=2, linear_num_value_heads=2,
        linear_key_head_dim=8, linear_value_head_dim=8, layer_types=["linear_attention", "full_attention"],
    )  # fmt: skip
    return transformers.Qwen3NextForCausalLM(config)


def flash(vocabulary: int) -> PreTrainedModel:
    model = build("llama", vocabulary)
    model.config._attn_implementation = "flash_attention_2"  # what a GPU user may have loaded it with
    return model


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (t5, r"T5ForConditionalGeneration \(t5\) is an encoder-decoder"),
        (mamba, r"MambaForCausalLM \(mamba\) sums up the past in layers of the type linear_attention"),
        (rwkv, r"RwkvForCausalLM \(rwkv\) sums up the past in a state"),
        (linear_attention, r"Qwen3NextForCausalLM \(qwen3_next\) sums up the past in layers of the type linear_att"),
        (flash, r"LlamaForCausalLM \(llama\) uses the attention 'flash_attention_2'.*sdpa, eager"),
    ],
)
def test_a_model_that_cannot_work_is_named(
    tiny_world: TinyWorld, make: Callable[[int], PreTrainedModel], words: str
) -> None:
    with pytest.raises(DecodingError, match=words):
        TransformersEngine(make(len(tiny_world.items.tokenizer)), tiny_world.items)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("mistral", {"sliding_window": 10}, "sees only the last 10 positions"),
        ("gemma3", {"sliding_window": 10}, "sees only the last 10 positions"),
        ("gpt2", {"n_positions": 10}, "has only 10 positions"),
    ],
)
def test_a_prompt_must_fit(tiny_world: TinyWorld, name: str, changes: dict[str, object], words: str) -> None:
    """Eight tokens of prompt and three of a code do not fit in ten; seven do."""
    engine = TransformersEngine(build(name, len(tiny_world.items.tokenizer), **changes), tiny_world.items)
    with pytest.raises(DecodingError, match=rf"{words}; the prompt and a code take 8 \+ 3"):
        engine.decode(PROMPTS, 1, 1)
    assert (engine.decode([PROMPTS[2][:7]], 3, 20).rows >= 0).all()
