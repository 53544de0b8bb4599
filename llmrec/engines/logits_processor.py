"""vLLM restricted to real items.

    vllm serve runs/shop --logits-processors llmrec.engines.logits_processor:TrieLogitsProcessor

vLLM 0.32 has two interfaces for this, one for each of its model runners, and which runner it takes depends on the
machine. `TrieLogitsProcessor` is accepted by both and becomes the class that fits. It is named by hand, not by an entry
point: both runners read the same group of entry points, and each refuses the other's classes.

Request arguments: see `llmrec.engines.item_requests`. The catalog is that of the served folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmrec.engines.constraint import ItemConstraint, score_kind, scored_rows, tokens_of_rows
from llmrec.engines.item_requests import ItemRequest, Reach, Reaches, validate
from llmrec.engines.token_trie import NOWHERE
from llmrec.errors import DecodingError
from llmrec.indexes.trie import ROOT

try:
    from vllm.v1.sample.logits_processor import LogitsProcessor as InterfaceV1
except ImportError:  # without vLLM the classes can be imported and tested

    class InterfaceV1:  # type: ignore[no-redef]
        """In place of vLLM's."""


try:
    from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as InterfaceV2
except ImportError:

    class InterfaceV2:  # type: ignore[no-redef]
        """In place of vLLM's."""


UNREAD = -2
"""In place of a number of tokens read: all of them must be read again."""


class _Validating:
    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Refuse arguments that cannot be used, before the request is accepted."""
        validate(sampling_params)


class TrieLogitsProcessorV1(_Validating, InterfaceV1):
    """For model runner V1: rows change places between steps, and generated tokens come as Python lists.

    A row that has one token more than at the last step takes one step in the trie, all such rows at once. Any other row
    (new, resumed after preemption, still in its prompt, with tokens taken back) is read anew from its tokens.
    """

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        model = vllm_config.model_config
        self._begin(ItemConstraint.load(model.model, model.revision, device), vllm_config.scheduler_config.max_num_seqs)

    def _begin(self, constraint: ItemConstraint, rows: int) -> None:
        self.constraint, self.device = constraint, constraint.tokens.device
        self.prefixes: list[Sequence[int]] = [()] * rows
        self.outputs: list[list[int]] = [[] for _ in range(rows)]
        self.reach: list[Reach | None] = [None] * rows
        self.nodes = torch.full((rows,), ROOT, dtype=torch.int64)
        self.seen = np.full(rows, UNREAD, np.int64)
        self.kinds = np.zeros(rows, np.int8)
        self.reaches: Reaches | None = None
        self.scored: dict[Any, Tensor] = {}

    @classmethod
    def of(cls, constraint: ItemConstraint, rows: int) -> TrieLogitsProcessorV1:
        """Without vLLM's configuration, for at most `rows` requests at once."""
        made = cls.__new__(cls)
        made._begin(constraint, rows)
        return made

    def is_argmax_invariant(self) -> bool:
        """No: it forbids tokens."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """Requests come, go and change places; tokens are read later, when the last ones are known."""
        if batch_update is None:
            return
        for row in batch_update.removed:
            self._clear(row)
        for row, params, prompt, output in batch_update.added:
            request = ItemRequest.of(params.extra_args)
            self._clear(row)
            self.prefixes[row] = _tail(prompt or (), request.prefix)  # embeddings have no token ids
            self.outputs[row], self.reach[row] = output, self.constraint.reach(request)
            self.kinds[row] = score_kind(request)
        for one, other, direction in batch_update.moved:
            self._swap(one, other)
            if direction.name != "SWAP":
                self._clear(one)
        self.reaches = self.constraint.reaches(self.reach[: batch_update.batch_size])
        self.scored = scored_rows(self.kinds[: batch_update.batch_size], self.device)

    def apply(self, logits: Tensor) -> Tensor:
        """See `ItemConstraint.apply`."""
        rows = len(logits)
        self._read(rows)
        nodes = self.nodes[:rows].to(self.device, non_blocking=True)
        return self.constraint.apply(logits, nodes, torch.arange(rows, device=self.device), self.reaches, self.scored)

    def _read(self, rows: int) -> None:
        outputs = self.outputs[:rows]
        lengths = np.fromiter(map(len, outputs), np.int64, rows)
        stepped = np.flatnonzero((lengths == self.seen[:rows] + 1) & (lengths > 0))
        last = np.fromiter(map(itemgetter(-1), map(outputs.__getitem__, stepped.tolist())), np.int64, len(stepped))
        stepped, last = stepped[last >= 0], last[last >= 0]  # a negative one is not known yet
        anew = np.setdiff1d(np.arange(rows), stepped, assume_unique=True)
        trie = self.constraint.tokens_on_cpu
        if len(stepped):
            at = torch.from_numpy(stepped)
            self.nodes[at] = trie.step(self.nodes[at], torch.from_numpy(last))
            self.seen[stepped] = lengths[stepped]
        if len(anew):
            lists = [[*self.prefixes[row], *outputs[row]] for row in anew.tolist()]
            tokens, counts = tokens_of_rows(lists, trie.trie.depth + 1)
            self.nodes[torch.from_numpy(anew)] = trie.walk(tokens, counts)
            unknown = np.fromiter((-1 in ids for ids in lists), bool, len(lists))
            self.seen[anew] = np.where(unknown, UNREAD, lengths[anew])

    def _clear(self, row: int) -> None:
        self.prefixes[row], self.outputs[row], self.reach[row] = (), [], None
        self.nodes[row], self.seen[row], self.kinds[row] = ROOT, UNREAD, 0

    def _swap(self, one: int, other: int) -> None:
        columns: tuple[list[Any], ...] = (self.prefixes, self.outputs, self.reach)
        for values in columns:
            values[one], values[other] = values[other], values[one]
        self.nodes[[one, other]] = self.nodes[[other, one]]
        for numbers in (self.seen, self.kinds):
            numbers[[one, other]] = numbers[[other, one]]


class TrieLogitsProcessorV2(_Validating, InterfaceV2):
    """For model runner V2: a request keeps its slot, and all tokens are on the device.

    Nothing is remembered between steps: each step walks from the root along the tokens of the code so far, at most as
    many steps as a code has levels.
    """

    def __init__(self, vllm_config: Any, req_states: Any) -> None:
        if vllm_config.speculative_config is not None:
            raise DecodingError("items cannot be constrained under speculative decoding. Start without it.")
        model = vllm_config.model_config
        self._begin(ItemConstraint.load(model.model, model.revision, req_states.device), req_states)

    def _begin(self, constraint: ItemConstraint, req_states: Any) -> None:
        self.constraint, self.states, self.device = constraint, req_states, constraint.tokens.device
        slots = req_states.max_num_reqs
        self.kinds = np.zeros(slots, np.int8)
        self.reach: list[Reach | None] = [None] * slots
        self.prefix = torch.zeros(slots, dtype=torch.int64)
        self.prefix_there = self.prefix.to(self.device)
        self.reaches: Reaches | None = None
        self.changed = False

    @classmethod
    def of(cls, constraint: ItemConstraint, req_states: Any) -> TrieLogitsProcessorV2:
        """Without vLLM's configuration."""
        made = cls.__new__(cls)
        made._begin(constraint, req_states)
        return made

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        """A request takes a slot, whatever was in it before."""
        request = ItemRequest.of(sampling_params.extra_args)
        self.kinds[req_idx], self.reach[req_idx] = score_kind(request), self.constraint.reach(request)
        self.prefix[req_idx] = request.prefix
        self.changed = True
        return True

    def apply_staged_writes(self) -> None:
        """Bring what `add_request` noted to the device."""
        if self.changed:
            self.prefix_there = self.prefix.to(self.device)
            self.reaches = self.constraint.reaches(self.reach)
            self.changed = False

    def apply(self, logits: Tensor, ctx: Any) -> Tensor:
        """See `ItemConstraint.apply`."""
        slots = ctx.expanded_idx_mapping.long()
        prompt, prefix = self.states.prompt_len.gpu[slots].long(), self.prefix_there[slots]
        start, count = prompt - prefix, prefix + (ctx.pos.long() + 1 - prompt).clamp(min=0)
        every = self.states.all_token_ids.gpu
        places = start[:, None] + torch.arange(self.constraint.tokens.trie.depth + 1, device=self.device)
        tokens = every[slots[:, None], places.clamp(0, every.shape[1] - 1)].long()
        nodes = self.constraint.tokens.walk(tokens, count).masked_fill(start < 0, NOWHERE)
        scored = scored_rows(self.kinds[ctx.idx_mapping_np], self.device)
        return self.constraint.apply(logits, nodes, slots, self.reaches, scored)


class TrieLogitsProcessor(_Validating, InterfaceV1, InterfaceV2):
    """What vLLM is given: either interface takes it for its own, and making one makes the class that fits."""

    def __new__(cls, vllm_config: Any, device_or_states: Any, *pinned: bool) -> Any:
        """Model runner V1 passes three arguments, V2 two."""
        kind: Any = TrieLogitsProcessorV1 if pinned else TrieLogitsProcessorV2
        return kind(vllm_config, device_or_states, *pinned)


def _tail(prompt: Sequence[int], count: int) -> Sequence[int]:
    """The last tokens of a prompt; where it has fewer, what begins no code."""
    if count > len(prompt):
        return (-1,)
    return prompt[len(prompt) - count :]
