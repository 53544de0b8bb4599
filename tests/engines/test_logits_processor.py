"""The logits processors against a plain reading of the trie, request by request; no vLLM is needed."""

from __future__ import annotations

from enum import Enum, auto
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import TinyWorld, make_tiny_tokenizer, make_tiny_world

from llmrec.engines.constraint import FLOOR, ItemConstraint, served_folder
from llmrec.engines.item_requests import ItemRequest, validate
from llmrec.engines.logits_processor import TrieLogitsProcessor, TrieLogitsProcessorV1, TrieLogitsProcessorV2
from llmrec.engines.normalize import log_probabilities
from llmrec.errors import ArtifactError, DecodingError
from llmrec.indexes.base import END, ItemIndex
from llmrec.indexes.item_tokenizer import ItemTokenizer

WORDS = [40, 41, 42]  # tokens of the base vocabulary


class Direction(Enum):
    UNIDIRECTIONAL = auto()
    SWAP = auto()


def parameters(**arguments: object) -> SimpleNamespace:
    return SimpleNamespace(
        extra_args=arguments or None, structured_outputs=None, temperature=arguments and 0, max_tokens=1
    )


def may_follow(items: ItemTokenizer, so_far: list[int], request: ItemRequest) -> set[int]:
    """What the documentation promises, computed from the list of all codes."""
    chosen = set(range(len(items.index))) if request.candidates is None else set(map(int, request.candidates))
    codes = [items.encode(row) for row in sorted(chosen - set(map(int, request.excluded))) if row < len(items.index)]
    after = {code[len(so_far)] for code in codes if code[: len(so_far)] == so_far and len(code) > len(so_far)}
    return after or {items.tokenizer.eos_token_id}


def survivors(row: torch.Tensor) -> set[int]:
    return set(torch.nonzero(row > -torch.inf).flatten().tolist())


def step(processor: TrieLogitsProcessorV1, rows: int, size: int) -> torch.Tensor:
    logits = torch.randn(rows, size)
    before = logits.clone()
    after = processor.apply(logits)
    kept = after > -torch.inf
    torch.testing.assert_close(after[kept], before[kept])
    return after


@pytest.fixture(scope="module")
def mixed_items() -> ItemTokenizer:
    """Codes of different lengths, and two items that share one."""
    codes = np.array([[0, 1, 2], [0, 1, 3], [1, END, END], [2, 0, END], [2, 1, 0], [2, 1, 0]], np.int32)
    return ItemTokenizer.bind(make_tiny_tokenizer(), ItemIndex(codes, (3, 2, 4)))


class Simulated:
    """vLLM's persistent batch, as far as a processor sees it."""

    def __init__(self, items: ItemTokenizer, rows: int) -> None:
        self.items, self.rows = items, rows
        self.batch: list[SimpleNamespace | None] = []
        self.processor = TrieLogitsProcessorV1.of(ItemConstraint(items), rows)

    def update(self, leaving: list[int], coming: list[SimpleNamespace], swaps: list[tuple[int, int]]) -> None:
        """Requests leave, others take free rows (the lowest first), and the rest is moved together."""
        free, added, moved = sorted(set(leaving)), [], []
        for row in free:
            self.batch[row] = None
        for one in coming:
            row = free.pop(0) if free else len(self.batch)
            if row == len(self.batch):
                self.batch.append(None)
            self.batch[row] = one
            added.append((row, one.params, one.prompt, one.output))
        removed = sorted(free, reverse=True)
        while free and (last := len(self.batch) - 1) >= 0:
            if self.batch[last] is None:
                self.batch.pop()
                free = [row for row in free if row < len(self.batch)]
                continue
            row = free.pop(0)
            self.batch[row], self.batch[last] = self.batch[last], None
            moved.append((last, row, Direction.UNIDIRECTIONAL))
        while self.batch and self.batch[-1] is None:
            self.batch.pop()
        for one, other in swaps:
            if max(one, other) < len(self.batch) and one != other:
                self.batch[one], self.batch[other] = self.batch[other], self.batch[one]
                moved.append((one, other, Direction.SWAP))
        update = SimpleNamespace(batch_size=len(self.batch), removed=removed, added=added, moved=moved)
        self.processor.update_state(update if removed or added or moved else None)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_sequence_of_batches(mixed_items: ItemTokenizer, data: st.DataObject) -> None:
    """Requests with all kinds of arguments come, are aborted, preempted, resumed, moved and swapped."""
    items, size = mixed_items, len(mixed_items.tokenizer)
    world = Simulated(items, 6)
    rows_of_items = st.lists(st.integers(0, 7), max_size=4)
    paused: list[SimpleNamespace] = []
    for _ in range(data.draw(st.integers(3, 10))):
        alive = list(range(len(world.batch)))
        leaving = data.draw(st.lists(st.sampled_from(alive), unique=True)) if alive else []
        gone = [world.batch[row] for row in leaving]
        coming = [paused.pop() for _ in range(data.draw(st.integers(0, len(paused))))]
        for _ in range(data.draw(st.integers(0, 2))):
            arguments: dict[str, object] = {}
            if data.draw(st.booleans()):
                arguments["item_candidates"] = data.draw(rows_of_items)
            if data.draw(st.booleans()):
                arguments["item_excluded"] = data.draw(rows_of_items)
            prompt = [*WORDS, *items.encode(data.draw(st.integers(0, 5)))]
            arguments["item_prefix"] = data.draw(st.integers(0, len(prompt) + 1))
            coming.append(SimpleNamespace(params=parameters(**arguments), prompt=prompt, output=[]))
        coming = coming[: world.rows - len(alive) + len(leaving)]
        pairs = st.tuples(st.integers(0, 5), st.integers(0, 5))
        world.update(leaving, coming, data.draw(st.lists(pairs, max_size=2)))
        # Some of those that left were only preempted: they come back with what they had, in a list of its own.
        for one in gone:
            if one is not None and data.draw(st.booleans()):
                paused.append(SimpleNamespace(params=one.params, prompt=one.prompt, output=list(one.output)))
        if not world.batch:
            continue
        allowed = step(world.processor, len(world.batch), size)
        for row, request in enumerate(world.batch):
            arguments = ItemRequest.of(request.params.extra_args)
            unknown = arguments.prefix > len(request.prompt)
            begun = request.prompt[len(request.prompt) - arguments.prefix :] if arguments.prefix else []
            expected = may_follow(items, begun + request.output, arguments)
            assert survivors(allowed[row]) == ({items.tokenizer.eos_token_id} if unknown else expected)
            if data.draw(st.integers(0, 3)):  # otherwise its prompt is not done yet: nothing was sampled
                request.output.append(data.draw(st.sampled_from(sorted(survivors(allowed[row])))))


def test_a_token_that_is_not_known_yet_is_read_again(mixed_items: ItemTokenizer) -> None:
    """Asynchronous scheduling puts -1 where the token of the last step will stand."""
    world, size = Simulated(mixed_items, 2), len(mixed_items.tokenizer)
    code, output = mixed_items.encode(0), []
    world.update([], [SimpleNamespace(params=parameters(), prompt=WORDS, output=output)], [])
    step(world.processor, 1, size)
    output.append(-1)
    assert survivors(step(world.processor, 1, size)[0]) == {mixed_items.tokenizer.eos_token_id}  # never open
    output[:] = code[:1]
    assert survivors(step(world.processor, 1, size)[0]) == may_follow(mixed_items, code[:1], ItemRequest())
    output[:] = code[:2]
    assert survivors(step(world.processor, 1, size)[0]) == may_follow(mixed_items, code[:2], ItemRequest())
    output[:] = code[:1]  # taken back
    assert survivors(step(world.processor, 1, size)[0]) == may_follow(mixed_items, code[:1], ItemRequest())


def test_whatever_the_model_says_an_item_is_drawn(mixed_items: ItemTokenizer) -> None:
    world, size = Simulated(mixed_items, 3), len(mixed_items.tokenizer)
    world.update([], [SimpleNamespace(params=parameters(), prompt=WORDS, output=[]) for _ in range(3)], [])
    logits = torch.stack([torch.full((size,), value) for value in (torch.nan, torch.inf, -torch.inf)])
    after = world.processor.apply(logits)
    assert not after.isnan().any()
    for row in after:
        assert survivors(row) == may_follow(mixed_items, [], ItemRequest())
    assert after.max() == -FLOOR


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_the_second_interface(mixed_items: ItemTokenizer, data: st.DataObject) -> None:
    """Rows in any order, slots used again, prompts of any length, code tokens anywhere in them."""
    items, slots, length = mixed_items, 4, 16
    size = len(items.tokenizer)
    states = SimpleNamespace(
        device=torch.device("cpu"),
        max_num_reqs=slots,
        all_token_ids=SimpleNamespace(gpu=torch.zeros(slots, length, dtype=torch.int32)),
        prompt_len=SimpleNamespace(gpu=torch.zeros(slots, dtype=torch.int32)),
    )
    processor = TrieLogitsProcessorV2.of(ItemConstraint(items), states)
    for _ in range(3):
        expected = {}
        for slot in data.draw(st.lists(st.integers(0, slots - 1), min_size=1, unique=True)):
            prompt = [*WORDS[: data.draw(st.integers(1, 3))], *items.encode(data.draw(st.integers(0, 5)))]
            prefix = data.draw(st.integers(0, len(prompt) + 1))
            excluded = data.draw(st.lists(st.integers(0, 6), max_size=3))
            begun = prompt[len(prompt) - prefix :] if prefix else []
            rest = items.encode(data.draw(st.integers(0, 5)))
            output = rest[len(begun) :][: data.draw(st.integers(0, 3))]
            given_arguments = parameters(item_prefix=prefix, item_excluded=excluded)
            assert processor.add_request(slot, given_arguments)
            states.all_token_ids.gpu[slot] = 7
            states.all_token_ids.gpu[slot, : len(prompt + output)] = torch.tensor(prompt + output, dtype=torch.int32)
            states.prompt_len.gpu[slot] = len(prompt)
            request = ItemRequest.of(given_arguments.extra_args)
            known = prefix <= len(prompt)
            after = may_follow(items, begun + output, request) if known else {items.tokenizer.eos_token_id}
            expected[slot] = (len(prompt + output) - 1, after)
        processor.apply_staged_writes()
        rows = data.draw(st.permutations(list(expected)))
        context = SimpleNamespace(
            expanded_idx_mapping=torch.tensor(rows, dtype=torch.int32),
            idx_mapping_np=np.array(rows),
            pos=torch.tensor([expected[slot][0] for slot in rows]),
        )
        after = processor.apply(torch.randn(len(rows), size), context)
        assert [survivors(row) for row in after] == [expected[slot][1] for slot in rows]


@pytest.mark.parametrize("normalize", ["codebook", "children", "vocab"])
def test_scores_are_those_of_the_embedded_engine(tiny_world: TinyWorld, normalize: str) -> None:
    items = tiny_world.items
    size, code = len(items.tokenizer), items.encode(0)
    world = Simulated(items, 4)
    asked = [
        SimpleNamespace(params=parameters(item_prefix=n, item_scores=normalize), prompt=[*WORDS, *code[:n]], output=[])
        for n in range(3)
    ]
    world.update([], [*asked, SimpleNamespace(params=parameters(), prompt=WORDS, output=[])], [])
    logits = torch.randn(4, size)
    after = world.processor.apply(logits.clone())
    for level in range(3):
        book = items.codebooks[level]
        allowed = sorted(may_follow(items, code[:level], ItemRequest()))
        codes = torch.tensor([[token - int(book[0]) for token in allowed]])
        expected = log_probabilities(
            logits[level][None, int(book[0]) : int(book[-1]) + 1],
            codes,
            torch.ones_like(codes, dtype=torch.bool),
            normalize,
            logits[level].logsumexp(-1)[None],
        )
        assert survivors(after[level]) == set(allowed)
        torch.testing.assert_close(after[level, allowed], expected[0])
    plain = sorted(survivors(after[3]))
    torch.testing.assert_close(after[3, plain], logits[3, plain])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"item_candidate": [1]}, "Did you mean 'item_candidates'"),
        ({"item_candidates": [1, "i2"]}, "a list of item rows"),
        ({"item_candidates": 3}, "a list of item rows"),
        ({"item_excluded": [True]}, "a list of item rows"),
        ({"item_excluded": [-1]}, "counted from 0"),
        ({"item_prefix": -1}, "0 or more"),
        ({"item_prefix": 1.5}, "0 or more"),
        ({"item_scores": "all"}, "codebook, children, vocab"),
        ({"item_scores": "vocab", "item_excluded": [1]}, "leave item_candidates"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(arguments: dict[str, object], said: str) -> None:
    for kind in (TrieLogitsProcessor, TrieLogitsProcessorV1, TrieLogitsProcessorV2):
        with pytest.raises(ValueError, match=said):
            kind.validate_params(parameters(**arguments))


def test_requests_that_no_item_can_answer_are_refused() -> None:
    validate(SimpleNamespace(extra_args={"session": 1}, structured_outputs=None, temperature=1.0, max_tokens=16))
    with pytest.raises(ValueError, match="grammar"):
        validate(SimpleNamespace(extra_args=None, structured_outputs=object(), temperature=1.0, max_tokens=16))
    with pytest.raises(ValueError, match="max_tokens=1"):
        validate(
            SimpleNamespace(extra_args={"item_scores": "vocab"}, structured_outputs=None, temperature=0, max_tokens=2)
        )


def test_ids_are_found_in_the_catalog_of_the_folder(tiny_world: TinyWorld, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(tiny_world.catalog.table, tmp_path / "catalog.parquet")
    constraint = ItemConstraint(tiny_world.items, catalog_file=tmp_path / "catalog.parquet")
    by_row = constraint.reach(ItemRequest(candidates=[3, 7, 99]))
    by_id = constraint.reach(ItemRequest(candidates=["i3", "i7", "unheard of"]))
    assert by_row is not None
    assert by_id is not None
    assert by_row.nodes.tolist() == by_id.nodes.tolist()
    assert by_id.are_open
    with pytest.raises(ArtifactError, match="rows only"):
        ItemConstraint(tiny_world.items).reach(ItemRequest(candidates=["i3"]))


def test_folders_that_would_be_served_wrongly_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no item_index"):
        served_folder(str(tmp_path))
    (tmp_path / "item_index").mkdir()
    assert served_folder(str(tmp_path)) == tmp_path
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ArtifactError, match="Merge it first"):
        served_folder(str(tmp_path))


def test_speculative_decoding_is_refused() -> None:
    with pytest.raises(DecodingError, match="speculative"):
        TrieLogitsProcessorV2(SimpleNamespace(speculative_config=object()), None)


def test_one_name_serves_both_runners(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    world = make_tiny_world()
    world.items.tokenizer.save_pretrained(tmp_path)
    world.index.save(tmp_path / "item_index")
    config = SimpleNamespace(
        model_config=SimpleNamespace(model=str(tmp_path), revision=None),
        scheduler_config=SimpleNamespace(max_num_seqs=2),
        speculative_config=None,
    )
    states = SimpleNamespace(device=torch.device("cpu"), max_num_reqs=2)
    assert type(TrieLogitsProcessor(config, torch.device("cpu"), False)) is TrieLogitsProcessorV1
    assert type(TrieLogitsProcessor(config, states)) is TrieLogitsProcessorV2
