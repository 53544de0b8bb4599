"""What a batch of a distillation asks of the student, against whole models and codes by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from circle import base_model, circle, make_task
from worlds import TinyWorld, make_tiny_model, make_titled_world

from llmrec.recommenders.llm import LLMRecommender
from llmrec.recommenders.pruning import keep_rows, pruned_task
from llmrec.tasks.next_item import NextItemTask
from llmrec.trainers.distill import _add_objective
from llmrec.trainers.distill_samples import NOWHERE, PadDistillation, distillation_dataset
from llmrec.trainers.item_rows import add_item_rows
from llmrec.trainers.objective import Losses, Objective, block_ends, final_norm
from llmrec.trainers.samples import IGNORED
from llmrec.trainers.teacher import Teacher
from llmrec.trainers.teacher_lists import Lists, with_lists

TAU = 1.5


def models(world: TinyWorld) -> tuple[LLMRecommender, Any, NextItemTask]:
    """A teacher of three layers; a student of two with other weights and a pruned vocabulary; the student's task."""
    task = make_task(world.catalog, world.items)
    teacher, student = (
        make_tiny_model(len(world.items.tokenizer), s, num_hidden_layers=n) for s, n in ((1, 3), (2, 2))
    )
    own, kept = pruned_task(task)
    keep_rows(student, kept)
    return LLMRecommender(teacher, task), student.eval(), own


def losses_of(world: TinyWorld, folder: Path, lists: bool, **changes: Any) -> tuple[dict[str, float], list[np.ndarray]]:
    """The sums of one batch of some users, and their histories."""
    teacher, student, own = models(world)
    losses = Losses(**{"labels": 1, "trie_kl": 1, "multi_level": 1, "block_features": 1, **changes})
    asked = Teacher(teacher.model, teacher.task.items, block_ends(3, 2))
    train = circle(world.catalog, users=6, length=9).train
    rows, theirs = (distillation_dataset(task, train, packing=True) for task in (own, teacher.task))
    if lists:
        rows = with_lists(rows, own, teacher, train, Lists(per_user=2, items=4), True, folder, False)
    kept = asked.kept_states(theirs, folder, 100, progress=False)
    batch = PadDistillation(0, kept, 4)([rows[number] for number in range(len(rows))])
    batch.pop("attention_mask")
    objective = Objective(
        losses.model_copy(update={"temperature": TAU}),
        own.items,
        own.items.trie,
        asked,
        final_norm(student),
        1.0,
        0.0,
        0.0,
    )
    _add_objective(student, objective, block_ends(2, 2))
    with torch.no_grad():
        sums = student(**batch, distilled=True).logits
    return dict(zip(objective.names, sums.tolist(), strict=True)), list(train.histories)


def said(model: Any, task: NextItemTask, history: np.ndarray) -> list[list[torch.Tensor]]:
    """Of each item of a history, level by level, the logits over the codebook, by a plain pass over the whole row."""
    (sample,) = task.packed(history)
    with torch.no_grad():
        logits = model(torch.tensor([sample.input_ids])).logits[0]
    at = [place for place, level in enumerate(sample.levels) if level >= 0]
    found = [logits[place - 1][task.items.codebooks[sample.levels[place]]] for place in at]
    levels = task.items.levels
    return [found[start : start + levels] for start in range(0, len(found), levels)]


@pytest.mark.parametrize("over", ["children", "codebook"])
@pytest.mark.parametrize("lists", [False, True])
def test_labels_and_trie_kl_are_those_of_whole_models(
    tiny_world: TinyWorld, tmp_path: Path, over: str, lists: bool
) -> None:
    """Whether or not lists branch off the rows."""
    found, histories = losses_of(tiny_world, tmp_path, lists, over=over)
    teacher, student, own = models(tiny_world)
    codes, labels, divergence = tiny_world.index.codes, 0.0, 0.0
    for history in histories:
        both = zip(history, said(teacher.model, teacher.task, history), said(student, own, history), strict=True)
        for item, theirs, ours in both:
            for level, code in enumerate(codes[item]):
                labels -= float(ours[level].log_softmax(-1)[code])
                alike = (codes[:, :level] == codes[item, :level]).all(1)
                real = np.unique(codes[alike, level]) if over == "children" else np.arange(len(ours[level]))
                p, q = ((each[level][real] / TAU).log_softmax(-1) for each in (theirs, ours))
                divergence += TAU**2 * float((p.exp() * (p - q)).sum())
    assert found["labels"] == pytest.approx(labels, rel=1e-4)
    assert found["trie_kl"] == pytest.approx(divergence, rel=2e-3)  # states are kept in float16


def test_ranking_is_that_of_the_recommenders_own_scores(tiny_world: TinyWorld, tmp_path: Path) -> None:
    found, histories = losses_of(tiny_world, tmp_path, True, ranking=1)
    teacher, student, own = models(tiny_world)
    asked = [history[: len(history) - back] for history in histories for back in range(2)]
    lists = teacher.recommend(asked, 4)
    scores = LLMRecommender(student, own).score(asked, lists.rows)
    log_p = torch.from_numpy(lists.scores).log_softmax(-1)
    expected = float((log_p.exp() * (log_p - torch.from_numpy(scores))).sum())
    assert found["ranking"] == pytest.approx(expected, rel=1e-4)


def test_a_student_that_is_its_teacher_has_nothing_to_learn_from_it(tiny_world: TinyWorld) -> None:
    teacher, _, _ = models(tiny_world)
    task, asked = teacher.task, Teacher(teacher.model, teacher.task.items, [1, 2, 3])
    losses = Losses(labels=0, trie_kl=1, block_features=1)
    rows = distillation_dataset(task, circle(tiny_world.catalog, users=4).train, packing=True)
    batch = PadDistillation(0)([rows[number] for number in range(len(rows))])
    states = asked.states(batch["input_ids"], batch["labels"])
    trained = batch["labels"][:, 1:] != IGNORED
    objective = Objective(losses, task.items, task.items.trie, asked, None, 1.0, 0.0, 0.0)
    sums = objective(teacher.model, states, batch["labels"][:, 1:][trained], batch["nodes"][:, 1:][trained], states)
    torch.testing.assert_close(sums, torch.zeros(2), atol=1e-3, rtol=0)


def test_nodes_are_the_prefixes_of_the_codes(tiny_world: TinyWorld) -> None:
    task, train = make_task(tiny_world.catalog, tiny_world.items), circle(tiny_world.catalog, users=5, length=20).train
    rows = distillation_dataset(task, train, packing=True)
    trie, codes, first = task.items.trie, tiny_world.index.codes, 0
    assert max(map(len, train.histories)) > task.max_history + 1  # some histories are cut into windows
    trained = 0
    for row in rows:
        assert row["first"] == first
        at = [place for place, label in enumerate(row["labels"]) if label != IGNORED]
        assert [place for place, node in enumerate(row["nodes"]) if node != NOWHERE] == at
        for start in range(0, len(at), task.items.levels):
            places = at[start : start + task.items.levels]
            (item,) = task.items.decode([row["labels"][place] for place in places])
            ways = [0, *trie.ways(torch.from_numpy(codes[item : item + 1]).long())[0, :-1].tolist()]
            assert [row["nodes"][place] for place in places] == ways
            trained += 1
        first += len(at)
    assert trained == len(train.item_rows)


def test_lists_are_found_once(tiny_world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, _, own = models(tiny_world)
    train = circle(tiny_world.catalog, users=6).train
    rows = distillation_dataset(own, train, packing=True)
    first = with_lists(rows, own, teacher, train, Lists(), True, tmp_path, False)
    monkeypatch.setattr(teacher, "recommend", lambda *_, **__: pytest.fail("asked again"))
    assert with_lists(rows, own, teacher, train, Lists(), True, tmp_path, False).to_dict() == first.to_dict()
    assert all(len(starts) == 1 for starts in first["starts"])


def test_blocks_end_with_the_last_layer() -> None:
    assert block_ends(12, 1) == [12]
    assert block_ends(12, 4) == [3, 6, 9, 12]
    assert block_ends(30, 4) == [8, 15, 22, 30]
    assert block_ends(2, 2) == [1, 2]


def test_titles_have_one_codebook(tmp_path: Path) -> None:
    world = make_titled_world(["red ball", "red bat", "blue ball", "ant"], tmp_path)
    task, model = make_task(world.catalog, world.items), base_model()
    add_item_rows(model, world.items, world.catalog, "text", 0)
    rows = distillation_dataset(task, circle(world.catalog, users=4).train, packing=True)
    batch = PadDistillation(0)([rows[0], rows[1]])
    asked = Teacher(model, world.items, [2])
    states, trained = asked.states(batch["input_ids"], batch["labels"]), batch["labels"][:, 1:] != IGNORED
    objective = Objective(Losses(over="children"), world.items, world.items.trie, asked, None, 1.0, 0.0, 0.0)
    sums = objective(model, states, batch["labels"][:, 1:][trained], batch["nodes"][:, 1:][trained], states)
    assert sums[0] > 0
    assert sums[1].item() == pytest.approx(0, abs=1e-4)
