"""Tiny random models of many architectures, built from their configs."""

from __future__ import annotations

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

COMMON: dict[str, object] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
MIXED: dict[str, object] = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16}
# GPT-2 has names of its own.
GPT2 = {
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "initializer_range": 0.3,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
FEW_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}

SETTINGS: dict[str, dict[str, object]] = {
    "llama": COMMON,
    "qwen3": COMMON,
    "gemma": COMMON,
    # The caps are low, so that leaving one out would be seen.
    "gemma2": {**COMMON, **MIXED, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
    "gemma3_text": {**COMMON, **MIXED},
    "mistral": {**COMMON, "sliding_window": 16},
    "gpt_neox": COMMON,
    "gpt2": GPT2,
    # Relatives, tested once each.
    "qwen2": COMMON,
    "smollm3": COMMON,
    "granite": {**COMMON, "logits_scaling": 2.0},
    "cohere": {**COMMON, "logit_scale": 0.5},
    "olmo3": {**COMMON, **MIXED},
    "phi": COMMON,
    "phi3": {**COMMON, "sliding_window": 16},
    "opt": {
        "hidden_size": 32,
        "ffn_dim": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "word_embed_proj_dim": 32,
        "max_position_embeddings": 64,
        "init_std": 0.3,
    },
    "qwen3_moe": {**COMMON, **FEW_EXPERTS, "num_experts": 4},
    "mixtral": {**COMMON, **FEW_EXPERTS, "num_local_experts": 4},
    "gpt_oss": {**COMMON, **MIXED, **FEW_EXPERTS, "num_local_experts": 4},
}


def make_model(
    kind: str, vocabulary: int = 64, seed: int = 0, attention: str = "sdpa", **changes: object
) -> PreTrainedModel:
    """A random model of the type `kind`, wide enough in scale that its probabilities differ."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(kind, **{"vocab_size": vocabulary, **SETTINGS[kind], **changes})
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
