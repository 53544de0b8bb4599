"""Many items after one prompt in one pass: the same numbers and gradients as one sequence an item."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from circle import make_task
from torch import Tensor
from worlds import TinyWorld, make_tiny_model, make_tiny_world, make_titled_world

from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.trainers.completions import Branches, Over, add_completion_scores, pack, tree_mask

TITLES = ["red tea", "red tea cup", "blue cup", "blue tea", "green", "green tea pot", "pot"]


def plain(model: Any, items: ItemTokenizer, over: Over, prompt: list[int], code: list[int]) -> Tensor:
    """`(len(code),)` log-probabilities from a sequence of its own."""
    logits = model(input_ids=torch.tensor([prompt + code])).logits[0].float()
    found = []
    for level, token in enumerate(code):
        here = logits[len(prompt) - 1 + level]
        book = torch.from_numpy(items.codebooks[items.book_of_level[level]])
        normalizer = here.logsumexp(0) if over == "vocab" else here[book].logsumexp(0)
        found.append(here[token] - normalizer)
    return torch.stack(found)


def gradients(model: Any, value: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    value.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("over", ["level", "vocab"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("titled", [False, True], ids=["codes", "titles"])
def test_packed_is_plain(tmp_path: Path, over: Over, attention: str, titled: bool) -> None:
    world = make_titled_world(TITLES, tmp_path) if titled else make_tiny_world()
    model, task = world.model.double(), make_task(world.catalog, world.items)
    model.set_attn_implementation(attention)
    histories = [[0, 1, 2], [3], [4, 5, 6, 0, 1]]
    items = [[3, 4, 5, 6], [0, 2], [2]]  # of different numbers
    prompts, codes = [task.prompt(h) for h in histories], [[world.items.encode(r) for r in rows] for rows in items]
    batch = pack([(p, [Branches(len(p), c)]) for p, c in zip(prompts, codes, strict=True)], pad=0, width=4)
    add_completion_scores(model, world.items, over)
    found = model(**batch).log_probs
    weights = torch.randn(found.shape, dtype=found.dtype, generator=torch.Generator().manual_seed(0))
    packed_gradients = gradients(model, (weights * found).sum())

    total = torch.zeros((), dtype=torch.float64)
    for p, (prompt, of_prompt) in enumerate(zip(prompts, codes, strict=True)):
        for c, code in enumerate(of_prompt):
            expected = plain(model, world.items, over, prompt, code)
            torch.testing.assert_close(found[p, c, : len(code)].float(), expected, atol=1e-5, rtol=1e-5)
            assert (found[p, c, len(code) :] == 0).all()
            total = total + (weights[p, c, : len(code)] * expected).sum()
        assert (found[p, len(of_prompt) :] == 0).all()
    for name, expected in gradients(model, total).items():
        torch.testing.assert_close(packed_gradients[name], expected, atol=1e-5, rtol=1e-4, msg=lambda m, n=name: n + m)


def test_branches_may_leave_the_prompt_before_its_end(tiny_world: TinyWorld) -> None:
    """Several choices of one user in one row."""
    task, model = make_task(tiny_world.catalog, tiny_world.items), make_tiny_model(len(tiny_world.items.tokenizer))
    history = [3, 1, 4, 1, 5]
    prompts = [task.prompt(history[:length]) for length in (5, 3, 0)]
    items = [[7, 8], [9, 2], [6, 3]]
    codes = [[tiny_world.items.encode(row) for row in rows] for rows in items]
    choices = [Branches(len(p), c) for p, c in zip(prompts, codes, strict=True)]
    add_completion_scores(model, tiny_world.items, "level")
    found = model(**pack([(prompts[0], choices)], pad=0, width=2)).log_probs
    assert found.shape == (3, 2, 3)
    for p, prompt in enumerate(prompts):
        for c, code in enumerate(codes[p]):
            torch.testing.assert_close(found[p, c], plain(model, tiny_world.items, "level", prompt, code))


def test_a_branch_sees_its_prompt_and_itself_only() -> None:
    batch = pack(
        [([5, 6, 7], [Branches(3, [[1, 2], [3, 4]]), Branches(1, [[8, 9, 10]])]), ([5], [Branches(1, [[1, 2]])])], 0, 2
    )
    assert batch["input_ids"].tolist() == [[5, 6, 7, 1, 3, 8, 9], [5, 1, 0, 0, 0, 0, 0]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 3, 1, 2], [0, 1, 0, 0, 0, 0, 0]]
    assert batch["states"].tolist() == [
        [[2, 3, 0], [2, 4, 0]], [[0, 5, 6], [0, 0, 0]], [[7, 8, 0], [0, 0, 0]],
    ]  # fmt: skip
    mask = tree_mask(batch["branches"], batch["seen"])[:, 0]
    assert [torch.nonzero(row).squeeze(1).tolist() for row in mask[0]] == [
        [0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 4], [0, 5], [0, 5, 6],
    ]  # fmt: skip
    assert [torch.nonzero(row).squeeze(1).tolist() for row in mask[1]][:3] == [[0], [0, 1], [2]]
    assert mask.any(-1).all()  # a row that sees nothing would be NaN


def test_what_trl_reports_is_of_the_same_distribution(tiny_world: TinyWorld) -> None:
    task, model = make_task(tiny_world.catalog, tiny_world.items), make_tiny_model(len(tiny_world.items.tokenizer))
    prompt, code = task.prompt([1, 2]), tiny_world.items.encode(5)
    logits = model(input_ids=torch.tensor([prompt + code])).logits[0]
    add_completion_scores(model, tiny_world.items, "level")
    found = model(**pack([(prompt, [Branches(len(prompt), [code])])], 0, 1))
    for level, book in enumerate(tiny_world.items.codebooks):
        here = logits[len(prompt) - 1 + level][torch.from_numpy(book)]
        p = here.softmax(0)
        assert found.entropy[0, 0, level].item() == pytest.approx(-(p * p.log()).sum().item(), abs=1e-5)
        assert found.mean_logits[0, 0, level].item() == pytest.approx(here.mean().item(), abs=1e-5)
        assert found.log_sum_sq_probs[0, 0, level].item() == pytest.approx((p**2).sum().log().item(), abs=1e-5)
        assert bool(found.is_top1[0, 0, level]) == (book[int(here.argmax())] == code[level])


def test_other_calls_are_as_before(tiny_world: TinyWorld) -> None:
    model = make_tiny_model(len(tiny_world.items.tokenizer))
    before = model(input_ids=torch.tensor([[3, 4, 5]])).logits
    add_completion_scores(model, tiny_world.items, "level")
    torch.testing.assert_close(model(input_ids=torch.tensor([[3, 4, 5]])).logits, before)


def kept_for_backward(model: Any, batch: dict[str, Tensor]) -> int:
    """Bytes of different tensors that a forward pass keeps for its backward pass."""
    sizes: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        found = model(**batch).log_probs
    assert found.requires_grad
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    return sum(size for place, size in sizes.items() if place not in weights)


def test_ten_negatives_keep_little_more_than_one(tiny_world: TinyWorld) -> None:
    model = make_tiny_model(len(tiny_world.items.tokenizer))
    prompt = list(range(5, 205))
    add_completion_scores(model, tiny_world.items, "level")

    def packed(negatives: int) -> int:
        codes = [tiny_world.items.encode(row) for row in range(1 + negatives)]
        return kept_for_backward(model, pack([(prompt, [Branches(len(prompt), codes)])], 0, 1 + negatives))

    def apart(negatives: int) -> int:
        rows = [(prompt, [Branches(len(prompt), [tiny_world.items.encode(row)])]) for row in range(1 + negatives)]
        return kept_for_backward(model, pack(rows, 0, 1))

    assert packed(10) < 1.5 * packed(1)
    assert apart(10) > 4 * apart(1)  # what it would be without sharing, so that the measure can tell
