"""Lists for a file of users: the same as one by one, in whole shards, continued after whatever stopped them."""

from __future__ import annotations

import gzip
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
from contracts.recommender_contract import ITEMS, toy_world
from filelock import FileLock
from worlds import TinyWorld, make_tiny_model, make_tiny_tokenizer

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.engines.mask import AllowedItems
from llmrec.errors import ArtifactError, DataError, LlmrecError, MissingExtraError
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.indexes.provenance import items_digest
from llmrec.recommenders import ray_batch, stream
from llmrec.recommenders.base import Recommender
from llmrec.recommenders.llm import Decoding, LLMRecommender
from llmrec.recommenders.popularity import Popularity
from llmrec.recommenders.ray_batch import recommend_dataset
from llmrec.recommenders.stream import Summary, in_shards, recommend_batch, recommend_file
from llmrec.tasks.next_item import NextItemTask
from llmrec.tasks.template import PromptTemplate
from llmrec.types import Rows, ScoredItems

ROOT = Path(__file__).resolve().parent.parent.parent
HISTORIES = [
    ["i3"], [], ["i4", "i1", "i4"], ["i9", "lost", "i8"], [f"i{row}" for row in range(ITEMS - 2)], ["i5"], None,
    ["lost", "gone"], ["i0", "i1", "i2", "i3", "i4"], ["i7", "i7"], ["i11", "i2", "i6"],
]  # fmt: skip
USERS = [f"user-{number}" for number in range(len(HISTORIES))]
UNKNOWN = 3


@pytest.fixture(scope="module")
def popular(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, world = tmp_path_factory.mktemp("popular") / "model", toy_world()
    Popularity().fit(world.split.train, world.catalog).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def language(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random language model whose narrow search proves some lists and not others."""
    index = ItemIndex(
        tiny_world.index.codes, tiny_world.index.level_sizes, {"items": items_digest(tiny_world.catalog.items)}
    )
    items = ItemTokenizer.bind(make_tiny_tokenizer(), index)
    template = PromptTemplate("Items:{% for item in history %}{{ item.code }}{% endfor %}")
    task = NextItemTask(template, tiny_world.catalog, items, max_history=7)
    folder = tmp_path_factory.mktemp("language") / "model"
    model = make_tiny_model(len(items.tokenizer))
    LLMRecommender(model, task, Decoding(beams=5, batch_size=3)).save_pretrained(folder)
    return folder


@pytest.fixture
def model(request: pytest.FixtureRequest) -> Path:
    return Path(request.getfixturevalue(request.param))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    pq.write_table(pa.table({"more": range(len(USERS)), "user": USERS, "history": HISTORIES}), tmp_path / "in.parquet")
    return tmp_path / "in.parquet"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "some" / "lists"


def run(model: Path, source: Path, output: Path, **settings: Any) -> Summary:
    return recommend_file(model, source, output, **{"k": 4, "shard_users": 4, "progress": False, **settings})


def one_by_one(recommender: Recommender, k: int, **settings: Any) -> list[tuple[list[str], list[float], bool]]:
    """What each user gets when asked for alone, by the known items of the history."""
    lists = []
    for history in HISTORIES:
        rows = recommender.catalog.items.rows(history or [])
        found = recommender.recommend([rows[rows >= 0]], k, **settings)
        real = found.rows[0][found.rows[0] >= 0]
        ids = [recommender.catalog.items[int(row)] for row in real]
        lists.append((ids, found.scores[0][: len(real)].tolist(), bool(found.exact[0])))
    return lists


def assert_lists(table: pa.Table, expected: Sequence[tuple[list[str], list[float], bool]]) -> None:
    assert table["user"].to_pylist() == USERS
    assert table["items"].to_pylist() == [ids for ids, _, _ in expected]
    assert table["exact"].to_pylist() == [exact for _, _, exact in expected]
    for found, (_, scores, _) in zip(table["scores"].to_pylist(), expected, strict=True):
        assert found == pytest.approx(scores, abs=1e-4)
    assert table["unknown"].to_pylist() == [0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != stream.LOCK}


@pytest.mark.parametrize("model", ["popular", "language"], indirect=True)
@pytest.mark.parametrize(
    "settings",
    [
        {"k": 4},
        {"k": 4, "exclude_seen": False},
        {"k": 5, "candidates": np.array([17, 4, 3, 11, 19], np.int32)},
        {"k": ITEMS + 5},
    ],
    ids=["plain", "seen", "candidates", "all"],
)
def test_lists_are_those_of_single_requests(
    model: Path, source: Path, output: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "STEP_USERS", 3)
    summary = run(model, source, output, **settings)
    table = pq.read_table(output)
    assert_lists(table, one_by_one(Recommender.from_pretrained(model), **settings))
    assert summary._replace(users_per_second=0) == Summary(len(USERS), 3, 0, UNKNOWN, 0)
    assert summary.users_per_second > 0
    names = ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    assert sorted(files_of(output)) == ["_SUCCESS", "_plan.json", *names]
    assert [pq.read_metadata(output / name).num_rows for name in names] == [4, 4, 3]
    types = [pa.string(), pa.list_(pa.string()), pa.list_(pa.float32()), pa.bool_(), pa.int32()]
    assert pq.read_schema(output / names[0]).types == types


def test_the_narrow_search_proves_some_lists_and_not_others(language: Path) -> None:
    """Otherwise the column `exact` would be tested with one value only."""
    assert {exact for _, _, exact in one_by_one(Recommender.from_pretrained(language), 4)} == {True, False}


@pytest.mark.parametrize("damage", ["delete", "empty", "shorten"])
def test_a_missing_or_damaged_shard_alone_is_made_again(
    popular: Path, source: Path, output: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(popular, source, output)
    before = files_of(output)
    kept = {name: (output / name).stat().st_mtime_ns for name in before if name[5:10] in ("00000", "00002")}
    part = output / "part-00001.parquet"
    if damage == "delete":
        part.unlink()
    elif damage == "empty":
        part.write_bytes(b"")
    else:
        pq.write_table(pq.read_table(part).slice(1), part)
    marked = []

    def watched(*given: Any, **settings: Any) -> pa.Table:
        marked.append((output / "_SUCCESS").exists())
        return recommend_batch(*given, **settings)

    monkeypatch.setattr(stream, "recommend_batch", watched)
    summary = run(popular, source, output)
    assert marked == [False]
    assert (summary.users, summary.shards, summary.skipped_shards) == (len(USERS), 3, 2)
    assert summary.unknown_items == UNKNOWN
    assert files_of(output) == before
    assert {name: (output / name).stat().st_mtime_ns for name in kept} == kept


def test_a_finished_folder_costs_nothing(
    popular: Path, source: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(popular, source, output)
    monkeypatch.setattr(Recommender, "from_pretrained", lambda _: pytest.fail("the model was loaded"))
    assert run(popular, source, output) == Summary(len(USERS), 3, 3, UNKNOWN, 0.0)


KILLED = """
import os, signal, sys
from llmrec.recommenders.stream import recommend_file
replace = os.replace
def dying(old, new):
    if os.path.basename(new) == "part-00001.parquet":
        os.kill(os.getpid(), signal.SIGKILL)
    replace(old, new)
os.replace = dying
recommend_file(*sys.argv[1:], k=4, shard_users=4, progress=False)
"""


def test_a_kill_between_a_temporary_file_and_its_name_loses_one_shard(
    popular: Path, source: Path, output: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", KILLED, str(popular), str(source), str(output)]
    died = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert len(list(output.glob(".part-00001.parquet.*"))) == 1
    assert sorted(name for name in files_of(output) if name[0] != ".") == ["_plan.json", "part-00000.parquet"]
    assert run(popular, source, output).skipped_shards == 1
    run(popular, source, tmp_path / "undisturbed")
    assert files_of(output) == files_of(tmp_path / "undisturbed")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"k": 5}, "k was 4, now it is 5"),
        ({"exclude_seen": False}, "exclude_seen was True, now it is False"),
        ({"shard_users": 5}, "shard_users was 4, now it is 5"),
        ({"candidates": np.array([1], np.int32)}, "candidates_sha256 was None"),
    ],
)
def test_other_settings_are_refused(
    popular: Path, source: Path, output: Path, changes: dict[str, Any], says: str
) -> None:
    run(popular, source, output)
    (output / "part-00001.parquet").unlink()
    before = files_of(output)
    with pytest.raises(ArtifactError, match=says):
        run(popular, source, output, **changes)
    assert files_of(output) == before


def test_another_input_or_model_is_refused(popular: Path, source: Path, output: Path, tmp_path: Path) -> None:
    model = shutil.copytree(popular, tmp_path / "model")
    run(model, source, output)
    settings = json.loads((model / "recommender.json").read_text())
    (model / "recommender.json").write_text(json.dumps({**settings, "llmrec_version": "other"}))
    with pytest.raises(ArtifactError, match="model_sha256"):
        run(model, source, output)
    pq.write_table(pa.table({"user": USERS, "history": HISTORIES[::-1]}), source)
    with pytest.raises(ArtifactError, match=r"input_sha256 was \w+, now it is \w+.*name a new folder"):
        run(popular, source, output)


def test_copies_and_a_new_model_card_are_the_same_plan(
    popular: Path, source: Path, output: Path, tmp_path: Path
) -> None:
    run(popular, source, output)
    model = shutil.copytree(popular, tmp_path / "elsewhere")
    (model / "README.md").write_text("A better card")
    assert run(model, Path(shutil.copy(source, tmp_path / "copy.parquet")), output).skipped_shards == 3


def test_a_folder_of_something_else_is_refused(popular: Path, source: Path, output: Path, tmp_path: Path) -> None:
    output.mkdir(parents=True)
    (output / "part-00000.parquet").write_text("dear data")
    with pytest.raises(ArtifactError, match=r"holds 'part-00000\.parquet' and no _plan\.json"):
        run(popular, source, output)
    assert files_of(output) == {"part-00000.parquet": b"dear data"}
    (output / "_plan.json").write_text("[")
    with pytest.raises(ArtifactError, match=r"_plan\.json cannot be read"):
        run(popular, source, output)
    with pytest.raises(ArtifactError, match=r"in\.parquet is a file"):
        run(popular, source, source)


def test_two_processes_do_not_share_a_folder(popular: Path, source: Path, output: Path) -> None:
    output.mkdir(parents=True)
    with FileLock(output / stream.LOCK), pytest.raises(ArtifactError, match="Another process is writing"):
        run(popular, source, output)
    assert run(popular, source, output).shards == 3


def test_unknown_items_are_warned_of_with_an_example(
    popular: Path, source: Path, output: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        run(popular, source, output, shard_users=100)
    assert [record.getMessage() for record in caplog.records] == [
        "3 of 38 items in the histories are not in the catalog and are left out, for example 'lost'"
    ]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz"])
def test_text_tables_give_the_same_lists(
    popular: Path, source: Path, output: Path, tmp_path: Path, suffix: str
) -> None:
    run(popular, source, output)
    texts = [", ".join(history or []) + ("," if number == 2 else "") for number, history in enumerate(HISTORIES)]
    path, plain = tmp_path / f"in{suffix}", tmp_path / "plain"
    delimiter = "\t" if suffix == ".tsv" else ","
    csv.write_csv(pa.table({"history": texts, "user": USERS}), plain, csv.WriteOptions(delimiter=delimiter))
    path.write_bytes(gzip.compress(plain.read_bytes()) if suffix.endswith(".gz") else plain.read_bytes())
    assert run(popular, path, tmp_path / "other").unknown_items == UNKNOWN
    assert pq.read_table(tmp_path / "other").equals(pq.read_table(output))


@pytest.mark.parametrize(
    "kind", [pa.large_list(pa.large_string()), pa.list_(pa.dictionary(pa.int32(), pa.string())), pa.large_string()]
)
def test_histories_may_be_of_other_arrow_types(popular: Path, kind: pa.DataType) -> None:
    recommender = Recommender.from_pretrained(popular)
    text = [None if history is None else ",".join(history) for history in HISTORIES]
    column = pa.array(text if kind == pa.large_string() else HISTORIES, kind)
    batch = pa.record_batch({"user": USERS, "history": column})
    assert_lists(recommend_batch(recommender, batch, k=4), one_by_one(recommender, 4))


def test_users_keep_their_type_and_ids_may_be_numbers() -> None:
    catalog = Catalog(pa.table({"item_id": ["10", "20", "30"], "title": list("abc")}))
    events = Interactions.from_columns(pa.array(["u"]), pa.array(["20"]), np.arange(1), catalog.items)
    recommender = Popularity().fit(events, catalog)
    found = recommend_batch(recommender, pa.table({"user": [7, 8], "history": [[10], [20, 99]]}), k=2)
    assert found.to_pydict()["user"] == [7, 8]
    assert found["items"].to_pylist() == [["20", "30"], ["10", "30"]]
    assert found["unknown"].to_pylist() == [0, 1]


@pytest.mark.parametrize(
    "history", [pa.array([], pa.list_(pa.string())), pa.array([[], []]), pa.array([None], pa.string())]
)
def test_tables_without_an_item_or_a_user_are_answered(popular: Path, history: pa.Array) -> None:
    batch = pa.table({"user": pa.array(["a"] * len(history), pa.string()), "history": history})
    found = recommend_batch(Recommender.from_pretrained(popular), batch, k=3)
    assert [len(items) for items in found["items"].to_pylist()] == [3] * len(history)
    assert found.schema.field("items").type == pa.list_(pa.string())


def test_a_file_without_users_gives_a_finished_folder_without_shards(
    popular: Path, output: Path, tmp_path: Path
) -> None:
    (tmp_path / "none.csv").write_text("user,history\n")
    assert run(popular, tmp_path / "none.csv", output) == Summary(0, 0, 0, 0, 0.0)
    assert sorted(files_of(output)) == ["_SUCCESS", "_plan.json"]


class Watched:
    """Answers as another recommender does and notes the lengths of the histories of each call."""

    def __init__(self, inner: Recommender) -> None:
        self.inner, self.calls = inner, []  # type: ignore[var-annotated]
        self.catalog = inner.catalog

    def recommend(self, histories: Sequence[Rows], *given: Any) -> ScoredItems:
        self.calls.append([len(history) for history in histories])
        return self.inner.recommend(histories, *given)


def test_histories_of_like_length_are_asked_for_together(popular: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "STEP_USERS", 3)
    watched, told = Watched(Recommender.from_pretrained(popular)), []
    table = pa.table({"user": USERS, "history": HISTORIES})
    assert_lists(
        recommend_batch(watched, table, k=4, answered=told.append),  # type: ignore[arg-type]
        one_by_one(watched.inner, 4),
    )
    assert watched.calls == [[0, 0, 0], [1, 1, 2], [2, 3, 3], [5, 18]]
    assert told == [3, 3, 3, 2]


def test_candidates_are_counted_once_for_all_shards(
    language: Path, source: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "STEP_USERS", 2)
    counted, of = [], AllowedItems.of
    monkeypatch.setattr(AllowedItems, "of", lambda trie, rows: counted.append(rows.tolist()) or of(trie, rows))
    assert run(language, source, output, candidates=np.array([17, 4, 17], np.int32)).shards == 3
    assert counted == [[4, 17]]


@pytest.mark.parametrize("size", [1, 3, 4, 10, 11])
def test_shards_hold_all_rows_in_order_and_are_full(size: int) -> None:
    batches = [pa.record_batch({"n": pa.array(range(*ends), pa.int64())}) for ends in ((0, 1), (1, 1), (1, 8), (8, 10))]
    shards = list(in_shards(batches, size))
    assert [row for shard in shards for row in shard["n"].to_pylist()] == list(range(10))
    assert [len(shard) for shard in shards[:-1]] == [size] * (len(shards) - 1)
    assert 0 < len(shards[-1]) <= size


def test_shards_are_given_as_soon_as_they_are_full() -> None:
    taken = []

    def batches() -> Any:
        for number in range(100):
            taken.append(number)
            yield pa.record_batch({"n": [number, number]})

    assert next(in_shards(batches(), 5))["n"].to_pylist() == [0, 0, 1, 1, 2]
    assert taken == [0, 1, 2]


def test_the_bar_shows_speed_and_what_was_there_before(
    popular: Path, source: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(popular, source, output, progress=True)
    (output / "part-00001.parquet").unlink()
    capsys.readouterr()
    run(popular, source, output, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "7/11 [" in err
    assert "11/11 [" in err
    assert "user/s" in err


@pytest.mark.parametrize(
    ("table", "settings", "says"),
    [
        ({"user": ["a"], "histories": [["i1"]]}, {}, r"no column 'history'\. Did you mean 'histories'"),
        ({"id": ["a"], "history": [["i1"]]}, {}, "no column 'user'"),
        ({"user": ["a"], "history": [1]}, {}, "column 'history': the histories are of type int64"),
        ({"user": ["a"], "history": [[{"item": 1}]]}, {}, "the histories are of type list"),
        ({"user": ["a"], "history": [["i1"]]}, {"k": 0}, "k is 0"),
        ({"user": ["a"], "history": [["i1"]]}, {"shard_users": 0}, "shard_users is 0"),
        ({"user": ["a"], "history": [["i1"]]}, {"candidates": [ITEMS]}, "candidate item row 20"),
    ],
)
def test_mistakes_are_explained(
    popular: Path, output: Path, tmp_path: Path, table: dict[str, Any], settings: dict[str, Any], says: str
) -> None:
    pq.write_table(pa.table(table), tmp_path / "odd.parquet")
    with pytest.raises(DataError, match=says):
        run(popular, tmp_path / "odd.parquet", output, **settings)
    assert not (output / "_SUCCESS").exists()


def test_a_missing_input_or_model_is_named_before_anything_is_made(popular: Path, source: Path, output: Path) -> None:
    with pytest.raises(DataError, match=r"no such file\. Did you mean 'in\.parquet'"):
        run(popular, source.with_name("inn.parquet"), output)
    with pytest.raises(ArtifactError, match=r"recommender\.json"):
        run(source.parent, source, output)
    assert not output.exists()


def test_two_ray_workers_give_the_same_lists(
    language: Path, source: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The real Ray, with two processes that each load the model, and a third CPU for reading."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    loaded = source.parent / "loaded"
    loaded.mkdir()

    class Waiting(ray_batch.Worker):
        """Leaves a trace of its process, and answers only when a second one is there, or never comes."""

        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            (loaded / str(os.getpid())).touch()
            self.deadline = time.monotonic() + 60

        def __call__(self, batch: pa.Table) -> pa.Table:
            while len(list(loaded.iterdir())) < 2 and time.monotonic() < self.deadline:
                time.sleep(0.1)
            return super().__call__(batch)

    # The folder's name is short because the names of sockets must be.
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as place:
        ray.init(
            num_cpus=3, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20, _temp_dir=place
        )
        try:
            dataset = ray.data.read_parquet(str(source)).select_columns(["user", "history"]).repartition(4)
            with monkeypatch.context() as patch:
                patch.setattr(ray_batch, "Worker", Waiting)
                answered = recommend_dataset(dataset, language, workers=2, batch_size=3, k=4)
            table = pa.concat_tables(ray.get(answered.to_arrow_refs()))
            assert len(list(loaded.iterdir())) == 2
            places = pc.index_in(table["user"], pa.array(USERS))
            assert_lists(table.take(pc.sort_indices(places)), one_by_one(Recommender.from_pretrained(language), 4))
            assert caplog.messages == []

            wrong = recommend_dataset(dataset.drop_columns(["history"]), language, workers=1)
            with pytest.raises(Exception, match="there is no column 'history'"):
                wrong.materialize()
            recommend_dataset(dataset, language, workers=3)
            assert "3 workers of 1 CPUs leave none of Ray's 3 for reading" in caplog.text
        finally:
            ray.shutdown()


def test_without_ray_the_extra_is_named(popular: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'llmrec\[ray\]'"):
        recommend_dataset(None, popular)  # type: ignore[arg-type]


@pytest.mark.parametrize(("settings", "says"), [({"workers": 0}, "workers is 0"), ({"k": 0}, "k is 0")])
def test_mistakes_show_before_ray_starts(popular: Path, settings: dict[str, int], says: str) -> None:
    with pytest.raises(LlmrecError, match=says):
        recommend_dataset(None, popular, **settings)  # type: ignore[arg-type]
    with pytest.raises(LlmrecError, match=r"recommender\.json"):
        recommend_dataset(None, popular.parent)  # type: ignore[arg-type]
