"""A finished stage is built once; an unfinished one leaves nothing that looks finished."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmrec.pipeline.cache import Stage, StageCache

Build = Callable[[Path, Path], None]


def stage(build: Build, *parents: Stage, name: str = "data", **settings: Any) -> Stage:
    return Stage(name, settings, parents, build)


def write_a_word(target: Path, work: Path) -> None:
    (target / "word").write_text("done")


@pytest.fixture
def cache(tmp_path: Path) -> StageCache:
    return StageCache(tmp_path / "cache")


def test_a_stage_is_built_once(cache: StageCache) -> None:
    built = []

    def build(target: Path, work: Path) -> None:
        built.append(target)
        write_a_word(target, work)

    one = stage(build, seed=1)
    assert not cache.has(one)
    folder = cache.get(one)
    assert cache.has(one)
    assert (folder / "word").read_text() == "done"
    assert StageCache(cache.root).get(stage(build, seed=1)) == folder == cache.folder(one)
    assert len(built) == 1
    assert cache.record(one)["settings"] == {"seed": 1}
    assert cache.record(one)["seconds"] >= 0


def test_the_key_follows_everything_that_the_result_depends_on() -> None:
    parent, other = stage(write_a_word, seed=1), stage(write_a_word, seed=2)
    child = stage(write_a_word, parent, name="index", levels=[4, 4])
    different = [
        stage(write_a_word, other, name="index", levels=[4, 4]),
        stage(write_a_word, parent, name="index", levels=[4, 8]),
        stage(write_a_word, parent, name="train", levels=[4, 4]),
        stage(write_a_word, parent, parent, name="index", levels=[4, 4]),
        stage(write_a_word, name="index", levels=[4, 4]),
    ]
    assert len({child.key, *(changed.key for changed in different)}) == 6
    again = Stage("index", {"levels": [4, 4]}, (Stage("data", {"seed": 1}, (), lambda *_: None),), lambda *_: None)
    assert again.key == child.key


def test_the_order_of_settings_does_not_matter() -> None:
    assert stage(write_a_word, a=1, b=2).key == stage(write_a_word, b=2, a=1).key


def test_a_stage_that_fails_is_built_again_from_what_its_work_folder_kept(cache: StageCache) -> None:
    tries = []

    def build(target: Path, work: Path) -> None:
        tries.append(sorted(path.name for path in work.iterdir()))
        assert list(target.iterdir()) == []
        (target / "half").write_text("never seen")
        (work / "checkpoint").write_text("kept")
        if len(tries) == 1:
            raise KeyboardInterrupt
        (target / "half").unlink()
        write_a_word(target, work)

    broken = stage(build)
    with pytest.raises(KeyboardInterrupt):
        cache.get(broken)
    assert not cache.has(broken)
    folder = cache.get(broken)
    assert tries == [[], ["checkpoint"]]
    assert sorted(path.name for path in folder.iterdir()) == ["stage.json", "word"]


def test_only_finished_stages_and_their_locks_remain(cache: StageCache) -> None:
    folder = cache.get(stage(write_a_word))
    assert {path.name for path in cache.root.iterdir()} == {folder.name, f".{folder.name}.lock"}


def test_a_work_folder_that_outlived_its_stage_is_removed(cache: StageCache) -> None:
    """As if killed between the stage's last rename and its tidying up."""
    folder = cache.get(stage(write_a_word))
    work = folder.with_name(f".{folder.name}.work")
    (work / "checkpoint-8").mkdir(parents=True)
    cache.get(stage(write_a_word))
    assert not work.exists()


def test_a_result_without_its_record_is_built_anew(cache: StageCache) -> None:
    one = stage(write_a_word)
    (cache.get(one) / "stage.json").unlink()
    assert not cache.has(one)
    (cache.get(one) / "word").read_text()
    assert cache.has(one)


def test_a_second_process_waits_for_the_first(cache: StageCache) -> None:
    """Two threads with a cache object each; the lock is a file, as between processes."""
    began, go_on = threading.Event(), threading.Event()
    built: list[str] = []

    def slow(target: Path, work: Path) -> None:
        began.set()
        assert go_on.wait(60)
        built.append("slow")
        write_a_word(target, work)

    def never(target: Path, work: Path) -> None:
        built.append("never")

    found: list[Path] = []
    first = threading.Thread(target=lambda: found.append(StageCache(cache.root).get(stage(slow))))
    second = threading.Thread(target=lambda: found.append(StageCache(cache.root).get(stage(never))))
    first.start()
    assert began.wait(60)
    second.start()
    second.join(0.2)
    assert second.is_alive()
    assert found == []
    go_on.set()
    first.join(60)
    second.join(60)
    assert found[0] == found[1]
    assert built == ["slow"]
