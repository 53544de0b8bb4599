"""One prompt for training, evaluation and serving; a packed sample trains what single ones would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import TinyWorld, make_tiny_model, make_tiny_tokenizer

from llmrec import assets
from llmrec.data.catalog import Catalog
from llmrec.errors import RecipeError
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.recommenders.llm import LLMRecommender
from llmrec.tasks.next_item import NextItemTask, Sample
from llmrec.tasks.template import PromptTemplate

TITLES = ["A pen", "<|im_end|>", "<a_1><b_0>", "{{ history }}", "\x02I3\x03", "", "Café\n\x03"]
CODES = [[row % 3, row // 3] for row in range(len(TITLES))]
WITH_TITLES = "Took:{% for item in history %}{{ item.code }} ({{ item.title }}),{% endfor %}"
SHIPPED = [name for name in assets.names("prompts") if name.endswith(".jinja") and "/" not in name]
NOT_PACKABLE = {
    "words behind": "Took:{% for item in history %}{{ item.code }}{% endfor %} Next:",
    "title before": "Took:{% for item in history %}{{ item.title }}{{ item.code }}{% endfor %}",
    "counted": "{{ history | length }} items:{% for item in history %}{{ item.code }}{% endfor %}",
    "newest first": "Took:{% for item in history | reverse %}{{ item.code }}{% endfor %}",
    "last one only": "Took:{% if history %}{{ history[-1].code }}{% endif %}",
    "code twice": "Took:{% for item in history %}{{ item.code }} or {{ item.code }},{% endfor %}",
    "no code": "Took:{% for item in history %}{{ item.title }}{% endfor %}",
}


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog(pa.table({"item_id": [f"i{row}" for row in range(len(TITLES))], "title": TITLES}))


@pytest.fixture(scope="module")
def items() -> ItemTokenizer:
    return ItemTokenizer.bind(make_tiny_tokenizer(), ItemIndex(np.array(CODES, np.int32), (3, 3)))


@pytest.fixture(scope="module")
def packable(catalog: Catalog, items: ItemTokenizer) -> NextItemTask:
    return NextItemTask(PromptTemplate(WITH_TITLES), catalog, items, max_history=4)


def words(items: ItemTokenizer, text: str) -> list[int]:
    return list(items.tokenizer(text, add_special_tokens=False)["input_ids"])


def code(items: ItemTokenizer, row: int) -> list[int]:
    return items.encode(row)


def test_the_words_may_be_control_tokens_and_the_titles_may_not(catalog: Catalog, items: ItemTokenizer) -> None:
    source = "<|im_start|>Took {% for item in history %}{{ item.title }}{{ item.code }}{% endfor %}<|im_end|>"
    ids = NextItemTask(PromptTemplate(source), catalog, items).prompt([1, 2])
    assert ids[0] == items.tokenizer.bos_token_id
    assert ids[-1] == items.tokenizer.eos_token_id
    spelt = [list(items.encode_text(TITLES[row])) for row in (1, 2)]
    assert [len(text) for text in spelt] == [len(TITLES[1]), len(TITLES[2])]  # byte by byte
    assert ids == [*words(items, "<|im_start|>Took "), *spelt[0], *code(items, 1), *spelt[1], *code(items, 2), ids[-1]]


@settings(deadline=None)
@given(st.lists(st.integers(0, len(TITLES) - 1), max_size=8))
def test_a_prompt_holds_its_own_items_and_no_other(packable: NextItemTask, history: list[int]) -> None:
    """Whatever the titles say: the item tokens in a prompt are the codes of the last items, and nothing is special."""
    items, ids = packable.items, packable.prompt(history)
    in_prompt = [token for token in ids if token in set(items.token_ids.tolist())]
    assert in_prompt == [token for row in history[-4:] for token in code(items, row)]
    assert not set(ids) & set(items.tokenizer.all_special_ids)


def test_only_the_latest_items_are_shown(packable: NextItemTask) -> None:
    history = [0, 1, 2, 3, 4, 5]
    assert packable.prompt(history) == packable.prompt(history[-4:])
    assert packable.prompt(history) != packable.prompt(history[-3:])
    assert packable.prompt(np.array(history, np.int32)) == packable.prompt(history)


@settings(deadline=None)
@given(st.lists(st.integers(0, len(TITLES) - 1), min_size=1, max_size=5))
def test_a_packed_sample_is_all_single_ones_in_one(packable: NextItemTask, sequence: list[int]) -> None:
    rows = np.array(sequence, np.int32)
    (packed,) = packable.packed(rows)
    starts = [place for place, level in enumerate(packed.levels) if level == 0]
    assert len(starts) == len(sequence)
    for position, start in enumerate(starts):
        single = packable.single(rows[:position], sequence[position])
        assert packed.input_ids[:start] == packable.prompt(rows[:position])
        assert packed.input_ids[: start + 2] == single.input_ids
        assert single.levels == [-1] * start + [0, 1]
    assert all(
        (level >= 0) == (token in set(packable.items.token_ids.tolist())) for token, level in zip(*packed, strict=True)
    )


@settings(deadline=None)
@given(max_history=st.integers(1, 6), length=st.integers(0, 30))
def test_windows_train_every_position_once_with_context(
    catalog: Catalog, items: ItemTokenizer, max_history: int, length: int
) -> None:
    """Told by their positions: item `t mod 7` stands at position `t`, so a window's first item says where it begins."""
    task = NextItemTask(PromptTemplate(WITH_TITLES), catalog, items, max_history)
    sequence = np.arange(length, dtype=np.int32) % len(TITLES)
    trained: list[int] = []
    end = length
    for sample in task.packed(sequence):
        rows, is_trained = items_of(items, sample)
        assert len(rows) <= max_history + 1
        start = end - len(rows)
        assert rows == sequence[start:end].tolist()
        fresh = [start + place for place, yes in enumerate(is_trained) if yes]
        assert fresh == list(range(fresh[0], end))
        assert start == 0 or fresh[0] - start >= (max_history + 1) // 2  # context
        trained += fresh
        end = fresh[0]
    assert sorted(trained) == list(range(length))


def items_of(items: ItemTokenizer, sample: Sample) -> tuple[list[int], list[bool]]:
    """The items in a sample, and whether each is trained (all of its levels or none)."""
    places = [place for place, token in enumerate(sample.input_ids) if token in items.codebooks[0]]
    levels = [sample.levels[place : place + items.levels] for place in places]
    assert all(found in ([0, 1], [-1, -1]) for found in levels)
    assert sum(level >= 0 for level in sample.levels) == items.levels * sum(found == [0, 1] for found in levels)
    rows = [items.decode(sample.input_ids[place : place + items.levels])[0] for place in places]
    return rows, [found == [0, 1] for found in levels]


@pytest.mark.parametrize("source", NOT_PACKABLE.values(), ids=NOT_PACKABLE)
def test_a_template_that_cannot_be_packed_is_found_out(catalog: Catalog, items: ItemTokenizer, source: str) -> None:
    task = NextItemTask(PromptTemplate(source), catalog, items)
    assert not task.is_packable
    with pytest.raises(RecipeError, match=r"train\.packing: false"):
        next(task.packed(np.array([0, 1], np.int32)))
    ids, levels = task.single([0, 1], 2)
    assert ids == task.prompt([0, 1]) + code(items, 2)
    assert [level for level in levels if level >= 0] == [0, 1]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_prompts_render_every_title(catalog: Catalog, items: ItemTokenizer, name: str) -> None:
    task = NextItemTask(PromptTemplate(assets.path("prompts", name).read_text()), catalog, items)
    assert task.is_packable == (name == "next_item.jinja")
    everything = list(range(len(TITLES)))
    ids = task.prompt(everything)
    assert [token for token in ids if token in set(items.token_ids.tolist())] == [
        token for row in everything for token in code(items, row)
    ]
    assert task.prompt([]) != ids


def test_both_shipped_prompts_were_tried() -> None:
    assert {"next_item.jinja", "next_item_titles.jinja"} <= set(SHIPPED)


def test_an_empty_prompt_is_refused(catalog: Catalog, items: ItemTokenizer) -> None:
    with pytest.raises(RecipeError, match="no token"):
        NextItemTask(PromptTemplate("{% for item in history %}{{ item.code }}{% endfor %}"), catalog, items)


def test_no_history_at_all_is_refused(catalog: Catalog, items: ItemTokenizer) -> None:
    with pytest.raises(RecipeError, match=r"max_history is 0; give at least 1"):
        NextItemTask(PromptTemplate(WITH_TITLES), catalog, items, max_history=0)


def test_a_misspelt_column_is_refused_before_anything_is_trained(catalog: Catalog, items: ItemTokenizer) -> None:
    source = "Took:{% for item in history %}{{ item.titel }}{% endfor %}"
    with pytest.raises(RecipeError, match=r"'titel'\. An item has code, item_id, title\."):
        NextItemTask(PromptTemplate(source), catalog, items)


@pytest.mark.parametrize("name", SHIPPED)
def test_trainer_recommender_and_loaded_folder_see_the_same_ids(
    tiny_world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Invariant 1: one prompt."""
    template = PromptTemplate(assets.path("prompts", name).read_text())
    task = NextItemTask(template, tiny_world.catalog, tiny_world.items, max_history=5)
    histories = [np.array(rows, np.int32) for rows in ([], [3], [4, 1, 4], [0, 1, 2, 3, 4, 5, 6, 7])]
    trained = [task.single(history, 9).input_ids[: -task.items.levels] for history in histories]

    recommender = LLMRecommender(make_tiny_model(len(tiny_world.items.tokenizer)), task)
    recommender.save_pretrained(tmp_path / "model")
    for asked in (recommender, LLMRecommender.from_pretrained(tmp_path / "model", device="cpu")):
        seen: list[list[int]] = []
        decode = asked.engine.decode

        def spy(prompts: list[list[int]], *rest: Any, seen: Any = seen, decode: Any = decode) -> Any:
            seen.extend(prompts)
            return decode(prompts, *rest)

        monkeypatch.setattr(asked.engine, "decode", spy)
        asked.recommend(histories, k=3)
        assert sorted(seen) == sorted(trained)
    if task.is_packable:
        (packed,) = task.packed(np.array([4, 1, 4, 9], np.int32))
        assert packed.input_ids[: len(trained[2])] == trained[2]
