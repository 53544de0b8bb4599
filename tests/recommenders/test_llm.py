"""A language model keeps the contract of a recommender, and its folder is refused when a part of it was changed."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from brute_force import brute_force
from contracts.recommender_contract import ITEMS, RecommenderContract, ToyWorld
from fake_vllm import OneStep, patch_one_step
from safetensors.numpy import save_file
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from worlds import TinyWorld, make_tiny_model, make_tiny_tokenizer, make_tiny_world

from llmrec.engines.lists import decode_lists
from llmrec.engines.transformers import TransformersEngine
from llmrec.engines.vllm import VLLMEngine
from llmrec.errors import ArtifactError, DataError, DecodingError, RecipeError
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.indexes.provenance import items_digest
from llmrec.recommenders.base import Recommender
from llmrec.recommenders.llm import Decoding, LLMRecommender
from llmrec.tasks.next_item import NextItemTask
from llmrec.tasks.template import PromptTemplate
from llmrec.trainers.sft import SFT
from llmrec.types import Ragged

TEMPLATE = "Items:\r\n{% for item in history %}{{ item.code }}{% endfor %}"
SAMPLING = {"do_sample": True, "top_k": 20, "top_p": 0.8, "temperature": 0.6, "repetition_penalty": 1.1}
HISTORIES = [np.array(rows, np.int32) for rows in ([3], [], [4, 1, 4], [0, 1, 2, 3, 4, 5, 6, 7], [9, 8], [5], [5, 6])]


class TestLLMContract(RecommenderContract):
    tolerance = 1e-4  # nats, float32: another batch shape adds in another order

    @classmethod
    def make(cls, world: ToyWorld) -> Recommender:
        codes = np.stack(np.unravel_index(np.random.default_rng(0).permutation(24)[:ITEMS], (4, 6)), axis=1)
        items = ItemTokenizer.bind(make_tiny_tokenizer(), ItemIndex(codes.astype(np.int32), (4, 6)))
        task = NextItemTask(PromptTemplate(TEMPLATE), world.catalog, items, max_history=4)
        quick = {"use_cpu": True, "bf16": False, "disable_tqdm": True, "gradient_checkpointing": False}
        sft = SFT(args={**quick, "num_train_epochs": 2, "learning_rate": 1e-3, "eval_strategy": "no"})
        with tempfile.TemporaryDirectory() as work:
            return sft.train(
                make_tiny_model(len(make_tiny_tokenizer())), task, world.split.train, world.split.valid, Path(work),
                seed=0, decoding=Decoding(beams=ITEMS, batch_size=5),
            )[0]  # fmt: skip


def make_recommender(world: TinyWorld, **decoding: object) -> LLMRecommender:
    provenance = {"items": items_digest(world.catalog.items)}
    index = ItemIndex(world.index.codes, world.index.level_sizes, provenance)
    items = ItemTokenizer.bind(make_tiny_tokenizer(), index)
    task = NextItemTask(PromptTemplate(TEMPLATE), world.catalog, items, max_history=7)
    return LLMRecommender(make_tiny_model(len(items.tokenizer)), task, Decoding.parse(decoding))


@pytest.fixture(scope="module")
def saved(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to read or to copy, saved from a model whose base has sampling defaults."""
    recommender = make_recommender(tiny_world, beams=7, normalize="children", batch_size=3)
    recommender.model.generation_config = GenerationConfig(**SAMPLING, eos_token_id=0)
    folder = tmp_path_factory.mktemp("saved") / "model"
    recommender.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def test_how_users_are_grouped_makes_no_difference(tiny_world: TinyWorld) -> None:
    whole = make_recommender(tiny_world, beams=20).recommend(HISTORIES, k=5)
    for size in (1, 2, 3):
        found = make_recommender(tiny_world, beams=20, batch_size=size).recommend(HISTORIES, k=5)
        np.testing.assert_array_equal(found.rows, whole.rows)
        np.testing.assert_allclose(found.scores, whole.scores, atol=1e-4)


def test_only_the_latest_items_count_but_all_are_left_out(tiny_world: TinyWorld) -> None:
    recommender = make_recommender(tiny_world, beams=20)
    longer = np.array([15, 16, *range(7)], np.int32)
    both = recommender.recommend([longer, longer[2:]], k=20)
    rest = [row for row in both.rows[1].tolist() if row not in (15, 16)]
    assert [row for row in both.rows[0].tolist() if row >= 0] == [row for row in rest if row >= 0]


def test_beams_that_hold_everything_say_so(tiny_world: TinyWorld) -> None:
    assert make_recommender(tiny_world, beams=20).recommend(HISTORIES, k=20).exact.all()
    assert not make_recommender(tiny_world, beams=1).recommend(HISTORIES, k=1).exact.all()


def test_a_folder_keeps_how_it_is_decoded(saved: Path) -> None:
    loaded = LLMRecommender.from_pretrained(saved, device="cpu")
    assert loaded.decoding == Decoding(beams=7, normalize="children", batch_size=3)
    assert loaded.task.max_history == 7
    assert loaded.task.template.source == TEMPLATE


def test_the_base_model_s_sampling_never_reaches_the_folder(saved: Path) -> None:
    written = json.loads((saved / "generation_config.json").read_text())
    tokenizer = make_tiny_tokenizer()
    assert (written["eos_token_id"], written["pad_token_id"]) == (tokenizer.eos_token_id, tokenizer.pad_token_id)
    neutral = GenerationConfig()
    read = AutoModelForCausalLM.from_pretrained(saved).generation_config
    for name in SAMPLING:
        assert name not in written
        assert name not in json.loads((saved / "config.json").read_text())
        assert getattr(read, name) == getattr(neutral, name)


def test_sampling_settings_that_transformers_refuses_to_save_do_not_matter(
    tiny_world: TinyWorld, tmp_path: Path
) -> None:
    """Some models on the Hub ship a temperature without do_sample."""
    recommender = make_recommender(tiny_world)
    recommender.model.generation_config = GenerationConfig()
    recommender.model.generation_config.temperature = 0.6
    recommender.save_pretrained(tmp_path / "model")
    assert "temperature" not in (tmp_path / "model" / "generation_config.json").read_text()


def test_a_folder_holds_weights_as_safetensors_and_the_rest_as_text_or_parquet(saved: Path) -> None:
    files = {path.relative_to(saved).as_posix() for path in saved.rglob("*") if path.is_file()}
    assert files >= {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json",
        "recommender.json", "prompt.jinja", "catalog.parquet", "item_index/codes.safetensors", "item_index/index.json",
        "handler.py",
    }  # fmt: skip
    assert {Path(name).suffix for name in files} == {".json", ".safetensors", ".jinja", ".parquet", ".py"}


def test_transformers_reads_the_folder_without_llmrec(saved: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(saved), AutoTokenizer.from_pretrained(saved)
    recommender = LLMRecommender.from_pretrained(saved, device="cpu")
    ids = recommender.task.prompt([3, 4])
    assert tokenizer("Items:\n" + "".join(map(recommender.task.items.tokens, [3, 4])))["input_ids"] == ids
    with torch.inference_mode():
        logits = [m(torch.tensor([ids])).logits for m in (model, recommender.model)]
    torch.testing.assert_close(*logits)


def test_weights_in_a_pickle_are_refused(folder: Path) -> None:
    """Without code of theirs being asked for: transformers would read them where no safetensors are."""
    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ArtifactError, match="safetensors"):
        LLMRecommender.from_pretrained(folder)


def another_prompt(folder: Path) -> None:
    (folder / "prompt.jinja").write_bytes(TEMPLATE.replace("Items", "items").encode())


def another_line_end(folder: Path) -> None:
    (folder / "prompt.jinja").write_bytes(TEMPLATE.replace("\r\n", "\n").encode())


def another_index(folder: Path) -> None:
    index = ItemIndex.load(folder / "item_index")
    ItemIndex(index.codes[::-1].copy(), index.level_sizes, index.provenance).save(folder / "item_index")


def tampered_codes(folder: Path) -> None:
    index = ItemIndex.load(folder / "item_index")
    save_file({"codes": index.codes[::-1].copy()}, folder / "item_index" / "codes.safetensors")


def other_catalog(folder: Path) -> None:
    table = pq.read_table(folder / "catalog.parquet")
    pq.write_table(table.take(pa.array(range(len(table) - 1, -1, -1))), folder / "catalog.parquet")


def shorter_catalog(folder: Path) -> None:
    pq.write_table(pq.read_table(folder / "catalog.parquet").slice(1), folder / "catalog.parquet")


def another_tokenizer(folder: Path) -> None:
    make_tiny_tokenizer().save_pretrained(folder)


def another_kind(folder: Path) -> None:
    path = folder / "recommender.json"
    path.write_text(path.read_text().replace('"llm"', '"popularity"'))


def unknown_setting(folder: Path) -> None:
    path = folder / "recommender.json"
    path.write_text(path.read_text().replace('"beams"', '"beam"'))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (another_prompt, r"prompt\.jinja is not the wording that this model was trained with"),
        (another_line_end, r"prompt\.jinja is not the wording"),
        (another_index, r"item_index is not the index that this model was trained with"),
        (tampered_codes, r"item_index: the codes differ from those that were saved"),
        (other_catalog, r"catalog\.parquet lists other items, or in another order"),
        (shorter_catalog, r"catalog\.parquet lists other items"),
        (another_tokenizer, r"lacks the item tokens of level 0"),
        (another_kind, r"a 'popularity' recommender, not a language model"),
        (unknown_setting, r"recommender\.json\.beam: unknown setting\. Did you mean 'beams'"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_changed_folder_is_refused(folder: Path, damage: Callable[[Path], None], words: str) -> None:
    LLMRecommender.from_pretrained(folder, device="cpu")
    damage(folder)
    with pytest.raises((ArtifactError, RecipeError), match=words):
        LLMRecommender.from_pretrained(folder, device="cpu")


@pytest.mark.parametrize(
    "name",
    [
        "config.json", "model.safetensors", "tokenizer.json", "recommender.json", "prompt.jinja", "catalog.parquet",
        "item_index/codes.safetensors", "item_index/index.json",
    ],
)  # fmt: skip
@pytest.mark.parametrize("how", ["missing", "cut off"])
def test_an_incomplete_folder_is_refused(folder: Path, name: str, how: str) -> None:
    path = folder / name
    content = path.read_bytes()
    path.unlink()
    if how == "cut off":
        path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ArtifactError):
        LLMRecommender.from_pretrained(folder, device="cpu")


@pytest.fixture
def elsewhere(saved: Path, monkeypatch: pytest.MonkeyPatch) -> LLMRecommender:
    """The saved folder, read without its weights: they are in a stand-in for vLLM."""
    patch_one_step(monkeypatch)
    weights = AutoModelForCausalLM.from_pretrained(saved)

    def no_weights(*_: object, **__: object) -> None:
        pytest.fail("weights were read")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", no_weights)

    def engine(task: NextItemTask) -> VLLMEngine:
        return VLLMEngine(OneStep(TinyWorld(task.catalog, task.items.index, task.items, weights)), task.items)

    return LLMRecommender.from_pretrained(saved, engine=engine)


def test_a_model_that_runs_elsewhere_answers_the_same(elsewhere: LLMRecommender, tiny_world: TinyWorld) -> None:
    here = make_recommender(tiny_world, beams=7, normalize="children", batch_size=3)
    assert elsewhere.model is None
    assert elsewhere.decoding == here.decoding
    candidates = np.array([2, 4, 6, 8, 11, 12, 17], np.int32)
    for given in (None, candidates, elsewhere.prepare_candidates(candidates)):
        found = elsewhere.recommend(HISTORIES, 5, candidates=given)
        expected = here.recommend(HISTORIES, 5, candidates=None if given is None else candidates)
        np.testing.assert_array_equal(found.rows, expected.rows)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    np.testing.assert_allclose(elsewhere.score(HISTORIES), here.score(HISTORIES), atol=1e-4)


def test_weights_that_are_elsewhere_cannot_be_saved(elsewhere: LLMRecommender, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no weights here to save: .* in a VLLMEngine\. Load"):
        elsewhere.save_pretrained(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    with pytest.raises(ArtifactError, match="no weights here to add items to"):
        elsewhere.add_items(elsewhere.catalog)


def test_a_folder_is_checked_before_an_engine_is_made(folder: Path) -> None:
    another_prompt(folder)
    with pytest.raises(ArtifactError, match=r"prompt\.jinja is not the wording"):
        LLMRecommender.from_pretrained(folder, engine=lambda task: pytest.fail("the engine was made"))


def test_a_recommender_has_a_model_or_an_engine_of_its_items(tiny_world: TinyWorld) -> None:
    here = make_recommender(tiny_world)
    with pytest.raises(DecodingError, match="neither a model nor an engine"):
        LLMRecommender(None, here.task)
    with pytest.raises(DecodingError, match="both a model and an engine"):
        LLMRecommender(here.model, here.task, engine=here.engine)
    other = make_tiny_world(20, (4, 3, 5), seed=1)
    with pytest.raises(DecodingError, match="another index"):
        LLMRecommender(None, here.task, engine=TransformersEngine(other.model, other.items))


def test_given_items_are_scored_without_a_search(tiny_world: TinyWorld) -> None:
    recommender = make_recommender(tiny_world, beams=2, normalize="children")
    histories = [np.array([3, 5], np.int32), np.array([], np.int32)]
    everything = recommender.score(histories)
    np.testing.assert_allclose(np.exp(everything).sum(1), 1, atol=1e-4)
    for user, history in enumerate(histories):
        expected = brute_force(
            TinyWorld(tiny_world.catalog, tiny_world.index, recommender.task.items, recommender.model),
            recommender.task.prompt(history),
            "children",
        )
        np.testing.assert_allclose(everything[user], expected, atol=1e-4)
    some = np.array([7, 3, 11], np.int32)  # a seen one too, in this order
    np.testing.assert_allclose(recommender.score(histories, some), everything[:, some], atol=1e-4)
    own = np.array([[7, -1, 7], [4, 19, 0]], np.int32)
    expected = np.where(own < 0, np.nan, np.take_along_axis(everything, own, 1))
    np.testing.assert_allclose(recommender.score(histories, own), expected, atol=1e-4)
    assert recommender.score([], some).shape == (0, 3)
    for wrong in ([99], [-2], [[1], [99]]):
        with pytest.raises(DataError, match=r"item row (99|-2) is not in the catalog, which has rows 0 to 19"):
            recommender.score(histories, np.array(wrong, np.int32))
    with pytest.raises(DataError, match=r"shape \(3, 1\) for 2 histories"):
        recommender.score(histories, np.array([[1], [2], [3]], np.int32))


def test_a_list_is_explained_level_by_level(tiny_world: TinyWorld) -> None:
    recommender = make_recommender(tiny_world, beams=20, batch_size=3)
    found = recommender.recommend(HISTORIES, 18)
    assert (found.rows == -1).any()
    levels = recommender.explain(HISTORIES, found.rows)
    assert levels.shape == (len(HISTORIES), 18, 3)
    assert (levels[found.rows >= 0] <= 0).all()
    np.testing.assert_array_equal(np.isnan(levels).all(-1), found.rows < 0)
    there = found.rows >= 0
    np.testing.assert_allclose(levels.sum(-1)[there], found.scores[there], atol=1e-4)


def test_other_scores_lift_an_item(tiny_world: TinyWorld) -> None:
    recommender = make_recommender(tiny_world, beams=20, batch_size=1)
    lifted = np.zeros((2, 20), np.float32)
    lifted[0, 4] = lifted[1, 9] = 30
    histories = [np.array([3], np.int32), np.array([1, 2], np.int32)]
    assert recommender.recommend(histories, 1, bias=lifted).rows.tolist() == [[4], [9]]
    plain = recommender.recommend(histories, 3)
    unmoved = recommender.recommend(histories, 3, bias=lifted, bias_weight=0)
    np.testing.assert_array_equal(plain.rows, unmoved.rows)


def test_the_instruction_is_what_prompts_share(tiny_world: TinyWorld) -> None:
    recommender = make_recommender(tiny_world)
    shared = recommender.task.shared_prompt()
    assert shared == recommender.task.prompt([])
    assert all(recommender.task.prompt(history)[: len(shared)] == shared for history in HISTORIES)
    assert recommender.engine.prompts.shared == tuple(shared)


def test_lists_are_those_of_the_engine_however_users_are_grouped(
    elsewhere: LLMRecommender, tiny_world: TinyWorld
) -> None:
    here = make_recommender(tiny_world, beams=7, normalize="children", batch_size=3)
    own, exclude = np.array([2, 4, 6, 8, 11, 12, 17], np.int32), Ragged.from_lists([[2]] * len(HISTORIES))
    for recommender in (here, elsewhere):
        found = recommender.recommend_lists(HISTORIES, 3, count=2, exclude=exclude)
        assert found.rows.shape == (len(HISTORIES), 2, 3)
        for user, history in enumerate(HISTORIES):
            closed = Ragged.from_lists([[*history, 2]])
            prompt = recommender.task.prompt(history)
            alone = decode_lists(here.engine, [prompt], 2, 3, 7, "children", closed)
            np.testing.assert_array_equal(found.rows[user], alone.rows[0])
            np.testing.assert_allclose(found.scores[user], alone.scores[0], atol=1e-4)
            assert found.exact[user] == alone.exact[0]
    some = [here.recommend_lists(HISTORIES, 2, candidates=given) for given in (own, here.prepare_candidates(own))]
    some.append(here.recommend_lists(HISTORIES, 2, candidates=Ragged.from_lists([own] * len(HISTORIES))))
    assert all(np.isin(found.rows, own).all() for found in some)
    np.testing.assert_array_equal(some[0].rows, some[1].rows)
    np.testing.assert_array_equal(some[0].rows, some[2].rows)
    with pytest.raises(DataError, match="at least one"):
        here.recommend_lists(HISTORIES, 0)
