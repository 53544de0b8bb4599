"""Distillation on a toy world whose answer is known."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from circle import QUICK, base_model, circle, make_task
from worlds import TinyWorld, make_tiny_model, make_tiny_tokenizer

from llmrec.errors import RecipeError
from llmrec.evaluation.protocol import evaluate
from llmrec.recommenders.llm import LLMRecommender
from llmrec.trainers.distill import Distill
from llmrec.trainers.sft import SFT
from llmrec.trainers.student import Student
from llmrec.trainers.teacher import Teacher

SHORT = {**QUICK, "num_train_epochs": 3}


@pytest.fixture(scope="module")
def teacher(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> LLMRecommender:
    """Four layers that know the circle."""
    split, work = circle(tiny_world.catalog), tmp_path_factory.mktemp("teacher")
    model, task = base_model(num_hidden_layers=4), make_task(tiny_world.catalog, tiny_world.items)
    return SFT(args=QUICK).train(model, task, split.train, split.valid, work, seed=0)[0]


def distil(teacher: LLMRecommender, folder: Path, **settings: Any) -> tuple[LLMRecommender, dict[str, Any]]:
    split = circle(teacher.catalog)
    distill = Distill.parse({"args": SHORT, **settings}, "distill")
    return distill.train(teacher, split.train, split.valid, folder, seed=0)


@pytest.mark.parametrize(
    "settings",
    [
        {"losses": {"labels": 0}},
        {"losses": {"labels": 0, "over": "children", "temperature": 2.0}},
        {"losses": {"block_features": 1.0, "multi_level": 0.5}, "student": {"layers": 2, "choose": "even"}},
        {"losses": {"block_features": 1.0}, "student": {"layers": 3}, "blocks": 2, "batch_tokens": 300},
        {"keep_states": False, "packing": False},
        {"tuning": "lora", "lora": {"r": 8}, "args": {**SHORT, "learning_rate": 1e-2}},
        {"losses": {"trie_kl": 0, "labels": 1}},
        {"losses": {"trie_kl": 0, "labels": 0, "ranking": 1.0}, "lists": {"per_user": 4, "items": 5}},
    ],
    ids=["kl", "children", "blocks", "unequal", "beside", "lora", "alone", "lists"],
)
def test_a_student_learns_the_circle(teacher: LLMRecommender, tmp_path: Path, settings: dict[str, Any]) -> None:
    student, log = distil(teacher, tmp_path, **{"student": {"layers": 1}, **settings})
    found = evaluate(student, circle(teacher.catalog).test, progress=False)
    assert found.metrics["hr@5"] > 0.6  # about 0.4 by chance
    assert (found.invalid, found.duplicates, found.excluded_returned) == (0, 0, 0)
    assert len(student.model.get_decoder().layers) == settings.get("student", {"layers": 1})["layers"]
    assert log["parameters"]["student"] == student.model.num_parameters() < log["parameters"]["teacher"]
    wanted = Distill.parse(settings, "distill").losses.wanted
    assert all(name in log["history"][0] for name in wanted)


def test_the_teacher_stays_as_it_is(teacher: LLMRecommender, tmp_path: Path) -> None:
    before, answers = copy.deepcopy(teacher.model.state_dict()), teacher.recommend([[3]], 5)
    distil(teacher, tmp_path, student={"layers": 2}, losses={"block_features": 1.0})
    after = teacher.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert (teacher.recommend([[3]], 5).rows == answers.rows).all()


def test_every_layer_learns_also_from_a_teacher_that_has_taught_before(teacher: LLMRecommender, tmp_path: Path) -> None:
    for turn in range(2):
        student, _ = distil(teacher, tmp_path / str(turn), student={"layers": 2})
        layers = zip(student.model.get_decoder().layers, teacher.model.get_decoder().layers, strict=False)
        for own, theirs in layers:
            assert not torch.equal(own.mlp.up_proj.weight, theirs.mlp.up_proj.weight)
            assert not torch.equal(own.self_attn.q_proj.weight, theirs.self_attn.q_proj.weight)


def test_kept_states_and_a_teacher_beside_give_the_same_student(teacher: LLMRecommender, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"student": {"layers": 1}, "losses": {"block_features": 0.5}, "blocks": 1}
    students = [
        distil(teacher, tmp_path / str(kept), **settings, keep_states=kept)[0].model.state_dict()
        for kept in (True, False)
    ]
    for name, weight in students[0].items():
        torch.testing.assert_close(weight, students[1][name], atol=2e-3, rtol=2e-3)  # float16 on the disk


def test_states_are_found_again_by_content(
    teacher: LLMRecommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split, states = circle(teacher.catalog), tmp_path / "states"
    asked: list[int] = []
    states_of = Teacher.states

    def counting(self: Teacher, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        asked.append(len(ids))
        return states_of(self, ids, labels)

    monkeypatch.setattr(Teacher, "states", counting)

    def run(name: str, who: LLMRecommender, layers: int) -> int:
        asked.clear()
        distill = Distill.parse({"args": {**SHORT, "num_train_epochs": 1}, "student": {"layers": layers}}, "distill")
        distill.train(who, split.train, split.valid, tmp_path / name, seed=0, states=states)
        return sum(asked)

    rows = len(split.train.users)
    assert run("first", teacher, 1) == rows
    assert run("second", teacher, 2) == 0  # another student
    changed = LLMRecommender(copy.deepcopy(teacher.model), teacher.task, teacher.decoding)
    with torch.no_grad():
        changed.model.get_decoder().layers[3].mlp.up_proj.weight[0, 0] += 1
    assert run("third", changed, 1) == rows
    assert len(list(states.glob("*.npy"))) == 2
    assert not list(states.glob(".*"))


def test_another_model_learns_in_its_own_tokens(teacher: LLMRecommender, tmp_path: Path) -> None:
    """With another width and another tokenizer; states are compared through matrices that are not kept."""
    folder, tokenizer = tmp_path / "base", make_tiny_tokenizer()
    tokenizer.add_tokens(["taken", "order"])
    tokenizer.save_pretrained(folder)
    make_tiny_model(len(tokenizer), hidden_size=16, initializer_range=0.05).save_pretrained(folder)
    settings: dict[str, Any] = {
        "student": {"model": str(folder)},
        "losses": {"block_features": 0.1, "multi_level": 0.1},
    }
    student, _ = distil(teacher, tmp_path / "work", **settings, args={**QUICK, "num_train_epochs": 8})
    assert student.task.items.token_ids[0] != teacher.task.items.token_ids[0]
    assert evaluate(student, circle(teacher.catalog).test, progress=False).metrics["hr@5"] > 0.6
    student.save_pretrained(tmp_path / "student")
    again = LLMRecommender.from_pretrained(tmp_path / "student", device="cpu")
    assert again.model.state_dict().keys() == student.model.state_dict().keys()
    assert not any("projection" in name for name in again.model.state_dict())
    assert (again.recommend([[3]], 5).rows == student.recommend([[3]], 5).rows).all()
    with pytest.raises(RecipeError, match="tuning: full"):
        distil(teacher, tmp_path / "lora", **settings, tuning="lora")


@pytest.mark.parametrize("choose", ["first", "even"])
def test_a_student_without_training_is_the_cut_teacher(teacher: LLMRecommender, choose: str) -> None:
    student, task = Student(layers=2, choose=choose).make(teacher.model, teacher.task, 0)
    kept = {"first": [0, 1], "even": [0, 3]}[choose]
    whole = copy.deepcopy(teacher.model)
    layers = whole.get_decoder().layers
    whole.get_decoder().layers = torch.nn.ModuleList(layers[number] for number in kept)
    whole.config.num_hidden_layers = 2
    for place, layer in enumerate(whole.get_decoder().layers):
        layer.self_attn.layer_idx = place
    expected = LLMRecommender(whole, teacher.task, teacher.decoding).recommend([[1, 2], []], 5)
    found = LLMRecommender(student, task, teacher.decoding).recommend([[1, 2], []], 5)
    assert (found.rows == expected.rows).all()
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_a_killed_run_continues_to_the_same_weights(teacher: LLMRecommender, tmp_path: Path, tuning: str) -> None:
    settings = {"student": {"layers": 2}, "losses": {"block_features": 0.1}, "dropout": 0.1, "tuning": tuning}

    def weights(folder: Path) -> dict[str, torch.Tensor]:
        return copy.deepcopy(distil(teacher, folder, **settings)[0].model.state_dict())

    whole = weights(tmp_path / "whole")
    weights(tmp_path / "cut")
    checkpoints = sorted((tmp_path / "cut").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    assert len(checkpoints) == 2
    (checkpoints[-1] / "trainer_state.json").unlink()  # as if killed while the last one was being written
    again = weights(tmp_path / "cut")
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_settings_that_cannot_be(teacher: LLMRecommender, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"student\.layers is 5; this model has 1 to 4"):
        distil(teacher, tmp_path, student={"layers": 5})
    with pytest.raises(RecipeError, match="blocks is 3; the smaller model has 2"):
        distil(teacher, tmp_path, student={"layers": 2}, blocks=3, losses={"block_features": 1})
    with pytest.raises(RecipeError, match="nothing would be learned"):
        Distill.parse({"losses": {"labels": 0, "trie_kl": 0}}, "distill")
    with pytest.raises(RecipeError, match="Did you mean 'trie_kl'"):
        Distill.parse({"losses": {"trie_k": 1}}, "distill")
