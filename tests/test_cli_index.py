"""`llmrec index inspect` and `llmrec index export` on an index folder, and on a model folder with and without data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow.parquet as pq
import pytest
from answer import Answer, Command
from toy_run import make_base_model, write_recipe

from llmrec import cli, cli_index
from llmrec.data.catalog import Catalog
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.export import Format
from llmrec.indexes.provenance import items_digest
from llmrec.pipeline.run import load_split, plan
from llmrec.recipe import load_recipe


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a recipe, its stages up to the index, and a folder shaped like a model's."""
    here = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        recipe = load_recipe(write_recipe(here, make_base_model(here / "base")))
        planned = plan(recipe)
        shutil.copytree(planned.cache.get(planned.index), here / "model/item_index")
        shutil.copy(planned.cache.get(planned.data) / "catalog.parquet", here / "model")
        (here / "model/recipe.yaml").write_text(recipe.to_yaml())
        shutil.copytree(planned.cache.folder(planned.index), here / "codes")
    return here


@pytest.fixture
def llmrec(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `llmrec index ...` in a copy of that directory."""
    shutil.copytree(built, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")

    def command(*arguments: str) -> Answer:
        capsys.readouterr()
        status = cli.main(["index", *arguments])
        return Answer(status, *capsys.readouterr())

    return command


def test_the_result_of_an_index_stage_can_be_inspected(llmrec: Command) -> None:
    folder = llmrec("build", "toy.yaml").out.strip()
    found = llmrec("inspect", folder, "--json")
    assert found.status == 0
    assert found.json["items"] == 24
    assert found.json["kind"] == "rqkmeans"


def test_a_model_folder_gives_all_figures(llmrec: Command) -> None:
    found = llmrec("inspect", "model", "--json").json
    assert (found["category"], found["category_values"]) == ("category", 3)
    assert found["missing"] == ""
    assert found["html"] is None
    train = load_split(plan(load_recipe("toy.yaml"))).train
    pairs = sum(
        left != right
        for history in (history.tolist() for history in train.histories)
        for place, left in enumerate(history)
        for right in history[place + 1 : place + 6]
    )
    assert found["pairs"] == pairs > 0  # validation and test rows are not among them
    assert 0 < found["depths"][0]["neighbours"] < 1
    assert 0 < found["depths"][0]["purity_chance"] < 1


def test_people_get_tables(llmrec: Command) -> None:
    answer = llmrec("inspect", "model")
    found = llmrec("inspect", "model", "--json").json
    lines = [line.split() for line in answer.out.splitlines()]
    assert answer.out.startswith(f"rqkmeans: 24 items, {len(found['levels'])} levels of 4, 4, ")
    assert [
        "depth",
        "prefixes",
        "mean",
        "items",
        "largest",
        "purity",
        "chance",
        "neighbours",
        "chance",
        "lift",
    ] in lines
    first = found["depths"][0]
    shares = ("purity", "purity_chance", "neighbours", "neighbours_chance")
    expected = ["1", str(first["prefixes"]), f"{first['mean_items']:.1f}", str(first["largest"])]
    assert [*expected, *(f"{first[name]:.3f}" for name in shares), f"{first['lift']:.2f}"] in lines
    assert "Purity: of 'category', 3 values." in answer.out
    assert f"Neighbours: {found['pairs']} pairs" in answer.out


def test_codes_alone_say_what_is_left_out_and_why(llmrec: Command) -> None:
    answer = llmrec("inspect", "codes")
    assert answer.status == 0
    assert "Purity is left out: give --recipe" in answer.out
    assert "Neighbours are left out: give --recipe" in answer.out
    found = llmrec("inspect", "codes", "--json").json
    assert (found["pairs"], found["category"]) == (None, None)
    assert "--recipe" in found["missing"]


def test_a_recipe_brings_data_and_titles_to_codes(llmrec: Command) -> None:
    found = llmrec("inspect", "codes", "--recipe", "toy.yaml", "--json").json
    assert found == llmrec("inspect", "model", "--json").json


def test_a_model_folder_from_elsewhere_reads_and_writes_nothing_unasked(llmrec: Command) -> None:
    shutil.rmtree("runs")
    answer = llmrec("inspect", "model")
    assert answer.status == 0
    assert "Neighbours are left out: its data are not prepared here." in answer.out
    assert "--recipe model/recipe.yaml" in answer.out
    assert "Purity: of 'category'" in answer.out
    assert not Path("runs").exists()
    found = llmrec("inspect", "model", "--recipe", "model/recipe.yaml", "--json").json
    assert found["pairs"] > 0
    assert Path("runs").exists()


def test_a_model_folder_whose_recipe_cannot_be_used_says_so(llmrec: Command) -> None:
    recipe = Path("model/recipe.yaml")
    recipe.write_text(recipe.read_text().replace("kind: synthetic", "kind: synthetik"))
    answer = llmrec("inspect", "model")
    assert answer.status == 0
    assert "There is no source 'synthetik'" in answer.out
    answer = llmrec("inspect", "model", "seed=1")
    assert answer.status == 1
    assert "There is no source 'synthetik'" in answer.err


def test_a_folder_with_more_items_than_its_data_keeps_the_rows_apart(llmrec: Command) -> None:
    catalog = Catalog(pq.read_table("model/catalog.parquet"))
    before = llmrec("inspect", "model", "--json").json
    index = ItemIndex.load(Path("model/item_index"))
    order = np.roll(np.arange(24), 5)  # the same items in other rows, as if they had come in another order
    moved = catalog.take(order.astype(np.int32))
    provenance = {**index.provenance, "items": items_digest(moved.items)}
    ItemIndex(index.codes[order], index.level_sizes, provenance).save(Path("model/item_index"))
    pq.write_table(moved.table, "model/catalog.parquet")
    after = llmrec("inspect", "model", "--json").json
    for first, second in zip(before["depths"], after["depths"], strict=True):
        assert second["neighbours"] == pytest.approx(first["neighbours"])
        assert second["purity"] == first["purity"]


def test_the_page_is_written_where_it_is_wanted(llmrec: Command) -> None:
    answer = llmrec("inspect", "model", "--html", "deep/report.html")
    assert answer.out.splitlines()[-1] == "page: deep/report.html"
    text = Path("deep/report.html").read_text()
    titles = Catalog(pq.read_table("model/catalog.parquet")).texts()
    assert all(title in text for title in titles)
    assert llmrec("inspect", "model", "--html", "again.html", "--json").json["html"] == "again.html"
    assert Path("again.html").read_text() == text


def test_without_asking_no_file_is_written(llmrec: Command) -> None:
    def files() -> set[Path]:
        return set(Path().rglob("*"))

    before = files()
    llmrec("inspect", "model")
    assert files() == before


@pytest.mark.parametrize("format", get_args(Format))
def test_codes_are_exported_in_every_format(llmrec: Command, format: str) -> None:
    assert format in cli_index.FORMATS.split(", ")
    file = "codes.parquet" if format == "table" else "codes.json"
    answer = llmrec("export", "model", file, "--format", format, "--json")
    assert answer.json == {"file": file, "items": 24}
    assert Path(file).stat().st_size > 0
    assert llmrec("export", "model", file, "--format", format).out.strip() == file


def test_an_export_names_the_items(llmrec: Command) -> None:
    llmrec("export", "codes", "codes.json", "--format", "lcrec", "--recipe", "toy.yaml")
    codes = ItemIndex.load(Path("codes")).codes
    expected = {f"i{row}": [f"<{'abc'[level]}_{code}>" for level, code in enumerate(codes[row])] for row in range(24)}
    assert json.loads(Path("codes.json").read_text()) == expected


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["inspect", "nowhere"], "nowhere holds no index.json. Give a model folder"),
        (["inspect", "base"], "base holds no index"),
        (["inspect", "toy.yaml"], "llmrec index build RECIPE"),
        (["inspect", "model", "--html", "codes"], "codes is a folder"),
        (["inspect", "model", "--category", "colour"], "no column 'colour'"),
        (["inspect", "codes", "--category", "colour"], "Give --recipe"),
        (["inspect", "codes", "seed=3"], "no recipe to override"),
        (["inspect", "codes", "--recipe", "toi.yaml"], "among the recipes"),
        (["inspect", "codes", "--recipe", "toy.yaml", "data.items=25"], "are not those of the index"),
        (["inspect", "model", "data.items=25"], "items that the model folder lacks"),
        (["export", "codes", "a.json", "--format", "lcrec"], "not the ids of their items"),
        (["export", "model", "a.json", "--format", "lcrek"], "Did you mean 'lcrec'"),
        (["export", "model", "a.csv", "--format", "lcrec"], "a.csv"),
    ],
)
def test_a_mistake_is_explained(llmrec: Command, arguments: list[str], words: str) -> None:
    answer = llmrec(*arguments)
    assert answer.status == 1
    assert answer.out == ""
    assert words in answer.err.splitlines()[-1]
    assert not Path("a.json").exists()


def test_a_damaged_or_foreign_catalog_is_refused(llmrec: Command) -> None:
    catalog = pq.read_table("model/catalog.parquet")
    pq.write_table(catalog.slice(1), "model/catalog.parquet")
    answer = llmrec("inspect", "model")
    assert answer.status == 1
    assert "its items are not those of the index" in answer.err
    Path("model/catalog.parquet").write_bytes(b"PAR1")
    answer = llmrec("inspect", "model")
    assert answer.status == 1
    assert "is not a readable table" in answer.err
