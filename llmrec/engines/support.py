"""Which models the embedded engine can decode with, and an error that says why where it cannot."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel

from llmrec.errors import DecodingError

TAKES_A_TREE_MASK = ("sdpa", "eager")
"""Attention implementations of `transformers` that take any mask of four dimensions."""

REMEMBERS_ALL = ("full_attention", "sliding_attention", "chunked_attention")
"""Layer types that keep keys and values of single positions; other layers sum the past up in a state."""


def check_model(model: PreTrainedModel) -> None:
    """Whether all beams of a user can be positions of one sequence.

    Raises:
        DecodingError: the model is an encoder-decoder, keeps a running state in place of keys and values, has no head
            over its vocabulary, or uses an attention that takes no tree mask.
    """
    config, name = model.config, _name_of(model)
    if config.is_encoder_decoder:
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
    if config._attn_implementation not in TAKES_A_TREE_MASK:
        raise DecodingError(
            f"{name} uses the attention '{config._attn_implementation}', which takes no tree mask. Load it with "
            f"attn_implementation set to one of {', '.join(TAKES_A_TREE_MASK)}."
        )


def check_length(model: PreTrainedModel, prompt: int, levels: int) -> None:
    """Whether every position can see the whole prompt.

    Args:
        prompt: tokens of the longest prompt. levels: tokens of the longest code.

    Raises:
        DecodingError: a sliding window, or the model's positions, are shorter than prompt and code.
    """
    longest = prompt + levels
    for words, limit in (("sees only the last", _window(model.config)), ("has only", _positions(model.config))):
        if limit is not None and longest > limit:
            raise DecodingError(
                f"{_name_of(model)} {words} {limit} positions; the prompt and a code take {prompt} + {levels}. Shorten "
                "the prompt (max_history), or take another model."
            )


def _window(config: Any) -> int | None:
    """The shortest sliding window of any layer."""
    kinds = getattr(config, "layer_types", None)
    if kinds is not None and not {"sliding_attention", "chunked_attention"} & set(kinds):
        return None
    sizes = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    return min((size for size in sizes if size is not None), default=None)


def _positions(config: Any) -> int | None:
    """Learned positions end; rotary ones go on, if badly."""
    return getattr(config, "n_positions", None)


def _name_of(model: PreTrainedModel) -> str:
    return f"{type(model).__name__} ({model.config.model_type})"
