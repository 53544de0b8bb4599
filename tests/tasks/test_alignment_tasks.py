"""Tasks in plain language: what they ask, in which words, and what is trained of the answer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from circle import circle, make_task
from loading import module_from
from worlds import TinyWorld

from llmrec import assets
from llmrec.data.catalog import Catalog
from llmrec.data.split import Split
from llmrec.errors import DataError, LlmrecError, RecipeError
from llmrec.registry import REGISTRY, build
from llmrec.tasks.alignment.base import TEXT
from llmrec.tasks.next_item import NextItemTask, Sample
from llmrec.trainers.samples import IGNORED, training_dataset
from llmrec.trainers.sft import SFT

World = tuple[NextItemTask, Split]


@pytest.fixture(scope="module")
def world(tiny_world: TinyWorld) -> World:
    count = len(tiny_world.catalog)
    columns = {
        "item_id": tiny_world.catalog.items.ids,
        "title": [f"Title {row}" for row in range(count)],
        "description": [f"About {row}" if row % 2 else None for row in range(count)],
        "category": [["things", "odd"] if row % 2 else [] for row in range(count)],
    }
    catalog = Catalog(pa.table(columns))
    return make_task(catalog, tiny_world.items), circle(catalog)


def samples(world: World, count: int = 100, **settings: Any) -> list[Sample]:
    task, split = world
    return list(build("task", settings, "train.tasks").samples(task, split.train, count, 7))


def parts(world: World, sample: Sample) -> tuple[str, list[int]]:
    """The prompt as text, and the trained token ids."""
    prompt = [token for token, level in zip(*sample, strict=True) if level < 0]
    return world[0].items.tokenizer.decode(prompt), [t for t, level in zip(*sample, strict=True) if level >= 0]


def test_the_item_of_a_title_is_asked_for(world: World) -> None:
    task = world[0]
    for sample in samples(world, kind="title_to_item", weight=1):
        prompt, answer = parts(world, sample)
        (row,) = [row for row in range(len(task.catalog)) if answer == task.items.encode(row)]
        assert [level for level in sample.levels if level >= 0] == list(range(len(answer)))
        assert re.search(rf"Title {row}\b", prompt)


def test_the_title_of_an_item_is_written_to_its_end(world: World) -> None:
    tokenizer = world[0].items.tokenizer
    for sample in samples(world, kind="item_to_title", weight=0.3):
        prompt, answer = parts(world, sample)
        *words, end = answer
        assert end == tokenizer.eos_token_id
        row = int(tokenizer.decode(words).removeprefix("Title "))
        assert tokenizer.decode(world[0].items.encode(row)) in prompt
        assert {level for level in sample.levels if level >= 0} == {TEXT}


@pytest.mark.parametrize(("kind", "text"), [("description_to_item", "About"), ("item_to_category", "things, odd")])
def test_items_without_the_text_are_not_asked_about(world: World, kind: str, text: str) -> None:
    found = samples(world, kind=kind, weight=1)
    assert len(found) == 100
    whole = [world[0].items.tokenizer.decode(sample.input_ids) for sample in found]
    assert all(text in each for each in whole)


def test_requests_are_words_of_an_item_in_their_order(world: World) -> None:
    task, split = world
    made = build("task", {"kind": "request_to_item", "weight": 3, "most_words": 2, "whole": 0.0})
    said = {row: task.catalog.record(row) for row in range(len(task.catalog))}
    asked, first, again = set(), list(made.samples(task, split.train, 100, 7)), made.samples(task, split.train, 100, 7)
    assert first == list(again)
    assert len(first) == 300
    for sample in first:
        prompt, answer = parts(world, sample)
        (row,) = [row for row in range(len(task.catalog)) if answer == task.items.encode(row)]
        request = re.fullmatch(r'A person asks for: (.+)\nItem: |Which item fits "(.+)"\?\nItem: ', prompt)
        assert request is not None
        words = (request[1] or request[2]).split()
        texts = [said[row]["title"], said[row]["description"] or "", ", ".join(said[row]["category"])]
        in_order = [text for text in texts if words in ([w] for w in text.split()) or words == text.split()]
        assert in_order, (row, words)
        asked.add((row, *words))
    assert len(asked) > 3 * len(task.catalog)
    assert {len(words) for _, *words in asked} == {1, 2}


def test_a_share_of_the_requests_is_whole(world: World) -> None:
    whole = samples(world, kind="request_to_item", weight=1, whole=1.0, columns=["description"], longest=8)
    assert {re.split(': |"', parts(world, sample)[0].splitlines()[0])[1][:6] for sample in whole} == {"About "}


def test_a_changed_wording_is_another_training(tmp_path: Any) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text("Seek {% for item in history %}{{ item.title }}{% endfor %}: ")
    sft = SFT(tasks=[{"kind": "item_to_title"}, {"kind": "title_to_item", "phrasings": [str(file)]}])
    before = sft.fingerprint()
    assert before == sft.fingerprint() != SFT().fingerprint() == ""
    file.write_text("Find {% for item in history %}{{ item.title }}{% endfor %}: ")
    assert sft.fingerprint() != before


def test_histories_in_titles_end_before_what_is_asked_for(world: World) -> None:
    task, split = world
    events = {
        (tuple(split.train.history(user)[max(0, at - 3) : at].tolist()), int(split.train.history(user)[at]))
        for user in range(len(split.train.users))
        for at in range(1, len(split.train.history(user)))
    }
    asked = build("task", {"kind": "titles_to_item", "shown": 3}).questions(task, split.train)
    assert {(tuple(question.shown.tolist()), question.answer) for question in asked} == events
    assert all(isinstance(question.answer, int) for question in asked)


def test_every_question_comes_before_any_comes_again(world: World) -> None:
    count = len(world[0].catalog)
    answers = [
        tuple(parts(world, sample)[1]) for sample in samples(world, count=2 * count, kind="title_to_item", weight=1)
    ]
    assert len(set(answers[:count])) == len(set(answers[count:])) == count


def test_the_seed_decides_and_all_phrasings_are_used(world: World) -> None:
    task, split = world
    made = build("task", {"kind": "title_to_item", "weight": 1})
    first, again, other = (list(made.samples(task, split.train, 100, seed)) for seed in (1, 1, 2))
    assert first == again != other
    beginnings = {parts(world, sample)[0][:5] for sample in first}
    assert len(beginnings) == len(made.wordings()) >= 2


def test_own_phrasings(world: World, tmp_path: Any) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text("Seek {% for item in history %}{{ item.title }}{% endfor %}: ")
    names = [str(file), "alignment/title_to_item/1"]
    starts = {parts(world, sample)[0][:4] for sample in samples(world, kind="title_to_item", weight=1, phrasings=names)}
    assert starts == {"Seek", "Whic"}
    with pytest.raises(LlmrecError, match="Did you mean 'alignment/title_to_item"):
        samples(world, kind="title_to_item", phrasings=["alignment/title_to_itm/1"])


def test_samples_stand_behind_those_of_the_next_item(world: World) -> None:
    task, split = world
    plain = training_dataset(task, split.train, True)
    beside = [build("task", {"kind": kind, "weight": 0.5}) for kind in ("title_to_item", "item_to_title")]
    mixed = training_dataset(task, split.train, True, None, beside, 3)
    assert len(mixed) == 2 * len(plain)
    assert mixed.select(range(len(plain)))["input_ids"] == plain["input_ids"]
    for row in mixed.select(range(len(plain), len(mixed))):
        trained = [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label != IGNORED]
        assert trained
        assert row["input_ids"][-len(trained) :] == trained  # the question itself is not learned


@pytest.mark.parametrize("kind", list(REGISTRY["task"]))
def test_every_task_has_several_phrasings(kind: str) -> None:
    shipped = [name for name in assets.names("prompts") if name.startswith(f"alignment/{kind}/")]
    assert len(shipped) >= 2


def test_what_cannot_be_asked_is_told(world: World) -> None:
    with pytest.raises(DataError, match="no column 'brand'; it has item_id, title, description, category"):
        samples(world, kind="item_to_category", column="brand")
    with pytest.raises(RecipeError, match=r"no task 'title_to_itm'\. Did you mean 'title_to_item'"):
        samples(world, kind="title_to_itm")
    task, split = world
    blank = Catalog(task.catalog.table.set_column(1, "title", pa.array([""] * len(task.catalog))))
    nothing = NextItemTask(task.template, blank, task.items, 10)
    with pytest.raises(DataError, match="title_to_item has nothing to ask"):
        list(build("task", {"kind": "title_to_item"}).samples(nothing, split.train, 10, 0))


def test_rows_are_as_the_catalog_counts_them(world: World) -> None:
    asked = build("task", {"kind": "title_to_item"}).questions(world[0], world[1].train)
    assert [question.answer for question in asked] == list(range(len(world[0].catalog)))
    assert all(isinstance(question.shown, np.ndarray) for question in asked)


def test_the_page_of_prompts_shows_them_as_they_are() -> None:
    root = Path(__file__).resolve().parent.parent.parent
    tool = module_from(root / "tools" / "prompts_readme.py")
    page = (root / "prompts" / "README.md").read_text()
    assert page == tool.readme(), "run python tools/prompts_readme.py"
    shipped = [name.removesuffix(".jinja") for name in assets.names("prompts") if name.endswith(".jinja")]
    assert all(f"`{name}`" in page for name in shipped)
