"""Which models the embedded engine can decode with, and an error that says why where it cannot."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicSlidingWindowLayer

from llmrec.base_models import drops_soft_cap
from llmrec.errors import DecodingError

TAKES_A_TREE_MASK = ("sdpa", "eager")
"""Attention implementations of `transformers` that take any mask of four dimensions."""

REMEMBERS_ALL = ("full_attention", "sliding_attention", "chunked_attention")
"""Layer types that keep keys and values of single positions; other layers sum the past up in a state."""

FED = ("input_ids", "attention_mask", "position_ids", "past_key_values", "use_cache")
"""What a decoder is called with. One that does not name `position_ids` swallows them, and counts beams as positions."""

ENCODERS = frozenset(
    "bert big_bird camembert data2vec-text electra ernie megatron-bert rembert roberta roberta-prelayernorm roc_bert "
    "roformer xlm-roberta xlm-roberta-xl xmod".split()
)
"""BERT and its kin, which `AutoModelForCausalLM` loads too: their head is more than a matrix, and some number positions
otherwise when they are given than when they are left out."""


def check_model(model: PreTrainedModel) -> None:
    """Whether all beams of a user can be positions of one sequence.

    Raises:
        DecodingError: the model is an encoder-decoder, keeps a running state in place of keys and values, has no head
            over its vocabulary, takes no positions, or uses an attention that takes no tree mask or is not the one it
            was trained with.
    """
    config, name = _text_config(model), _name_of(model)
    if model.config.is_encoder_decoder:
        raise DecodingError(f"{name} is an encoder-decoder. Take a decoder-only language model, such as SmolLM2.")
    others = sorted(set(getattr(config, "layer_types", None) or ()) - set(REMEMBERS_ALL))
    if others or getattr(model, "_is_stateful", False):
        kind = f"layers of the type {', '.join(others)}" if others else "a state"
        raise DecodingError(
            f"{name} sums up the past in {kind}, so beams cannot share one sequence. Take a model whose layers are all "
            "attention, such as Llama, Qwen3 or Gemma."
        )
    if model.get_output_embeddings() is None:
        raise DecodingError(f"{name} has no head over its vocabulary. Load it with AutoModelForCausalLM.")
    if config.model_type in ENCODERS:
        raise DecodingError(f"{name} is an encoder made to fill gaps. Take a decoder-only language model.")
    decoder = model.get_decoder()
    if decoder is model:  # Llama 4: transformers does not find it
        raise DecodingError(f"{name} does not give its decoder apart from its head. Take another model.")
    taken = inspect.signature(type(decoder).forward).parameters  # the class's: an instance may be hooked
    if missing := [argument for argument in FED if argument not in taken]:
        raise DecodingError(
            f"The decoder of {name} does not take {', '.join(missing)}, so beams cannot be positions of one sequence. "
            "Take a model with rotary or learned positions, such as Llama, Qwen3 or GPT-2."
        )
    if getattr(config, "alibi", False) or "local" in getattr(config, "attention_layers", ()):
        kind = "ALiBi" if getattr(config, "alibi", False) else "local"
        raise DecodingError(
            f"The {kind} attention of {name} counts tokens in the cache, so every beam would move the others. Take a "
            "model with rotary or learned positions, such as Llama, Qwen3 or GPT-2."
        )
    if config._attn_implementation not in TAKES_A_TREE_MASK:
        raise DecodingError(
            f"{name} uses the attention '{config._attn_implementation}', which takes no tree mask. Load it with "
            f"attn_implementation set to one of {', '.join(TAKES_A_TREE_MASK)}."
        )
    if drops_soft_cap(model):
        raise DecodingError(
            f"{name} was trained with a cap on attention scores ({config.attn_logit_softcapping}), which 'sdpa' leaves "
            'out without a word. Load it with attn_implementation="eager" (llmrec does), or call '
            'model.set_attn_implementation("eager").'
        )


def check_length(model: PreTrainedModel, prompt: int, levels: int) -> None:
    """Whether every position can see the whole prompt.

    Args:
        prompt: tokens of the longest prompt. levels: tokens of the longest code, or of a list of codes.

    Raises:
        DecodingError: a sliding window, or the model's positions, are shorter than prompt and code.
    """
    longest = prompt + levels
    for words, limit in (("sees only the last", _window(model)), ("has only", _positions(model))):
        if limit is not None and longest > limit:
            raise DecodingError(
                f"{_name_of(model)} {words} {limit} positions; the prompt and a code take {prompt} + {levels}. Shorten "
                "the prompt (max_history), or take another model."
            )


def _window(model: PreTrainedModel) -> int | None:
    """The shortest sliding window or attention chunk of any layer."""
    layers = DynamicCache(config=model.config).layers  # knows every way in which a config can say it
    return min((layer.sliding_window for layer in layers if isinstance(layer, DynamicSlidingWindowLayer)), default=None)


def _positions(model: PreTrainedModel) -> int | None:
    """Learned positions end (GPT-2, OPT); rotary ones go on, if badly."""
    config, decoder = _text_config(model), model.get_decoder()
    if (limit := getattr(config, "n_positions", None)) is not None:
        return int(limit)
    limit, words = getattr(config, "max_position_embeddings", None), decoder.get_input_embeddings()
    tables = [part for part in decoder.children() if isinstance(part, torch.nn.Embedding) and part is not words]
    # The table of OPT has two rows more than there are positions.
    return limit if any(limit is not None and 0 <= table.num_embeddings - limit <= 2 for table in tables) else None


def _text_config(model: PreTrainedModel) -> Any:
    """The config of the decoder; a model that also sees has several."""
    return model.config.get_text_config(decoder=True)


def _name_of(model: PreTrainedModel) -> str:
    return f"{type(model).__name__} ({model.config.model_type})"
