"""A recipe whose training makes an item head: stages, folder, commands and card as of any other run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from toy_run import make_base_model, write_recipe

from llmrec.cli import main
from llmrec.errors import RecipeError
from llmrec.pipeline.run import check, load_evaluations, plan, run
from llmrec.recipe import load_recipe
from llmrec.recommenders.base import Recommender
from llmrec.recommenders.item_head import ItemHeadRecommender

CHANGES = ["train.kind=item_head", "train.encoder={kind: tfidf}", "train.dimensions=8", "train.args.num_train_epochs=2"]


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run is."""
    here = tmp_path_factory.mktemp("run")
    write_recipe(here, make_base_model(here / "base"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        recipe = load_recipe("toy.yaml", CHANGES)
        assert recipe.makes == "item_head"
        summary = run(recipe)
    assert summary["invalid"] == 0
    return here


@pytest.fixture(autouse=True)
def _inside(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(there)


def test_the_folder_is_an_ordinary_one(capsys: pytest.CaptureFixture[str]) -> None:
    recommender = Recommender.from_pretrained("runs/toy")
    assert isinstance(recommender, ItemHeadRecommender)
    item = recommender.catalog.items[0]
    assert main(["recommend", "runs/toy", "--history", item, "-k", "4", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(answer["items"]) == 4
    assert answer["items"][0]["score"] < 0
    assert main(["evaluate", "runs/toy", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out.splitlines()[-1])
    figures = json.loads(Path("runs/toy/eval.json").read_text())
    assert measured["metrics"] == figures["test"]["metrics"]
    card = Path("runs/toy/README.md").read_text()
    assert "one forward pass" in card
    assert "follows a trie" not in card


def test_what_was_measured_can_be_read_again() -> None:
    assert list(load_evaluations(plan(load_recipe("toy.yaml", CHANGES)))) == ["item_head", "popularity", "markov"]


def test_what_writes_codes_cannot_go_on_from_it() -> None:
    with pytest.raises(RecipeError, match=r"align\.more: it makes a recommender of the kind 'llm'"):
        check(load_recipe("toy.yaml", [*CHANGES, "align={more: {kind: sft, args: {use_cpu: true, bf16: false}}}"]))
    with pytest.raises(RecipeError, match="'item_head' is made from index, model and train"):
        check(load_recipe("baselines/markov", ["recommender.kind=item_head"]))
