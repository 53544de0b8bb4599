"""Log-probabilities of many items after one prompt, with the prompt computed once.

A plain batch repeats the prompt for the chosen item and for each rejected one. Here one row holds

    prompt p0 p1 p2 p3 | c0 c1 | a0 a1 | b0 b1        the chosen code c and the rejected a and b, without last tokens

and a tree mask lets every branch see the prompt and itself only; positions go on after the prompt in each. The first
token of all codes is predicted by the prompt's last state. A user's earlier prompts are beginnings of the later ones,
so branches may also leave the prompt before its end: one row then holds many choices of a user.

Values and gradients are those of the plain form (`tests/trainers/test_completions.py`), as far as the attention is one
that takes any mask: `sdpa` or `eager`.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from llmrec.engines.head import finish_logits, head_bias
from llmrec.engines.tree_attention import added
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.trainers.item_rows import item_head_rows
from llmrec.trainers.samples import IGNORED

Over = Literal["level", "vocab"]
PROMPT, PADDING = 0, -1  # numbers of the branches; the others count from 1


class Branches(NamedTuple):
    """What one choice adds to a prompt.

    Args:
        prompt: tokens of the row's prompt that it sees. codes: the token ids of its items, the chosen one first.
    """

    prompt: int
    codes: list[list[int]]


def pack(rows: Sequence[tuple[Sequence[int], Sequence[Branches]]], pad: int, width: int) -> dict[str, Tensor]:
    """The tensors of a batch.

    Args:
        rows: `B` prompts, each with its choices; `P` choices in all. pad: a token id for the end of shorter rows.
        width: `C`, items of a choice; choices with fewer have empty places behind.

    Returns:
        `input_ids`, `position_ids`, `branches` (the number of the branch, `PROMPT`, or `PADDING`) and `seen` (how many
        tokens of the prompt a token sees), each `int64[B, T]`; `states`, `int64[P, C, L]`, the place in `[B * T]` of
        the state that predicts a token of a code; `targets`, `int64[P, C, L]`, that token, `IGNORED` behind an end.
    """
    levels = max(len(code) for _, choices in rows for choice in choices for code in choice.codes)
    laid = [_lay(prompt, choices) for prompt, choices in rows]
    longest = max(len(row.ids) for row in laid)
    states, targets = [], []
    for number, row in enumerate(laid):
        for of_choice in row.choices:
            empty: list[tuple[list[int], list[int]]] = [([], [])] * (width - len(of_choice))
            for places, code in of_choice + empty:
                rest = levels - len(code)
                states.append([number * longest + place for place in places] + [0] * rest)
                targets.append(code + [IGNORED] * rest)

    def padded(name: str, fill: int) -> Tensor:
        return torch.tensor([getattr(row, name) + [fill] * (longest - len(row.ids)) for row in laid])

    return {
        "input_ids": padded("ids", pad),
        "position_ids": padded("positions", 0),
        "branches": padded("branches", PADDING),
        "seen": padded("seen", 0),
        "states": torch.tensor(states).view(-1, width, levels),
        "targets": torch.tensor(targets).view(-1, width, levels),
    }


def grouped(input_ids: Tensor, attention_mask: Tensor, kept: int, group: int) -> dict[str, Tensor]:
    """TRL's batch of one sequence a rollout as one row a group.

    Args:
        input_ids, attention_mask: `int64[B, P + C]`; each `group` rows have one prompt. kept: `C`.

    Returns:
        The tensors of `pack`, one choice a row, `group` items each.
    """
    ids, real = input_ids.tolist(), attention_mask.bool().tolist()
    rows = []
    for first in range(0, len(ids), group):
        prompt = [token for token, is_real in zip(ids[first][:-kept], real[first][:-kept], strict=True) if is_real]
        codes = [
            [token for token, is_real in zip(row[-kept:], mask[-kept:], strict=True) if is_real]
            for row, mask in zip(ids[first : first + group], real[first : first + group], strict=True)
        ]
        rows.append((prompt, [Branches(len(prompt), codes)]))
    return pack(rows, 0, group)


class _Row(NamedTuple):
    ids: list[int]
    positions: list[int]
    branches: list[int]
    seen: list[int]
    choices: list[list[tuple[list[int], list[int]]]]  # places of the predicting states, and the code, of every item


def _lay(prompt: Sequence[int], choices: Sequence[Branches]) -> _Row:
    size = len(prompt)
    row = _Row(list(prompt), list(range(size)), [PROMPT] * size, list(range(1, size + 1)), [])
    branch = PROMPT
    for start, codes in choices:
        found = []
        for code in codes:
            branch += 1
            fed = len(code) - 1  # nothing is predicted after the last token
            first = len(row.ids)
            row.ids.extend(code[:-1])
            row.positions.extend(range(start, start + fed))
            row.branches.extend([branch] * fed)
            row.seen.extend([start] * fed)
            found.append(([start - 1, *range(first, first + fed)], list(code)))
        row.choices.append(found)
    return row


def tree_mask(branches: Tensor, seen: Tensor) -> Tensor:
    """`bool[B, 1, T, T]`: whether a token (third dimension) sees another (fourth)."""
    places = torch.arange(branches.shape[1], device=branches.device)
    in_prompt = (branches == PROMPT)[:, None] & (places < seen[:, :, None])  # a branch sees the prompt up to its start
    same = (branches[:, :, None] == branches[:, None]) & (
        places[:, None] >= places
    )  # padding sees padding: no empty row
    return (in_prompt | same & (branches != PROMPT)[:, None])[:, None]


@dataclass
class CompletionScores(ModelOutput):
    """What TRL reads of a model's output, for every token of every item; 0 where there is none.

    Args:
        log_probs: `(P, C, L)` in nats. entropy, mean_logits, log_sum_sq_probs: of the distribution that the token is
            drawn from, without gradient where it is not asked for. is_top1: whether the token is its likeliest.
    """

    log_probs: Tensor | None = None
    entropy: Tensor | None = None
    mean_logits: Tensor | None = None
    log_sum_sq_probs: Tensor | None = None
    is_top1: Tensor | None = None


def add_completion_scores(
    model: PreTrainedModel, items: ItemTokenizer, over: Over, temperature: float = 1.0, train_entropy: bool = False
) -> None:
    """`model(**pack(...))` gives `CompletionScores`; through `forward`, so that DDP and FSDP see it.

    Args:
        model: a bare causal language model; other calls of it are as before. items: the codebooks.
        over: a token's probability is that among its level's codebook, or among the whole vocabulary.
        temperature: what logits are divided by. train_entropy: whether the entropy has a gradient.
    """
    original = model.forward

    def forward(self: PreTrainedModel, *args: Any, states: Tensor | None = None, **kwargs: Any) -> Any:
        if states is None:
            return original(*args, **kwargs)
        targets, branches, seen = (kwargs.pop(name) for name in ("targets", "branches", "seen"))
        hidden = self.get_decoder()(
            input_ids=kwargs["input_ids"],
            position_ids=kwargs["position_ids"],
            attention_mask=added(tree_mask(branches, seen), self.dtype),
            use_cache=False,
        ).last_hidden_state  # (B, T, D)
        return completion_scores(self, items, over, hidden, states, targets, temperature, train_entropy)

    model.forward = types.MethodType(forward, model)


def completion_scores(
    model: PreTrainedModel,
    items: ItemTokenizer,
    over: Over,
    hidden: Tensor,
    states: Tensor,
    targets: Tensor,
    temperature: float = 1.0,
    train_entropy: bool = False,
) -> CompletionScores:
    """What the last states of a batch of `pack` say of its items.

    Args:
        hidden: `(B, T, D)`. states, targets: of `pack`. The others are as in `add_completion_scores`.
    """
    of_logits = partial(_of_logits, temperature=temperature, train_entropy=train_entropy)
    real = targets != IGNORED
    found = _scores(model, items, over, hidden.flatten(0, 1)[states[real]], targets[real], of_logits)
    empty = {name: value.new_zeros(targets.shape) for name, value in found.items()}
    return CompletionScores(**{name: empty[name].masked_scatter(real, value) for name, value in found.items()})


def _scores(
    model: PreTrainedModel,
    items: ItemTokenizer,
    over: Over,
    hidden: Tensor,
    targets: Tensor,
    of_logits: Callable[[Tensor, Tensor], dict[str, Tensor]],
) -> dict[str, Tensor]:
    """Of `n` tokens: the fields of `CompletionScores`, `(n,)` each.

    Args:
        hidden: `(n, D)`. targets: `int64[n]`, item token ids. of_logits: the fields from logits and their targets.
    """
    bias = head_bias(model)
    if over == "vocab":
        logits = functional.linear(hidden, model.get_output_embeddings().weight, bias)
        return of_logits(finish_logits(model, logits.float()), targets)
    rows = item_head_rows(model, items)
    places = items.places(hidden.device)[targets]
    parts, order = [], []
    for book, start in enumerate(items.book_starts.tolist()):
        size = len(items.codebooks[book])
        at = torch.nonzero((places >= start) & (places < start + size)).squeeze(1)
        of_book = None if bias is None else bias[items.rows_of(book)]
        logits = functional.linear(hidden[at], rows[start : start + size].to(hidden.dtype), of_book)
        parts.append(of_logits(finish_logits(model, logits.float()), places[at] - start))
        order.append(at)
    back = torch.cat(order).argsort()
    return {name: torch.cat([part[name] for part in parts])[back] for name in parts[0]}


def _of_logits(logits: Tensor, targets: Tensor, temperature: float, train_entropy: bool) -> dict[str, Tensor]:
    logits = logits / temperature
    log_probs = logits.log_softmax(-1)  # (n, V)
    with torch.set_grad_enabled(train_entropy and torch.is_grad_enabled()):
        entropy = -(log_probs.exp() * log_probs).sum(-1)
    with torch.no_grad():
        others = {
            "entropy": entropy,
            "mean_logits": logits.mean(-1),
            "log_sum_sq_probs": (2 * log_probs).logsumexp(-1),
            "is_top1": logits.argmax(-1) == targets,
        }
    return {"log_probs": log_probs.gather(-1, targets[:, None]).squeeze(-1), **others}
