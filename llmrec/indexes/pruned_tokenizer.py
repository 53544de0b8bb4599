"""A tokenizer with fewer words, which writes the texts that it was made for in the same tokens as before.

Byte-pair encoding joins neighbours by a ranked list of merges. If every merge that a text needed is kept, the same ones
are chosen again: at each step the best merge of all was one of them. So a token is kept with all merges that lead to
it. Any other text is still written, in smaller pieces, down to bytes.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from llmrec.errors import ArtifactError

TOKENIZER, CONFIG = "tokenizer.json", "tokenizer_config.json"
BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def prune_tokenizer(
    tokenizer: PreTrainedTokenizerBase, used: Iterable[int]
) -> tuple[PreTrainedTokenizerBase, NDArray[np.int64]]:
    """A copy without the words that are not needed.

    Args:
        tokenizer: a fast one over byte pairs. used: the token ids of the texts that must stay as they are.

    Returns:
        The copy, and `int64[V']`: the old id of each of its tokens, ascending. Added tokens are all kept.

    Raises:
        ArtifactError: the tokenizer is slow, or is no byte-pair encoding.
    """
    if not tokenizer.is_fast:
        raise ArtifactError("only a fast tokenizer (one with a tokenizer.json) can be pruned. Keep its vocabulary.")
    settings = json.loads(tokenizer.backend_tokenizer.to_str())
    model = settings["model"]
    if model["type"] != "BPE":
        raise ArtifactError(f"the tokenizer is {model['type']}; only one over byte pairs (BPE) can be pruned.")
    vocabulary: dict[str, int] = model["vocab"]
    words = {token: word for word, token in vocabulary.items()}
    added = {token["id"] for token in settings["added_tokens"]}
    wanted = {words[token] for token in used if token in words} | _floor(settings)
    merges = [tuple(merge.split(" ", 1) if isinstance(merge, str) else merge) for merge in model["merges"]]
    prefix = model.get("continuing_subword_prefix") or ""
    kept_words = _with_parts(wanted & set(vocabulary), merges, prefix)
    kept = np.array(sorted(added | {vocabulary[word] for word in kept_words}), np.int64)
    new = {int(old): place for place, old in enumerate(kept)}
    model["vocab"] = {word: new[token] for word, token in vocabulary.items() if token in new}
    model["merges"] = [
        list(pair)
        for pair in merges
        if all(part in model["vocab"] for part in (*pair, pair[0] + pair[1].removeprefix(prefix)))
    ]
    for token in settings["added_tokens"]:
        token["id"] = new[token["id"]]
    _renumber(settings["post_processor"], new)
    if settings["padding"]:
        settings["padding"]["pad_id"] = new[settings["padding"]["pad_id"]]
    return _rebuilt(tokenizer, settings, new), kept


def _floor(settings: dict[str, Any]) -> set[str]:
    """What any text can be written in: bytes where the tokenizer knows them, otherwise single characters."""
    model = settings["model"]
    known: Iterable[str] = model["vocab"]
    if '"ByteLevel"' in json.dumps([settings["pre_tokenizer"], settings["normalizer"]]):
        floor = set(pre_tokenizers.ByteLevel.alphabet())
    elif model.get("byte_fallback"):
        floor = {word for word in known if BYTE.fullmatch(word)}
    else:
        floor = {word for word in known if len(word) == 1}
    return floor | ({model["unk_token"]} if model.get("unk_token") else set())


def _with_parts(wanted: set[str], merges: list[tuple[str, ...]], prefix: str) -> set[str]:
    """With every word that one of these is made of, by any merge."""
    makes = defaultdict(list)
    for left, right in merges:
        makes[left + right.removeprefix(prefix)].append((left, right))
    found, open_words = set(wanted), list(wanted)
    while open_words:
        for pair in makes.get(open_words.pop(), ()):
            fresh = set(pair) - found
            found |= fresh
            open_words += fresh
    return found


def _renumber(part: Any, new: dict[int, int]) -> None:
    """The token ids inside a post-processor: lists `ids`, and pairs of a token with its id."""
    for child in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        _renumber(child, new)
    if isinstance(part, dict):
        if isinstance(part.get("ids"), list):
            part["ids"] = [new[token] for token in part["ids"]]
        for name in ("sep", "cls"):
            if isinstance(part.get(name), list):
                part[name][1] = new[part[name][1]]


def _rebuilt(
    tokenizer: PreTrainedTokenizerBase, settings: dict[str, Any], new: dict[int, int]
) -> PreTrainedTokenizerBase:
    """The tokenizer as transformers reads it from disk, which sets its class and its special tokens."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer.save_pretrained(folder)
        (folder / TOKENIZER).write_text(json.dumps(settings, ensure_ascii=False))
        config = json.loads((folder / CONFIG).read_text())
        if "added_tokens_decoder" in config:
            config["added_tokens_decoder"] = {
                str(new[int(token)]): value for token, value in config["added_tokens_decoder"].items()
            }
            (folder / CONFIG).write_text(json.dumps(config, ensure_ascii=False))
        for name in ("vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json"):  # of older versions
            (folder / name).unlink(missing_ok=True)
        return AutoTokenizer.from_pretrained(folder)
