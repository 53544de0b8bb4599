"""From a recipe to a model folder: the same bytes every time, whatever was cached and whatever was killed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy_run import MIXTURE, checksums, killed_at, make_base_model, write_recipe

from llmrec import __version__
from llmrec.cli import main
from llmrec.errors import ArtifactError, LlmrecError
from llmrec.pipeline.run import load_evaluations, plan, run
from llmrec.recipe import load_recipe
from llmrec.recommenders.base import Recommender

STAGES = ["data", "index", "train", "evaluate"]


class Finished(NamedTuple):
    recipe: Path
    folder: Path
    summary: dict[str, Any]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def finished(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """An undisturbed run."""
    here = tmp_path_factory.mktemp("finished")
    recipe = write_recipe(here, base)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        return Finished(recipe, here / "runs" / "toy", run(load_recipe(recipe)))


@pytest.fixture
def there(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> Finished:
    """The undisturbed run, with its folder as the working directory."""
    monkeypatch.chdir(finished.recipe.parent)
    return finished


def built(cache: Path) -> dict[str, int]:
    """Every finished stage and when it was."""
    return {path.parent.name: path.stat().st_mtime_ns for path in cache.glob("*/stage.json")}


def names(stages: dict[str, int]) -> list[str]:
    return sorted((name.split("-")[0] for name in stages), key=STAGES.index)


def test_a_run_ends_in_a_folder_that_recommends(there: Finished) -> None:
    recommender = Recommender.from_pretrained(there.folder)
    found = recommender.recommend([recommender.catalog.items.rows(["i3", "i5"])], k=5)
    assert (found.rows >= 0).all()
    assert there.summary["folder"] == "runs/toy"
    assert there.summary["invalid"] == 0
    assert set(there.summary["baselines"]) == {"popularity", "markov"}
    assert 0 < there.summary["test"]["ndcg@10"] < 1
    files = checksums(there.folder)
    assert {"recipe.yaml", "eval.json", "handler.py", "recommender.json"} <= set(files)
    assert not [name for name in files if Path(name).suffix in (".bin", ".pt", ".pth", ".pkl", ".ckpt")]


def test_the_folder_says_what_was_measured_and_how(there: Finished) -> None:
    figures = json.loads((there.folder / "eval.json").read_text())
    assert figures["test"]["metrics"] == there.summary["test"]
    assert figures["test"]["protocol"] == there.summary["protocol"]
    assert "20 users" in there.summary["protocol"]
    for found in (figures["test"], *figures["baselines"].values()):
        assert list(found["intervals"]) == list(found["metrics"])
        assert all(low <= found["metrics"][name] <= high for name, (low, high) in found["intervals"].items())
        assert {"history_length", "category", "time_gap"} <= set(found["slices"])
        assert {"novelty", "popularity_lift", "coverage", "concentration"} <= set(found["popularity"])
    card = (there.folder / "README.md").read_text()
    assert there.summary["protocol"] in card
    assert f"{there.summary['test']['ndcg@10']:.4f}" in card
    assert f"{there.summary['baselines']['markov']['ndcg@10']:.4f}" in card
    assert load_recipe(there.folder / "recipe.yaml") == load_recipe(there.recipe)


def test_the_folder_tells_how_it_came_about(there: Finished) -> None:
    made = json.loads((there.folder / "made.json").read_text())
    assert set(made["seconds"]) == set(STAGES)
    assert made["seconds"]["train"] == there.summary["train_seconds"] > 0
    assert made["answers"]["questions"] == 20
    assert "thread" in made["machine"]
    assert made["versions"]["llmrec"] == __version__
    log = json.loads((there.folder / "training.json").read_text())["train"]
    assert [entry["epoch"] for entry in log if "eval_ndcg@10" in entry] == [1, 2, 3]
    assert sum("loss" in entry for entry in log) > 0
    assert not any("runtime" in name for entry in log for name in entry)
    assert (there.folder / "training.png").read_bytes().startswith(b"\x89PNG")
    card = (there.folder / "README.md").read_text()
    assert "(training.png)" in card
    assert f"Training took {made['seconds']['train'] / 60:.1f} minutes on {made['machine']}" in card


def test_tensorboard_finds_the_training(there: Finished) -> None:
    planned = plan(load_recipe(there.recipe))
    events = EventAccumulator(str(planned.cache.get(planned.train) / "tensorboard"))
    events.Reload()
    log = json.loads((there.folder / "training.json").read_text())["train"]
    expected = [entry["eval_ndcg@10"] for entry in log if "eval_ndcg@10" in entry]
    assert [found.value for found in events.Scalars("eval/ndcg@10")] == pytest.approx(expected)
    assert not list(there.folder.rglob("events.out.*"))


def test_the_best_checkpoint_is_the_one_that_is_saved(there: Finished) -> None:
    planned = plan(load_recipe(there.recipe))
    log = json.loads((planned.cache.get(planned.train) / "training.json").read_text())
    seen = [entry["eval_ndcg@10"] for entry in log["history"] if "eval_ndcg@10" in entry]
    assert len(seen) == 3  # one an epoch
    assert there.summary["valid"]["ndcg@10"] == log["best"] == max(seen)


def test_the_base_model_s_sampling_ends_here(base: Path, there: Finished) -> None:
    assert "temperature" in (base / "generation_config.json").read_text()
    assert set(json.loads((there.folder / "generation_config.json").read_text())) == {
        "eos_token_id", "pad_token_id", "transformers_version",
    }  # fmt: skip
    assert json.loads((there.folder / "config.json").read_text()).get("use_cache", True)  # training has it off


def test_a_second_run_builds_nothing(there: Finished) -> None:
    before, files = built(Path("runs/cache")), checksums(there.folder)
    assert names(before) == STAGES
    assert run(load_recipe(there.recipe)) == there.summary
    assert built(Path("runs/cache")) == before
    assert checksums(there.folder) == files


def test_a_run_elsewhere_gives_the_same_bytes(
    base: Path, finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write_recipe(tmp_path, base)
    monkeypatch.chdir(tmp_path)
    run(load_recipe(recipe))
    assert checksums(tmp_path / "runs" / "toy") == checksums(finished.folder)


@pytest.mark.parametrize("overrides", [["train.init=default"], ["train.tuning=lora", "train.lora={r: 4}"]], ids=str)
def test_everything_random_follows_the_seed(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str]
) -> None:
    """Whatever was drawn before in the same process."""
    recipe, found = write_recipe(tmp_path, base), []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        torch.rand(1 + len(found))
        run(load_recipe(recipe, overrides))
        found.append(checksums(Path("runs/toy")))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("override", "rebuilt"),
    [
        ("train.args.num_train_epochs=1", ["train", "evaluate"]),
        ("task.max_history=3", ["train", "evaluate"]),
        ("decoding.beams=9", ["train", "evaluate"]),
        ("evaluation.ks=[3]", ["evaluate"]),
        ("evaluation.baselines=[markov]", ["evaluate"]),
        ("index.levels=[3, 4]", ["index", "train", "evaluate"]),
        ("data.events=9", STAGES),
        ("split.min_user_events=4", STAGES),
        ("name=other", []),
    ],
)
def test_only_what_depends_on_a_change_is_built_again(there: Finished, override: str, rebuilt: list[str]) -> None:
    planned = plan(load_recipe(there.recipe, [override]))
    assert [stage.name for stage in planned.stages if not planned.cache.has(stage)] == rebuilt


def test_changed_training_keeps_data_and_index(there: Finished) -> None:
    before = built(Path("runs/cache"))
    run(load_recipe(there.recipe, ["train.args.num_train_epochs=1", "name=shorter"]))
    after = built(Path("runs/cache"))
    assert {name: after[name] for name in before} == before
    assert names({name: after[name] for name in after.keys() - before.keys()}) == ["train", "evaluate"]
    assert checksums(Path("runs/shorter"))["model.safetensors"] != checksums(there.folder)["model.safetensors"]


def test_a_changed_prompt_file_is_another_model(there: Finished, tmp_path: Path) -> None:
    prompt = tmp_path / "mine.jinja"
    keys = []
    for words in ("Seen:", "Taken:"):
        prompt.write_text(words + "{% for item in history %}{{ item.code }}{% endfor %}")
        keys.append(plan(load_recipe(there.recipe, [f"task.template={prompt}"])).train.key)
    assert keys[0] != keys[1]


def test_a_plan_reads_nothing(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = write_recipe(tmp_path, base)
    planned = plan(load_recipe(recipe))
    assert [stage.name for stage in planned.stages] == STAGES
    assert os.listdir(tmp_path) == [recipe.name]


def test_what_was_measured_can_be_read_again(there: Finished) -> None:
    found = load_evaluations(plan(load_recipe(there.recipe)))
    assert list(found) == ["llm", "popularity", "markov"]
    assert found["llm"].metrics == there.summary["test"]
    assert (found["llm"].invalid, found["llm"].duplicates, found["llm"].excluded_returned) == (0, 0, 0)


def test_a_model_that_is_nowhere_is_refused_before_any_work(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    recipe = write_recipe(tmp_path, base)
    with pytest.raises(ArtifactError, match=r"no config\.json"):
        run(load_recipe(recipe, ["model.name=empty"]))
    assert not Path("runs").exists()


def test_a_folder_that_holds_something_else_is_refused(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vision").mkdir()
    (tmp_path / "vision" / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ArtifactError, match="'vision' cannot be loaded as a causal language model"):
        run(load_recipe(write_recipe(tmp_path, base), ["model.name=vision"]))


def test_more_layers_than_there_are_is_refused(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LlmrecError, match=r"model\.layers is 3; this model has 1 to 2"):
        run(load_recipe(write_recipe(tmp_path, base), ["model.layers=3"]))


@pytest.mark.parametrize("variant", ["", MIXTURE], ids=["next items", "a mixture of tasks"])
def test_a_killed_run_continues_to_the_same_bytes(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    """SIGKILL in every stage, in the middle of files and checkpoints, then the same command to its end."""
    whole, killed = (write_recipe(tmp_path / name, base, variant) for name in ("whole", "killed"))
    monkeypatch.chdir(whole.parent)
    run(load_recipe(whole))
    signals = killed_at(killed)
    assert len(signals) >= 12
    assert {name: found for name, found in signals.items() if found != signal.SIGKILL} == {"nowhere": 0}
    monkeypatch.chdir(killed.parent)
    with pytest.raises(ArtifactError, match=r"recommender\.json"):  # killed while the folder was replaced
        Recommender.from_pretrained("runs/toy")
    assert main(["run", str(killed)]) == 0
    assert checksums(Path("runs/toy")) == checksums(whole.parent / "runs" / "toy")
    cached = sorted(path.name for path in Path("runs/cache").iterdir() if path.suffix != ".lock")
    assert [name.split("-")[0] for name in cached] == sorted(STAGES)  # no half-built stage, no work folder
