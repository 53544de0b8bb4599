"""Other ways to decode items with the same model; what `decode.py` compares with (no benchmark by itself).

- `generate`: beam search of transformers, held to the items by a dictionary of prefixes (`DictTrie`, the usual way) or
  by one lookup for all beams (`TableTrie`). transformers takes log-probabilities over the whole vocabulary before it
  closes tokens, so its scores are those of `normalize: vocab`, and with `renormalize=True` those of `children`.
- `beam_search`: ordinary beam search without its avoidable costs. The prompt is computed once, the trie is a lookup,
  only the rows of the level are multiplied where the normalization allows it; what is left is a copy of the prompt's
  keys and values for every beam.
- `score_items`: no search; every given item is scored.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, PreTrainedModel

from llmrec.indexes.item_tokenizer import ItemTokenizer


class CodeTable:
    """Which codes may follow a prefix and which item a full code is, looked up for many prefixes at once.

    Args:
        items: all codes have one length and no two items share one.
        device: where the tables lie.
    """

    def __init__(self, items: ItemTokenizer, device: torch.device | str) -> None:
        codes = torch.from_numpy(items.index.codes).long()
        self.sizes = items.index.level_sizes
        self.first_token = [int(book[0]) for book in items.codebooks]
        self.starts = torch.tensor(self.first_token, device=device)
        self.levels = len(self.sizes)
        self.keys: list[Tensor] = []  # of each length, the sorted prefixes as numbers
        self.follows: list[Tensor] = []  # bool[prefixes, size of the next level]
        key = torch.zeros(len(codes), dtype=torch.int64)
        for level, size in enumerate(self.sizes):
            prefixes, place = torch.unique(key, return_inverse=True)
            follows = torch.zeros(len(prefixes), size, dtype=torch.bool)
            follows[place, codes[:, level]] = True
            self.keys.append(prefixes.to(device))
            self.follows.append(follows.to(device))
            key = key * size + codes[:, level]
        full, row = key.sort()
        self.keys.append(full.to(device))
        self.row = row.to(device)

    def _place(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Where the prefixes `int64[..., length]` stand among those of their length, and whether they do."""
        key = torch.zeros(codes.shape[:-1], dtype=torch.int64, device=codes.device)
        for level in range(codes.shape[-1]):
            key = key * self.sizes[level] + codes[..., level]
        known = self.keys[codes.shape[-1]]
        place = torch.searchsorted(known, key).clamp(max=len(known) - 1)
        return place, known[place] == key

    def after(self, codes: Tensor) -> Tensor:
        """`bool[..., size]`: the codes that may follow each prefix; none follows what begins no item."""
        place, known = self._place(codes)
        return self.follows[codes.shape[-1]][place] & known[..., None]

    def rows(self, codes: Tensor) -> Tensor:
        """The item of each full code, -1 where there is none."""
        place, known = self._place(codes)
        return torch.where(known, self.row[place], -1)

    def codes_of(self, tokens: Tensor) -> Tensor:
        """From token ids `int64[..., length]` to codes."""
        return tokens - self.starts[: tokens.shape[-1]]


class DictTrie:
    """`prefix_allowed_tokens_fn`: one dictionary lookup for each beam.

    Args:
        items: whose codes are allowed. prompt_tokens: the length of the prompts.
    """

    def __init__(self, items: ItemTokenizer, prompt_tokens: int) -> None:
        self.prompt_tokens = prompt_tokens
        allowed: dict[tuple[int, ...], set[int]] = {}
        for row in range(len(items.index)):
            tokens = items.encode(row)
            for length, token in enumerate(tokens):
                allowed.setdefault(tuple(tokens[:length]), set()).add(token)
        self.allowed = {prefix: sorted(tokens) for prefix, tokens in allowed.items()}

    def __call__(self, batch_id: int, sent: Tensor) -> list[int]:
        return self.allowed[tuple(sent[self.prompt_tokens :].tolist())]


class TableTrie(LogitsProcessor):
    """The same constraint for all beams at once.

    Args:
        table: the codes. prompt_tokens: the length of the prompts.
    """

    def __init__(self, table: CodeTable, prompt_tokens: int) -> None:
        self.table, self.prompt_tokens = table, prompt_tokens

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        after = self.table.after(self.table.codes_of(input_ids[:, self.prompt_tokens :]))
        level = input_ids.shape[1] - self.prompt_tokens
        first = self.table.first_token[level]
        columns = slice(first, first + self.table.sizes[level])
        held = torch.full_like(scores, -torch.inf)
        held[:, columns] = scores[:, columns].masked_fill(~after, -torch.inf)
        return held


@dataclass(frozen=True)
class Beams:
    """Item rows `int64[B, K]`, -1 where a beam ends in no item, and scores `float32[B, K]`, best first."""

    rows: Tensor
    scores: Tensor | None


def generate(
    model: PreTrainedModel,
    prompts: Tensor,
    table: CodeTable,
    beams: int,
    trie: DictTrie | TableTrie,
    scores: bool = False,
    renormalize: bool = False,
) -> Beams:
    """Beam search of transformers.

    Args:
        prompts: `int64[B, P]`. scores: whether they are asked for (it keeps the scores of all tokens at all steps).
        renormalize: over the allowed tokens.
    """
    settings = GenerationConfig(
        num_beams=beams,
        num_return_sequences=beams,
        max_new_tokens=table.levels,
        do_sample=False,
        length_penalty=0.0,  # all codes have one length, and then scores are plain log-probabilities
        early_stopping=False,
        eos_token_id=None,  # a code ends by its length
        pad_token_id=0,
        renormalize_logits=renormalize,
        return_dict_in_generate=True,
        output_scores=scores,
    )
    if isinstance(trie, TableTrie):
        held = {"logits_processor": LogitsProcessorList([trie])}
    else:
        held = {"prefix_allowed_tokens_fn": trie}
    found = model.generate(
        input_ids=prompts, attention_mask=torch.ones_like(prompts), generation_config=settings, **held
    )
    tokens = found.sequences[:, prompts.shape[1] :]
    if tokens.shape[1] != table.levels:
        raise RuntimeError(f"generate ended after {tokens.shape[1]} tokens, a code has {table.levels}.")
    rows = table.rows(table.codes_of(tokens)).view(len(prompts), beams)
    return Beams(rows, found.sequences_scores.view(len(prompts), beams) if scores else None)


def _log_p(model: PreTrainedModel, hidden: Tensor, table: CodeTable, prefixes: Tensor, normalize: str) -> Tensor:
    """`float32[..., size]`: the log-probability of each code after the prefixes `int64[..., length]`."""
    level = prefixes.shape[-1]
    columns = slice(table.first_token[level], table.first_token[level] + table.sizes[level])
    after = table.after(prefixes)
    head = model.get_output_embeddings()
    if normalize == "vocab":
        return head(hidden).float().log_softmax(-1)[..., columns].masked_fill(~after, -torch.inf)
    bias = None if head.bias is None else head.bias[columns]
    logits = torch.nn.functional.linear(hidden, head.weight[columns], bias).float()
    if normalize == "children":
        held = logits.masked_fill(~after, -torch.inf).log_softmax(-1)
        return held.nan_to_num(nan=-torch.inf)  # nothing follows a prefix that begins no item
    return logits.log_softmax(-1).masked_fill(~after, -torch.inf)


@torch.inference_mode()
def beam_search(
    model: PreTrainedModel, prompts: Tensor, table: CodeTable, beams: int, normalize: str = "vocab"
) -> Beams:
    """One token a beam a level, with keys and values of its own; for models that leave their logits as they are."""
    body, users = model.get_decoder(), len(prompts)
    said = body(input_ids=prompts, use_cache=True)
    hidden, cache = said.last_hidden_state[:, -1:], said.past_key_values  # (B, 1, D)
    codes = torch.zeros(users, 1, 0, dtype=torch.int64, device=prompts.device)  # (B, K, length)
    scores = torch.zeros(users, 1, device=prompts.device)
    for level, size in enumerate(table.sizes):
        totals = (scores[..., None] + _log_p(model, hidden, table, codes, normalize)).flatten(1)  # (B, K * size)
        scores, chosen = totals.topk(min(beams, totals.shape[1]))
        beam, code = chosen // size, chosen % size
        kept = codes.gather(1, beam[..., None].expand(-1, -1, level))
        if level < table.levels - 1:
            first_beam = torch.arange(users, device=prompts.device)[:, None] * codes.shape[1]
            cache.reorder_cache((first_beam + beam).flatten())  # after the prompt: from one row a user to K
            tokens = (table.first_token[level] + code).view(-1, 1)
            hidden = body(input_ids=tokens, past_key_values=cache, use_cache=True).last_hidden_state
            hidden = hidden.view(users, beam.shape[1], -1)
        codes = torch.cat([kept, code[..., None]], -1)
    return Beams(table.rows(codes), scores)


@torch.inference_mode()
def score_items(
    model: PreTrainedModel,
    prompts: Tensor,
    table: CodeTable,
    codes: Tensor,
    normalize: str = "codebook",
    sequences_at_once: int = 400,
) -> Tensor:
    """`float32[B, n]`: the scores of the items `int64[n, L]` after every prompt, which is computed once."""
    body, users = model.get_decoder(), len(prompts)
    said = body(input_ids=prompts, use_cache=True)
    last = said.last_hidden_state[:, -1]  # (B, D)
    parts = []
    for part in codes.split(max(1, sequences_at_once // users)):
        cache = copy.deepcopy(said.past_key_values)
        cache.batch_repeat_interleave(len(part))
        tokens = (part + table.starts)[:, :-1].repeat(users, 1)  # the last code is scored, not fed
        hidden = body(input_ids=tokens, past_key_values=cache, use_cache=True).last_hidden_state
        hidden = hidden.view(users, len(part), table.levels - 1, -1)
        before = last[:, None, None].expand(-1, len(part), 1, -1)
        hidden = torch.cat([before, hidden], 2)  # (B, n, L, D)
        total = torch.zeros(users, len(part), device=prompts.device)
        for level in range(table.levels):
            prefixes = part[:, :level].expand(users, -1, -1)
            log_p = _log_p(model, hidden[:, :, level], table, prefixes, normalize)
            total += log_p.gather(-1, part[:, level].expand(users, -1)[..., None]).squeeze(-1)
        parts.append(total)
    return torch.cat(parts, 1)


def as_prompts(lists: Sequence[Sequence[int]], device: torch.device | str) -> Tensor:
    """Prompts of one length as a tensor."""
    return torch.from_numpy(np.asarray(lists, np.int64)).to(device)
