"""Tiny worlds built from nothing: a byte-level tokenizer, a random Llama, items with random codes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.indexes.title import TitleIndex


def make_tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer without merges: 256 bytes and two special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: number for number, symbol in enumerate(["<|im_start|>", "<|im_end|>", *alphabet])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>"
    )


def make_tiny_model(vocabulary: int, seed: int = 0, **changes: object) -> PreTrainedModel:
    """A two-layer Llama with random weights, wide enough in scale that its probabilities differ."""
    torch.manual_seed(seed)
    settings = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.3,
        "tie_word_embeddings": True,
        "pad_token_id": 1,
    }
    return LlamaForCausalLM(LlamaConfig(**{**settings, **changes})).eval()


class TinyWorld(NamedTuple):
    catalog: Catalog
    index: ItemIndex
    items: ItemTokenizer
    model: PreTrainedModel


def make_tiny_world(item_count: int = 20, sizes: tuple[int, ...] = (4, 3, 5), seed: int = 0) -> TinyWorld:
    """Items with distinct random codes, a bound tokenizer and a random model over its vocabulary."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(int(np.prod(sizes)), item_count, replace=False)
    index = ItemIndex(np.stack(np.unravel_index(chosen, sizes), axis=1).astype(np.int32), sizes)
    ids = [f"i{row}" for row in range(item_count)]
    catalog = Catalog(pa.table({"item_id": ids, "title": [f"Title {row}" for row in range(item_count)]}))
    items = ItemTokenizer.bind(make_tiny_tokenizer(), index)
    return TinyWorld(catalog, index, items, make_tiny_model(len(items.tokenizer), seed))


def make_titled_world(titles: list[str], folder: Path, seed: int = 0) -> TinyWorld:
    """Items written in words, whose codes differ in length and share long beginnings."""
    tokenizer = make_tiny_tokenizer()
    tokenizer.save_pretrained(folder)
    catalog = Catalog(pa.table({"item_id": [f"i{row}" for row in range(len(titles))], "title": titles}))
    train = Interactions.from_columns(pa.array(["u"]), catalog.items.ids[:1], np.zeros(1, np.int64), catalog.items)
    index = TitleIndex(tokenizer=str(folder)).build(catalog, train)
    items = ItemTokenizer.bind(tokenizer, index)
    return TinyWorld(catalog, index, items, make_tiny_model(len(items.tokenizer), seed))
