"""Every recipe for a kind of index is really run, from tables to a model folder, on a toy shop and a tiny model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from toy_run import make_base_model

from llmrec import assets
from llmrec.pipeline.run import run
from llmrec.recipe import load_recipe
from llmrec.recommenders.base import Recommender
from llmrec.registry import resolve
from llmrec.sources.synthetic import ADJECTIVES, SyntheticSource

RECIPES = [name for name in assets.names("recipes") if name.startswith("index/") and name.endswith(".yaml")]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tables that these recipes say they read, and a base model; the data stage is built once."""
    folder = tmp_path_factory.mktemp("recipes")
    make_base_model(folder / "base")
    data = SyntheticSource(users=40, items=60, events=8).load()
    table, events = data.catalog.table, data.interactions
    kinds = table["category"].to_pylist()
    adjectives = [next(a for a in ADJECTIVES if title.lower().startswith(a)) for title in table["title"].to_pylist()]
    items = table.drop_columns("category").append_column("brand", [[f"Brand {row % 7}" for row in range(len(table))]])
    tree = [f"Shop, {kind}, {adjective}" for kind, adjective in zip(kinds, adjectives, strict=True)]
    (folder / "tables").mkdir()
    parquet.write_table(items.append_column("categories", [tree]), folder / "tables/items.parquet")
    columns = {
        "user_id": events.users.ids.take(pa.array(events.user_rows)),
        "item_id": events.items.ids.take(pa.array(events.item_rows)),
        "position": np.arange(len(events)),
    }
    parquet.write_table(pa.table(columns), folder / "tables/interactions.parquet")
    return folder


def test_recipes_were_found() -> None:
    assert len(RECIPES) >= 11


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_ends_in_a_folder_that_recommends(name: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    fields = resolve("index", load_recipe(name).index["kind"]).model_fields
    shorter = {"index.steps": 20, "index.tokenizer": "base"}  # of an autoencoder; of titles
    overrides = [f"{key}={value}" for key, value in shorter.items() if key.removeprefix("index.") in fields]
    args = ("max_steps=2", "disable_tqdm=true")
    overrides += ["data.root=tables", "model.name=base", "evaluation.users=5", "train.valid_users=5"]
    summary = run(load_recipe(name, [*overrides, *(f"train.args.{arg}" for arg in args)]))
    assert summary["folder"] == f"runs/{Path(name).stem}"
    assert summary["invalid"] == 0
    assert 0 <= summary["test"]["ndcg@10"] <= 1
    recommender = Recommender.from_pretrained(summary["folder"])
    found = recommender.recommend([recommender.catalog.items.rows(["i3", "i5"])], k=5)
    assert np.isfinite(found.scores).all()
    assert len(set(found.rows[0].tolist()) - {3, 5, -1}) == 5
