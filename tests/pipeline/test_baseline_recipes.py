"""Every recipe of a baseline is really run, from tables to a folder, on a toy shop; and what is special about them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from toy_run import checksums

from llmrec import assets
from llmrec.cli import main
from llmrec.errors import RecipeError
from llmrec.pipeline.run import check, load_evaluations, plan, run
from llmrec.recipe import BaselineRecipe, load_recipe
from llmrec.recommenders.base import Recommender
from llmrec.registry import REGISTRY, resolve
from llmrec.sources.synthetic import SyntheticSource

PREFIX = "baselines/"
NAMES = [name for name in assets.names("recipes") if name.startswith(PREFIX) and not name.endswith("base.yaml")]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables that these recipes say they read; all runs share one cache."""
    here = tmp_path_factory.mktemp("shop")
    data = SyntheticSource(users=40, items=30, events=8).load()
    table, events = data.catalog.table.drop_columns("category"), data.interactions
    table = table.append_column("brand", [[f"Brand {row % 7}" for row in range(len(table))]])
    (here / "tables").mkdir()
    parquet.write_table(table.append_column("categories", [["Shop"] * len(table)]), here / "tables/items.parquet")
    columns = {
        "user_id": events.users.ids.take(pa.array(events.user_rows)),
        "item_id": events.items.ids.take(pa.array(events.item_rows)),
        "position": np.arange(len(events)),
    }
    parquet.write_table(pa.table(columns), here / "tables/interactions.parquet")
    return here


def quick(name: str) -> BaselineRecipe:
    """The shipped recipe on the toy tables, with two epochs where it has any."""
    fields = resolve("recommender", load_recipe(name).makes).model_fields
    shorter = {"epochs": 2, "progress": False, "device": "cpu"}
    overrides = [f"recommender.{key}={value}" for key, value in shorter.items() if key in fields]
    recipe = load_recipe(name, ["data.root=tables", *overrides])
    assert isinstance(recipe, BaselineRecipe)
    return recipe


def test_every_baseline_has_a_recipe() -> None:
    assert {load_recipe(name).makes for name in NAMES} == {
        kind for kind in REGISTRY["recommender"] if hasattr(resolve("recommender", kind), "fit")
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_ends_in_a_folder_that_recommends(name: str, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop)
    recipe = quick(name)
    summary = run(recipe)
    assert summary["folder"] == f"runs/{Path(name).stem}"
    assert summary["invalid"] == 0
    assert 0 <= summary["test"]["ndcg@10"] <= 1
    assert set(summary["baselines"]) == {"popularity", "markov"} - {recipe.makes}
    recommender = Recommender.from_pretrained(summary["folder"])
    assert type(recommender) is resolve("recommender", recipe.makes)
    found = recommender.recommend([recommender.catalog.items.rows(["i3", "i5"])], k=5)
    assert len(set(found.rows[0].tolist()) - {3, 5, -1}) == 5
    card = Path(summary["folder"], "README.md").read_text()
    assert f"| {recipe.makes} | {summary['test']['hr@5']:.4f}" in card
    assert "base_model" not in card
    assert load_recipe(f"{summary['folder']}/recipe.yaml") == recipe


def test_the_validation_figure_and_the_log_are_kept(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop)
    recipe = quick("baselines/sasrec")
    summary, planned = run(recipe), plan(recipe)
    assert [stage.name for stage in planned.stages] == ["data", "train", "evaluate"]
    log = json.loads((planned.cache.get(planned.train) / "training.json").read_text())
    assert [entry["epoch"] for entry in log["history"]] == [1, 2]
    # Of equal scores an evaluation takes the lower row and early stopping the worse place; a network has none.
    assert log["best"] == summary["valid"]["ndcg@10"] == pytest.approx(max(e["ndcg@10"] for e in log["history"]))
    assert next(iter(load_evaluations(planned))) == "sasrec"


def test_the_same_recipe_elsewhere_gives_the_same_bytes(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tables").symlink_to(shop / "tables")
    found = []
    for folder in (shop, tmp_path):
        monkeypatch.chdir(folder)
        found.append(checksums(Path(run(quick("baselines/bert4rec"))["folder"])))
    assert found[0] == found[1]


def test_the_seed_of_the_recipe_is_that_of_the_recommender(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop)
    recipe = quick("baselines/sasrec")
    one, other = plan(recipe), plan(recipe.model_copy(update={"seed": 1}))
    assert one.data.key == other.data.key
    assert one.train.key != other.train.key


def test_the_commands_work_on_such_a_folder(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(shop)
    overrides = ["data.root=tables", "name=mine"]
    assert main(["run", "baselines/skip_markov", *overrides, "--json"]) == 0
    ran = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert main(["evaluate", ran["folder"], "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["metrics"] == ran["test"]
    assert main(["recommend", ran["folder"], "--history", "i3,i5", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out.splitlines()[-1])["items"]) == 10
    assert main(["index", "build", "baselines/skip_markov", *overrides]) == 1
    assert "recipe 'mine' has no stage 'index'; it has data, train, evaluate." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("recommender.kind=sasrek", "Did you mean 'sasrec'"),
        ("recommender.blokcs=3", r"recommender\.blokcs: unknown setting\. Did you mean 'blocks'"),
        ("recommender.kind=llm", "leave out 'recommender'"),
        ("evaluation.baselines=[text_knn]", r"baselines: text_knn\.encoder: this setting has no default"),
        ("index.levels=[4]", "index: unknown setting"),
    ],
)
def test_mistakes_are_explained(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        check(load_recipe("baselines/sasrec", [override]))


def test_questions_with_several_targets_and_a_ranking_among_drawn_items(
    shop: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(shop)
    changes = ["data.root=tables", "name=drawn", "split.targets=2", "split.min_user_events=5"]
    recipe = load_recipe("baselines/markov", [*changes, "evaluation.sampled={negatives: 6, seed: 1}"])
    run(recipe)
    assert "sampled ranking" in caplog.text
    found = json.loads(Path("runs/drawn/eval.json").read_text())["test"]
    assert "leave-2-out by user" in found["protocol"]
    assert "SAMPLED ranking among 6 items drawn uniformly (seed 1) beside the targets" in found["protocol"]
    assert found["unfilled"] == 2 * found["examples"]  # of ten places eight can be filled: two targets and six others
    assert found["calibration"] == {}
    assert found["metrics"]["hr@10"] == 1
