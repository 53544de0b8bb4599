"""The command line as people and scripts use it: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from answer import Answer, Command
from pyarrow import parquet
from toy_run import make_base_model, write_recipe

from llmrec import __version__, assets, cli
from llmrec.data import store
from llmrec.data.catalog import Catalog
from llmrec.pipeline.run import load_split, plan
from llmrec.recipe import load_recipe
from llmrec.recommenders.base import Recommender
from llmrec.recommenders.llm import LLMRecommender
from llmrec.recommenders.markov import Markov
from llmrec.recommenders.popularity import Popularity
from llmrec.recommenders.reasons import reasons
from llmrec.tasks.template import PromptTemplate

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def llmrec(capfd: pytest.CaptureFixture[str]) -> Command:
    """Run a command in this process, with the logging of a fresh one."""

    def command(*arguments: str) -> Answer:
        root, handlers = logging.getLogger(), logging.getLogger().handlers[:]
        root.handlers.clear()
        capfd.readouterr()
        try:
            status = cli.main([str(argument) for argument in arguments])
        finally:
            root.handlers[:] = handlers
        return Answer(status, *capfd.readouterr())

    return command


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base_model(tmp_path_factory.mktemp("base"))


@pytest.fixture
def recipe(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    return write_recipe(tmp_path, base)


@pytest.fixture(scope="module")
def shop(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Answer]:
    """A finished run in a process of its own, and what that process printed."""
    here = tmp_path_factory.mktemp("shop")
    recipe = write_recipe(here, base)
    done = subprocess.run(
        [sys.executable, "-m", "llmrec", "run", str(recipe), "--json", "train.args.disable_tqdm=false"],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    return here, Answer(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def model(shop: tuple[Path, Answer], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The finished model folder, seen from where it was made."""
    monkeypatch.chdir(shop[0])
    return Path("runs/toy")


def test_run_prints_results_on_stdout_and_progress_on_stderr(shop: tuple[Path, Answer]) -> None:
    here, answer = shop
    assert answer.status == 0, answer.err
    assert answer.json["folder"] == "runs/toy"
    assert answer.json["invalid"] == 0
    header, *lines = answer.out.splitlines()
    assert header.split() == ["hr@5", "ndcg@5", "mrr@5", "hr@10", "ndcg@10", "mrr@10"]
    assert [line.split()[0] for line in lines[:3]] == ["llm", "popularity", "markov"]
    assert f"{answer.json['test']['ndcg@10']:.4f}" in lines[0]
    assert "model folder: runs/toy" in answer.out
    for progress in ("[1/4] data", "[4/4] evaluate", "train: done in", "step"):
        assert progress in answer.err
        assert progress not in answer.out
    assert (here / "runs/toy/recommender.json").is_file()


def test_each_verb_goes_as_far_as_its_name_says(llmrec: Command, recipe: Path) -> None:
    stages = {"prepare": ["data"], "index build": ["data", "index"], "train": ["data", "index", "train"]}
    for verb, expected in stages.items():
        answer = llmrec(*verb.split(), recipe, "train.args.num_train_epochs=1")
        assert answer.status == 0
        folder = Path(answer.out.strip())
        assert folder.is_dir()
        assert folder == Path(llmrec(*verb.split(), recipe, "--json", "train.args.num_train_epochs=1").json["folder"])
        built = {path.parent.name.split("-")[0] for path in Path("runs/cache").glob("*/stage.json")}
        assert built == set(expected)
    assert (folder / "model" / "model.safetensors").is_file()
    assert not Path("runs/toy").exists()


def test_a_dry_run_prints_the_plan_and_does_nothing(llmrec: Command, recipe: Path) -> None:
    answer = llmrec("run", recipe, "--dry-run")
    assert answer.status == 0
    assert [line.split()[0] for line in answer.out.splitlines()] == ["data", "index", "train", "evaluate", "folder"]
    assert answer.out.count("to do") == 4
    assert os.listdir() == [recipe.name]
    planned = plan(load_recipe(recipe))
    found = llmrec("index", "build", recipe, "--dry-run", "--json").json
    assert found["plan"] == [{"stage": s.name, "key": s.key, "cached": False} for s in (planned.data, planned.index)]
    assert found["folder"] == "runs/toy"


def test_a_dry_run_says_what_is_cached(llmrec: Command, model: Path) -> None:
    found = llmrec("run", "toy.yaml", "train.args.disable_tqdm=false", "--dry-run", "--json").json
    assert [stage["cached"] for stage in found["plan"]] == [True] * 4
    found = llmrec("run", "toy.yaml", "--dry-run", "train.args.learning_rate=1e-2", "--json").json
    assert [stage["cached"] for stage in found["plan"]] == [True, True, False, False]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "toy.yaml", "trane.kind=sft"], "Did you mean 'train'"),
        (["run", "toy.yaml", "seed"], "no override"),
        (["run", "toi.yaml"], "among the recipes"),
        (["run", "toy.yaml", "model.name=nobody/nothing"], "nobody/nothing"),
        (["index", "build", "toy.yaml", "index.levels=[2,2]", "index.collisions=nearest"], "codes"),
        (["recommend", "nowhere", "--history", "i1"], "recommender.json"),
        (["evaluate", "nowhere"], "recipe.yaml is missing"),
        (["recipes", "show"], "takes names"),
        (["recipes", "show", "dmo"], "Did you mean 'demo.yaml'"),
        (["recipes", "cp", "demo"], "a recipe and the file to write"),
        (["recipes", "cp", "demo", "toy.yaml"], "exists already"),
    ],
)
def test_a_mistake_is_explained_in_a_line_without_a_traceback(
    llmrec: Command, recipe: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.setattr("llmrec.base_models.hub_is_reachable", lambda: False)
    answer = llmrec(*arguments)
    assert answer.status == 1
    assert answer.out == ""
    assert words in answer.err.splitlines()[-1]
    assert answer.err.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in answer.err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["rum", "demo"],
        ["run"],
        ["run", "demo", "--jsn"],
        ["recommend", "m"],
        ["index"],
        ["index", "demo"],
        ["index", "export", "m"],
    ],
)
def test_what_is_no_command_gets_the_usage(llmrec: Command, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        llmrec(*arguments)
    assert stopped.value.code == 2


def test_the_version(llmrec: Command, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        llmrec("--version")
    assert stopped.value.code == 0
    assert capfd.readouterr().out.strip() == __version__


def test_a_stopped_run_says_how_to_go_on(llmrec: Command, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("llmrec.data.store.save", stop)
    answer = llmrec("prepare", recipe)
    assert answer.status == 130
    assert "the same command continues" in answer.err


def test_recommend_for_a_user_of_the_data(llmrec: Command, model: Path) -> None:
    answer = llmrec("recommend", model, "--user", "u3", "-k", "4", "--json")
    assert answer.status == 0
    found = answer.json
    assert len(found["items"]) == 4
    assert found["unknown"] == 0
    assert len(found["history"]) >= 5
    assert not {item["item_id"] for item in found["items"]} & set(found["history"])
    scores = [item["score"] for item in found["items"]]
    assert scores == sorted(scores, reverse=True)
    same = llmrec("recommend", model, "--history", ",".join(found["history"]), "-k", "4", "--json").json
    assert same == found


def test_recommend_prints_titles_for_people(llmrec: Command, model: Path) -> None:
    answer = llmrec("recommend", model, "--history", " i3 , i5,", "-k", "2")
    recommender = Recommender.from_pretrained(model)
    found = recommender.recommend([recommender.catalog.items.rows(["i3", "i5"])], k=2)
    lines = answer.out.splitlines()
    assert lines[0].startswith("History, oldest first (2 items)")
    assert [line.strip() for line in lines[1:3]] == [recommender.catalog.title(row) for row in (3, 5)]
    assert recommender.catalog.title(int(found.rows[0, 0])) in lines[4]
    assert len(lines) == 6


def test_items_of_the_history_come_back_only_when_asked_for(llmrec: Command, model: Path) -> None:
    def ids(*more: str) -> list[str]:
        found = llmrec("recommend", model, "--history", "i3,i5", "-k", "24", "--json", *more).json
        return [item["item_id"] for item in found["items"]]

    assert sorted(ids("--keep-seen")) == sorted(f"i{row}" for row in range(24))
    assert set(ids("--keep-seen")) - set(ids()) == {"i3", "i5"}
    assert len(ids()) == 22


def test_unknown_items_are_skipped_with_a_warning(llmrec: Command, model: Path) -> None:
    answer = llmrec("recommend", model, "--history", "i3,nothing,i5,neither", "--json")
    assert answer.status == 0
    assert "2 of the history's items are not in the catalog and are skipped: nothing, neither" in answer.err
    assert answer.json["unknown"] == 2
    assert answer.json["history"] == ["i3", "i5"]
    assert answer.json["items"] == llmrec("recommend", model, "--history", "i3,i5", "--json").json["items"]


@pytest.mark.parametrize("history", ["", " , ", "nothing", "nothing,neither"])
def test_a_history_without_a_known_item_is_answered(llmrec: Command, model: Path, history: str) -> None:
    answer = llmrec("recommend", model, "--history", history, "--json")
    assert answer.status == 0
    assert len(answer.json["items"]) == 10
    assert "no known item" in answer.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--user", "nobody"], "user 'nobody' is not in the data"),
        (["--user", ""], "user '' is not in the data"),
        (["--history", "i1", "-k", "0"], "-k is 0"),
        (["--history", "i1", "-k", "-3"], "-k is -3"),
        (["--history", "i1", "--where", "categry=coffee"], "Did you mean 'category'"),
        (["--history", "i1", "--where", "coffee"], "Write COLUMN=VALUE"),
    ],
)
def test_a_request_that_cannot_be_answered_is_refused(
    llmrec: Command, model: Path, arguments: list[str], words: str
) -> None:
    answer = llmrec("recommend", model, *arguments, "--json")
    assert answer.status == 1
    assert answer.out == ""
    assert words in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("kind", ["llm", "markov"])
def test_only_items_that_fit_are_recommended(llmrec: Command, model: Path, tmp_path: Path, kind: str) -> None:
    planned = plan(load_recipe("toy.yaml", ["train.args.disable_tqdm=false"]))
    catalog = store.load(planned.cache.get(planned.data))[0]
    if kind == "markov":
        model = tmp_path / "markov"
        Markov().fit(load_split(planned).train, catalog).save_pretrained(model)
    fitting = [row for row, name in enumerate(catalog.table["category"].to_pylist()) if name == "garden"]
    seen = catalog.items[fitting[0]]
    asked = ["recommend", model, "--history", seen, "--where", "category=garden", "-k", "24", "--json"]
    answer = llmrec(*asked)
    assert {item["item_id"] for item in answer.json["items"]} == {catalog.items[row] for row in fitting[1:]}
    assert answer.json["allowed"] == 7
    assert "24 items were asked for, only 7 are allowed: 8 of 24 items fit --where, and 1 of these" in answer.err
    everything = llmrec("recommend", model, "--history", seen, "-k", "24", "--json").json
    assert everything["allowed"] == 23
    scores = {item["item_id"]: item["score"] for item in everything["items"]}
    assert all(item["score"] == pytest.approx(scores[item["item_id"]], abs=1e-4) for item in answer.json["items"])
    one = llmrec(*asked, "--keep-seen", "--where", f"item_id={seen}")
    assert [item["item_id"] for item in one.json["items"]] == [seen]
    few = llmrec("recommend", model, "--history", seen, "--where", "category=garden", "-k", "7", "--json")
    assert (few.json["allowed"], "allowed" in few.err) == (7, False)


def test_a_filter_that_nothing_fits_gives_an_empty_list(llmrec: Command, model: Path) -> None:
    answer = llmrec("recommend", model, "--history", "i3", "--where", "category=Pens, Ink & Co", "--json")
    assert answer.status == 0
    assert (answer.json["items"], answer.json["allowed"]) == ([], 0)
    assert "only 0 are allowed: 0 of 24 items fit --where" in answer.err
    assert (
        llmrec("recommend", model, "--history", "i3", "--where", "title=nothing").out.splitlines()[-1] == "Recommended"
    )


def test_evaluate_measures_what_the_run_measured(llmrec: Command, model: Path) -> None:
    answer = llmrec("evaluate", model, "--json")
    assert answer.status == 0
    figures = json.loads((model / "eval.json").read_text())["test"]
    found = answer.json
    assert found.pop("seconds") >= 0
    assert found == figures
    fewer = llmrec("evaluate", model, "evaluation.users=5", "evaluation.ks=[3]", "--json").json
    assert fewer["examples"] == 5
    assert set(fewer["metrics"]) == {"hr@3", "ndcg@3", "mrr@3"}


def test_shipped_recipes_are_listed_shown_and_checked(llmrec: Command) -> None:
    names = llmrec("recipes", "ls").out.split()
    assert "demo" in names
    assert len(names) >= 2
    assert llmrec("recipes", "ls", "--json").json == {"recipes": names}
    text = assets.path("recipes", "demo.yaml").read_text()
    assert llmrec("recipes", "show", "demo").out.strip() == text.strip()
    assert llmrec("recipes", "show", "demo", "--json").json == {"demo": text}
    answer = llmrec("recipes", "check", "--all", "--json")
    assert answer.json == {"found": len(names) + 3, "failed": {}}  # with the files for Accelerate
    assert answer.out.count(" ok\n") == len(names) + 3


def test_every_recipe_can_be_copied_and_used_from_anywhere(llmrec: Command, tmp_path: Path) -> None:
    for name in llmrec("recipes", "ls").out.split():
        copy = tmp_path / "copies" / f"{name}.yaml"
        assert llmrec("recipes", "cp", name, copy, "--json").json == {"file": str(copy)}
        assert load_recipe(copy) == load_recipe(name)


def test_a_recipe_that_cannot_be_used_fails_the_check(llmrec: Command, recipe: Path) -> None:
    recipe.write_text(recipe.read_text().replace("kind: tfidf", "kind: tfidff"))
    answer = llmrec("recipes", "check", recipe, "demo", "--json")
    assert answer.status == 1
    assert "FAILED: " in answer.out.splitlines()[0]
    assert answer.out.splitlines()[1].endswith(" ok")
    assert list(answer.json["failed"]) == [str(recipe)]
    assert "1 of 2 recipes" in answer.err


def test_new_items_are_added_and_recommended(llmrec: Command, model: Path, tmp_path: Path) -> None:
    """A new item that reads like an old one gets a code, and a list of all items holds it."""
    old = Recommender.from_pretrained(model)
    row = {
        name: column[0].as_py()
        for name, column in zip(old.catalog.table.column_names, old.catalog.table.columns, strict=True)
    }
    parquet.write_table(pa.Table.from_pylist([{**row, "item_id": "new1"}]), tmp_path / "new.parquet")
    answer = llmrec("add", model, tmp_path / "new.parquet", tmp_path / "grown", "--json")
    assert answer.json == {"folder": str(tmp_path / "grown"), "items": len(old.catalog) + 1, "added": 1}
    history = old.catalog.items[1]
    found = llmrec("recommend", tmp_path / "grown", "--history", history, "-k", len(old.catalog) + 1, "--json").json
    before = llmrec("recommend", model, "--history", history, "-k", len(old.catalog) + 1, "--json").json
    scores = {item["item_id"]: item["score"] for item in found["items"]}
    assert scores.pop("new1") > -np.inf
    assert scores == pytest.approx({item["item_id"]: item["score"] for item in before["items"]}, abs=1e-5)
    again = llmrec("add", tmp_path / "grown", tmp_path / "new.parquet", tmp_path / "twice")
    assert again.status == 1
    assert "item 'new1' is in the catalog already" in again.err


def test_an_index_is_inspected_and_exported(llmrec: Command, model: Path, tmp_path: Path) -> None:
    items = len(Recommender.from_pretrained(model).catalog)
    answer = llmrec("index", "inspect", model, "--html", tmp_path / "page.html")
    assert f"{items} items" in answer.out
    assert "<html" in (tmp_path / "page.html").read_text()
    assert llmrec("index", "inspect", model, "--json").json["items"] == items
    assert llmrec("index", "export", model, tmp_path / "codes.index.json").status == 0
    assert len(json.loads((tmp_path / "codes.index.json").read_text())) == items
    assert "index.json" in llmrec("index", "inspect", tmp_path).err


def test_a_file_of_histories_becomes_a_folder_of_lists(llmrec: Command, model: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text('user,history\nann,"i3,i5"\nbob,\ncid,"i7,nothing"\n')
    words = ("recommend", model, "--input", tmp_path / "in.csv", "--output", tmp_path / "lists", "-k", "4")
    answer = llmrec(*words, "--shard-users", "2", "--json")
    found = answer.json
    assert found.pop("users_per_second") > 0
    summary = {"folder": str(tmp_path / "lists"), "users": 3, "shards": 2, "skipped_shards": 0, "unknown_items": 1}
    assert found == summary
    assert len(answer.out.splitlines()) == 1
    assert "1 of 2 items in the histories are not in the catalog and are left out, for example 'nothing'" in answer.err
    assert "recommend: 100%" in answer.err
    lists = parquet.read_table(tmp_path / "lists").to_pylist()
    assert [row["user"] for row in lists] == ["ann", "bob", "cid"]
    for row, history in zip(lists, ("i3,i5", "", "i7"), strict=True):
        items = llmrec("recommend", model, "--history", history, "-k", "4", "--json").json["items"]
        assert row["items"] == [item["item_id"] for item in items]
        assert row["scores"] == pytest.approx([item["score"] for item in items], abs=1e-4)

    again = llmrec(*words, "--shard-users", "2", "--json").json
    assert again == {**summary, "skipped_shards": 2, "users_per_second": 0.0}
    assert "3 users in 2 files, 2 of them from before" in llmrec(*words, "--shard-users", "2").out
    for more in ((), ("--shard-users", "2", "--keep-seen")):
        refused = llmrec(*words, *more)
        assert (refused.status, refused.out) == (1, "")
        assert "was begun with other settings or files" in refused.err


def test_an_input_needs_an_output(llmrec: Command, model: Path, tmp_path: Path) -> None:
    for words in (("--input", tmp_path / "in.csv"), ("--history", "i3", "--output", tmp_path / "lists")):
        answer = llmrec("recommend", model, *words)
        assert (answer.status, answer.out) == (1, "")
        assert "--input and --output go together" in answer.err


def test_items_chosen_together(llmrec: Command, model: Path, tmp_path: Path) -> None:
    recommender = Recommender.from_pretrained(model)
    history = recommender.catalog.items.rows(["i3", "i5"])
    expected = recommender.recommend_lists([history], 4)
    found = llmrec("recommend", model, "--history", "i3,i5", "-k", "4", "--list", "--json").json["items"]
    assert [item["item_id"] for item in found] == [recommender.catalog.items[int(row)] for row in expected.rows[0, 0]]
    assert all(item["score"] == pytest.approx(float(expected.scores[0, 0]), abs=1e-4) for item in found)
    planned = plan(load_recipe("toy.yaml", ["train.args.disable_tqdm=false"]))
    Markov().fit(load_split(planned).train, recommender.catalog).save_pretrained(tmp_path / "markov")
    refused = llmrec("recommend", tmp_path / "markov", "--history", "i3", "--list")
    assert "--list needs a language model that writes codes" in refused.err
    assert "this folder holds a recommender of the kind 'markov'" in refused.err
    together = llmrec("recommend", model, "--input", "a.csv", "--output", "b", "--list")
    assert "--list and --input do not go together" in together.err


def test_reasons_stand_below_the_items(llmrec: Command, model: Path, tmp_path: Path) -> None:
    recommender = Recommender.from_pretrained(model)
    history = recommender.catalog.items.rows(["i3", "i5", "i8"])
    words = ("recommend", model, "--history", "i3,i5,i8", "-k", "3")
    plain, told = llmrec(*words, "--json").json, llmrec(*words, "--why", "--json").json
    why, because = ([item.pop(name) for item in told["items"]] for name in ("why", "because"))
    assert told == plain
    expected = reasons(recommender, history, recommender.recommend([history], 3).rows[0])
    assert why == [reason.text for reason in expected]
    assert {one["item_id"] for each in because for one in each} <= {"i3", "i5", "i8"}
    assert all(one["gain"] > 0 for each in because for one in each)
    lines = llmrec(*words, "--why").out.splitlines()
    assert [line.strip() for line in lines[-5::2]] == why
    popularity = Popularity().fit(load_split(plan(load_recipe("toy.yaml"))).train, recommender.catalog)
    popularity.save_pretrained(tmp_path / "popularity")
    refused = llmrec("recommend", tmp_path / "popularity", "--history", "i3", "--why")
    assert "--why needs a language model" in refused.err
    for more in (("--query", "a lamp"), ("--history", "i3", "--list"), ("--input", "a.csv", "--output", "b")):
        assert "--why needs a history and single items" in llmrec("recommend", model, *more, "--why").err


def test_a_request_in_words(llmrec: Command, model: Path, tmp_path: Path) -> None:
    found = Recommender.from_pretrained(model)
    assert isinstance(found, LLMRecommender)
    price = pa.array([None if row % 3 == 0 else 10.0 * row for row in range(len(found.catalog))])
    catalog = Catalog(found.catalog.table.append_column("price", price))
    wording = PromptTemplate("Seek {% for item in history %}{{ item.request }}{% endfor %}:")
    task = found.task.over(found.task.items.index, catalog).searched_by(wording)
    asked = LLMRecommender(found.model, task, found.decoding)
    asked.save_pretrained(tmp_path / "asked")
    text = "a gift under 60 dollars"
    answer = llmrec("recommend", tmp_path / "asked", "--query", text, "-k", "3", "--json")
    expected = asked.search(text, 3, candidates=np.array([1, 2, 4, 5], np.int32))
    assert [item["item_id"] for item in answer.json["items"]] == [catalog.items[int(r)] for r in expected.rows[0]]
    assert (answer.json["allowed"], answer.json["query"]) == (4, text)
    assert "the request names a price: price < 60, which 4 of 24 items satisfy" in answer.err
    assert answer.json["price"] == "price < 60"
    free = llmrec("recommend", tmp_path / "asked", "--query", "a gift", "-k", "24", "--json")
    assert (len(free.json["items"]), free.json["price"]) == (24, None)
    few = llmrec("recommend", tmp_path / "asked", "--query", text, "--where", "price=50.0", "-k", "2", "--json")
    assert [item["item_id"] for item in few.json["items"]] == ["i5"]
    assert "2 items were asked for, only 1 are allowed" in few.err
    lines = llmrec("recommend", tmp_path / "asked", "--query", "a \x1b[31mgift", "-k", "2").out.splitlines()
    assert lines[:3] == ["Asked for", "      a  [31mgift", "Recommended"]
    assert len(lines) == 5
    untaught = llmrec("recommend", model, "--query", "a gift")
    assert (untaught.status, untaught.out) == (1, "")
    assert "has not learned to find items by words" in untaught.err
    assert "says nothing" in llmrec("recommend", tmp_path / "asked", "--query", " ").err
    assert "do not go together" in llmrec("recommend", tmp_path / "asked", "--query", "a", "--list").err
