"""One pass over the prompt scores the whole catalog; folders that do not fit are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from circle import make_task
from projected import make_projected
from transformers import AutoModelForCausalLM
from worlds import TinyWorld

from llmrec.errors import ArtifactError, DecodingError
from llmrec.recommenders.base import Recommender
from llmrec.recommenders.item_head import ItemHeadRecommender
from llmrec.recommenders.item_projection import ItemProjection
from llmrec.recommenders.llm import LLMRecommender

HISTORIES = [np.array(rows, np.int32) for rows in ([], [3], [1, 4, 1, 5], [9, 2, 6, 5, 3, 5], list(range(14)))]


def one_by_one(recommender: ItemHeadRecommender, history: np.ndarray) -> torch.Tensor:
    """`log p` of all items after one history, by a plain forward pass of the whole model."""
    head, task, model = recommender.head, recommender.task, recommender.model
    assert model is not None
    ids = torch.tensor([task.prompt(history)])
    with torch.inference_mode():
        if head.read is None:
            inputs = {"input_ids": ids}
        else:
            first, words = len(task.items.tokenizer), model.get_input_embeddings().weight
            vectors = head.vectors() @ head.read.T
            places = [vectors[one - first] if one >= first else words[one] for one in ids[0].tolist()]
            inputs = {"inputs_embeds": torch.stack(places)[None]}
        state = model.model(**inputs).last_hidden_state[0, -1]
        state = state / state.square().mean().sqrt()
        items = head.text @ head.of_text.T + head.table
        return (items @ (head.of_state @ state)).log_softmax(0)


@pytest.mark.parametrize("reads", [False, True], ids=["codes", "vectors"])
def test_a_score_is_log_p_of_the_item(tiny_world: TinyWorld, reads: bool) -> None:
    recommender = make_projected(tiny_world, reads)
    found = recommender.recommend(HISTORIES, k=20, exclude_seen=False)
    for number, history in enumerate(HISTORIES):
        expected = one_by_one(recommender, history[-10:])
        assert found.rows[number].tolist() == expected.sort(descending=True, stable=True).indices.tolist()
        np.testing.assert_allclose(found.scores[number], expected.sort(descending=True).values, atol=1e-4)
        assert np.exp(found.scores[number]).sum() == pytest.approx(1, abs=1e-4)
    assert found.exact.all()


def test_what_may_be_listed_does_not_change_a_score(tiny_world: TinyWorld) -> None:
    recommender = make_projected(tiny_world)
    whole = recommender.recommend(HISTORIES, k=20, exclude_seen=False)
    few = recommender.recommend(HISTORIES, k=5, candidates=np.array([2, 7, 11, 19], np.int32))
    for number, history in enumerate(HISTORIES):
        scores = dict(zip(whole.rows[number].tolist(), whole.scores[number].tolist(), strict=True))
        listed = [row for row in few.rows[number].tolist() if row >= 0]
        assert set(listed) == {2, 7, 11, 19} - set(history.tolist())
        np.testing.assert_allclose(few.scores[number][: len(listed)], [scores[row] for row in listed], atol=1e-5)


def test_prompts_are_those_of_the_model_that_writes_codes(tiny_world: TinyWorld) -> None:
    task, slots = make_task(tiny_world.catalog, tiny_world.items), make_projected(tiny_world, reads=True).task
    code = tiny_world.items.levels
    for history in HISTORIES:
        assert make_projected(tiny_world).task.prompt(history) == task.prompt(history)
        words = len(task.prompt([]))
        shown = history[-10:].tolist()
        assert slots.prompt(history) == task.prompt([]) + [len(slots.items.tokenizer) + row for row in shown]
        assert len(task.prompt(history)) == words + code * len(shown)


@pytest.mark.parametrize("reads", [False, True], ids=["codes", "vectors"])
def test_the_folder_is_an_ordinary_one(tiny_world: TinyWorld, tmp_path: Path, reads: bool) -> None:
    recommender = make_projected(tiny_world, reads)
    recommender.save_pretrained(tmp_path / "model")
    names = {path.relative_to(tmp_path / "model").as_posix() for path in (tmp_path / "model").rglob("*.safetensors")}
    assert names == {"model.safetensors", "item_index/codes.safetensors", "item_head/weights.safetensors"}
    assert json.loads((tmp_path / "model/recommender.json").read_text())["kind"] == "item_head"
    plain, info = AutoModelForCausalLM.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert (list(info["unexpected_keys"]), list(info["missing_keys"])) == (
        [],
        [],
    )  # transformers reads it as any other model
    assert plain.config.vocab_size == tiny_world.model.config.vocab_size
    loaded = Recommender.from_pretrained(tmp_path / "model")
    assert isinstance(loaded, ItemHeadRecommender)
    before, after = (each.recommend(HISTORIES, 9) for each in (recommender, loaded))
    assert (before.rows == after.rows).all()
    np.testing.assert_allclose(before.scores, after.scores, atol=1e-5)


def test_what_does_not_fit_is_refused(tiny_world: TinyWorld, tmp_path: Path) -> None:
    recommender = make_projected(tiny_world)
    recommender.save_pretrained(tmp_path / "model")
    with pytest.raises(ArtifactError, match="'item_head' recommender, not a language model that writes codes"):
        LLMRecommender.from_pretrained(tmp_path / "model")
    with pytest.raises(DecodingError, match="neither a model nor an engine"):
        ItemHeadRecommender(None, recommender.task, recommender.head)
    with pytest.raises(ArtifactError, match="scores 7 items, the catalog has 20"):
        ItemHeadRecommender(recommender.model, recommender.task, ItemProjection(torch.ones(7, 6), 32, 8))
    weights = tmp_path / "model/item_head/weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(ArtifactError, match="not a complete model folder"):
        Recommender.from_pretrained(tmp_path / "model")
    weights.unlink()
    with pytest.raises(ArtifactError, match="not a complete model folder"):
        Recommender.from_pretrained(tmp_path / "model")
    prompt = tmp_path / "model/prompt.jinja"
    prompt.write_text(prompt.read_text() + "!")
    with pytest.raises(ArtifactError, match="not the wording"):
        Recommender.from_pretrained(tmp_path / "model")


def test_states_may_come_from_elsewhere(tiny_world: TinyWorld, tmp_path: Path) -> None:
    recommender = make_projected(tiny_world)
    recommender.save_pretrained(tmp_path)
    asked: list[int] = []

    class Elsewhere:
        def states(self, prompts: list[list[int]]) -> torch.Tensor:
            asked.append(len(prompts))
            return recommender.engine.states(prompts)

    remote = ItemHeadRecommender.from_pretrained(tmp_path, engine=lambda _: Elsewhere())
    assert remote.model is None
    assert (remote.recommend(HISTORIES, 9).rows == recommender.recommend(HISTORIES, 9).rows).all()
    assert asked == [2, 2, 1]
    with pytest.raises(ArtifactError, match="runs in a Elsewhere"):
        remote.save_pretrained(tmp_path / "other")
