"""A model that cannot be decoded is refused by name, with a way out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from architectures import make_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BartConfig,
    BartForCausalLM,
    PreTrainedModel,
    Qwen3NextConfig,
    T5Config,
    T5ForConditionalGeneration,
)
from worlds import TinyWorld, make_tiny_tokenizer

from llmrec.base_models import load_model
from llmrec.engines.support import check_length, check_model
from llmrec.engines.transformers import TransformersEngine
from llmrec.errors import DecodingError


def from_config(kind: str, **changes: object) -> PreTrainedModel:
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, vocab_size=64, **changes))


def t5() -> PreTrainedModel:
    return T5ForConditionalGeneration(T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2))


def bart_decoder() -> PreTrainedModel:
    return BartForCausalLM(
        BartConfig(vocab_size=64, d_model=16, decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=16)
    )


def mamba() -> PreTrainedModel:
    return from_config("mamba", hidden_size=16, state_size=4, num_hidden_layers=1)


def rwkv() -> PreTrainedModel:
    return from_config("rwkv", hidden_size=16, num_hidden_layers=2, attention_hidden_size=16)


def qwen3_next() -> PreTrainedModel:
    config = Qwen3NextConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        layer_types=["linear_attention", "full_attention"],
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        linear_num_key_heads=1,
        linear_num_value_heads=2,
        num_experts=2,
        num_experts_per_tok=1,
        moe_intermediate_size=8,
        shared_expert_intermediate_size=8,
    )
    return AutoModelForCausalLM.from_config(config)


def bloom() -> PreTrainedModel:
    return from_config("bloom", hidden_size=16, n_layer=1, n_head=2)


def falcon_with_alibi() -> PreTrainedModel:
    return from_config("falcon", hidden_size=16, num_hidden_layers=1, num_attention_heads=2, alibi=True)


def gpt_neo() -> PreTrainedModel:
    return from_config("gpt_neo", hidden_size=16, num_layers=2, num_heads=2, attention_types=[[["global", "local"], 1]])


def roberta() -> PreTrainedModel:
    return from_config(
        "roberta",
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        is_decoder=True,
        pad_token_id=1,
    )


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (t5, r"^T5ForConditionalGeneration \(t5\) is an encoder-decoder"),
        (mamba, r"^MambaForCausalLM \(mamba\) sums up the past in layers of the type linear_attention"),
        (rwkv, r"^RwkvForCausalLM \(rwkv\) sums up the past in a state"),
        (qwen3_next, r"^Qwen3NextForCausalLM \(qwen3_next\) sums up the past in layers of the type linear_attention"),
        (roberta, r"^RobertaForCausalLM \(roberta\) is an encoder"),
        (bart_decoder, r"^The decoder of BartForCausalLM \(bart\) does not take position_ids"),
        (bloom, r"^The decoder of BloomForCausalLM \(bloom\) does not take position_ids"),
        (falcon_with_alibi, r"^The ALiBi attention of FalconForCausalLM \(falcon\)"),
        (gpt_neo, r"^The local attention of GPTNeoForCausalLM \(gpt_neo\)"),
    ],
)
def test_it_is_refused_by_name(tiny_world: TinyWorld, build: Callable[[], PreTrainedModel], words: str) -> None:
    with pytest.raises(DecodingError, match=rf"{words}.* Take a "):
        TransformersEngine(build(), tiny_world.items)


@pytest.mark.parametrize("kind", ["mistral", "gemma2", "gemma3_text"])
def test_a_window_must_hold_prompt_and_code(tiny_world: TinyWorld, kind: str) -> None:
    model = make_model(kind, len(tiny_world.items.tokenizer), attention="eager", sliding_window=10)
    engine = TransformersEngine(model, tiny_world.items)
    assert (engine.decode([[1] * 7], 3, 20).rows >= 0).all()
    with pytest.raises(DecodingError, match=rf"^{type(model).__name__}.*last 10 positions; .* take 8 \+ 3"):
        engine.decode([[1], [1] * 8], 1, 1)


def test_a_window_that_is_not_used_is_none() -> None:
    check_length(make_model("mistral", sliding_window=None), prompt=100, levels=3)
    check_length(make_model("qwen2", use_sliding_window=False, sliding_window=4), prompt=100, levels=3)


@pytest.mark.parametrize(("kind", "name"), [("gpt2", "n_positions"), ("opt", "max_position_embeddings")])
def test_learned_positions_must_hold_prompt_and_code(kind: str, name: str) -> None:
    model = make_model(kind, **{name: 10})
    check_length(model, prompt=7, levels=3)
    with pytest.raises(DecodingError, match="has only 10 positions"):
        check_length(model, prompt=8, levels=3)


def test_rotary_positions_have_no_end() -> None:
    check_length(make_model("llama", max_position_embeddings=8), prompt=100, levels=3)


@pytest.mark.parametrize("implementation", ["flash_attention_2", "flex_attention", "paged|sdpa"])
def test_attention_without_a_mask_is_refused(implementation: str) -> None:
    model = make_model("llama")
    model.config._attn_implementation_internal = implementation  # none of them need be installed
    with pytest.raises(DecodingError, match=r"LlamaForCausalLM.*attn_implementation set to one of sdpa"):
        check_model(model)


def test_sdpa_leaves_out_the_cap_of_gemma_2_so_it_is_refused() -> None:
    ids = torch.arange(10)[None]
    capped, plain = make_model("gemma2", attention="eager"), make_model("gemma2", attention="sdpa")
    never = make_model("gemma2", attention="sdpa", attn_logit_softcapping=None)
    with torch.inference_mode():
        torch.testing.assert_close(plain(ids).logits, never(ids).logits)
        assert (plain(ids).logits - capped(ids).logits).abs().max() > 0.01
    check_model(capped)
    check_model(never)
    with pytest.raises(DecodingError, match=r'Gemma2ForCausalLM.*\(2.0\).*attn_implementation="eager"'):
        check_model(plain)


def test_loading_gemma_2_chooses_attention_that_caps(tmp_path: Path) -> None:
    tokenizer = make_tiny_tokenizer()
    make_model("gemma2", len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    check_model(load_model(str(tmp_path))[0])


def test_a_refusal_comes_before_the_prompts_are_read(tiny_world: TinyWorld) -> None:
    model = make_model("llama", len(tiny_world.items.tokenizer))
    model.get_output_embeddings = lambda: None  # as of a model that only embeds
    with pytest.raises(DecodingError, match="no head over its vocabulary"):
        TransformersEngine(model, tiny_world.items)


def test_a_model_that_hides_its_decoder_is_refused() -> None:
    model = make_model("llama")
    model.get_decoder = lambda: model  # what transformers says of a Llama 4
    with pytest.raises(DecodingError, match="does not give its decoder"):
        check_model(model)
