"""SFT, then alignment: each stage is cached, every stage is measured, and the best on validation is kept."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from toy_run import checksums, killed_at, make_base_model, write_recipe

from llmrec.cli import main
from llmrec.errors import RecipeError
from llmrec.evaluation import protocol
from llmrec.pipeline import stages
from llmrec.pipeline.run import check, load_evaluations, plan, run
from llmrec.recipe import load_recipe
from llmrec.recommenders.base import Recommender

ALIGN = """
align:
  first:
    kind: dpo
    tuning: {tuning}
    lora: {{r: 4}}
    preferences: {{negatives: [{{kind: beams, count: 2}}, {{kind: uniform, count: 2}}]}}
    args: &args
      use_cpu: true
      bf16: false
      gradient_checkpointing: false
      disable_tqdm: true
      per_device_train_batch_size: 8
      num_train_epochs: 3
      learning_rate: 1e-3
  second:
    kind: dpo
    loss: trl
    preferences: {{negatives: {{kind: popularity}}}}
    args: {{<<: *args, num_train_epochs: 1}}
"""
GRPO = """
align:
  first:
    kind: grpo
    lora: {r: 4}
    rollouts: samples
    args:
      use_cpu: true
      bf16: false
      gradient_checkpointing: false
      disable_tqdm: true
      num_generations: 4
      per_device_train_batch_size: 28
      num_train_epochs: 3
      learning_rate: 1e-3
      beta: 0.04
"""
ROUNDS = """
align:
  first:
    kind: rounds
    rounds: 2
    tuning: full
    choices: {share: 1.0}
    beams: 6
    judged: {chosen: observed, rejected: 2}
    rewards: [{kind: next_item}, {kind: recommender, weight: 0.1, model: {kind: markov}}]
    args:
      use_cpu: true
      bf16: false
      gradient_checkpointing: false
      disable_tqdm: true
      per_device_train_batch_size: 8
      num_train_epochs: 3
      learning_rate: 1e-3
"""


def write(folder: Path, base: Path, tuning: str = "lora") -> Path:
    path = write_recipe(folder, base)
    path.write_text(path.read_text() + ALIGN.format(tuning=tuning))
    return path


def write_one(folder: Path, base: Path, stage: str) -> Path:
    """One stage of alignment, of 4 steps an epoch."""
    if whole := {"grpo": GRPO, "rounds": ROUNDS}.get(stage):
        path = write_recipe(folder, base)
        path.write_text(path.read_text() + whole)
    else:
        path = write(folder, base, stage.removeprefix("dpo "))
        path.write_text(path.read_text().split("  second:")[0].replace("&args", ""))
    return path


class Finished(NamedTuple):
    recipe: Path
    summary: dict[str, Any]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def finished(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    here = tmp_path_factory.mktemp("finished")
    recipe = write(here, base)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        return Finished(recipe, run(load_recipe(recipe)))


@pytest.fixture
def there(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> Finished:
    monkeypatch.chdir(finished.recipe.parent)
    return finished


def to_do(recipe: Path, *overrides: str) -> list[str]:
    planned = plan(load_recipe(recipe, overrides))
    return [stage.title for stage in planned.stages if not planned.cache.has(stage)]


def test_the_best_on_validation_is_what_the_folder_holds(there: Finished) -> None:
    planned, figures = plan(load_recipe(there.recipe)), json.loads(Path("runs/toy/eval.json").read_text())
    assert list(figures["stages"]) == list(planned.models) == ["train", "first", "second"]
    scores = {name: found["valid"]["metrics"]["ndcg@10"] for name, found in figures["stages"].items()}
    best = figures["best_stage"]
    assert scores[best] == max(scores.values()) == there.summary["valid"]["ndcg@10"]
    assert figures["test"] == figures["stages"][best]["test"]
    of_stage = planned.cache.get(planned.models[best]) / "model" / "model.safetensors"
    assert of_stage.read_bytes() == Path("runs/toy/model.safetensors").read_bytes()
    assert there.summary["best_stage"] == best
    assert there.summary["stages"]["second"]["seconds"] > 0
    assert Recommender.from_pretrained("runs/toy").recommend([[1, 2]], k=5).rows.min() >= 0


def test_every_stage_went_on_from_the_one_before(there: Finished) -> None:
    planned = plan(load_recipe(there.recipe))
    weights = [(planned.cache.get(s) / "model" / "model.safetensors").read_bytes() for s in planned.models.values()]
    assert len(set(weights)) == 3
    logs = [json.loads((planned.cache.get(s) / "training.json").read_text()) for s in planned.models.values()]
    assert [log.get("preferences", 0) > 0 for log in logs] == [False, True, True]


@pytest.mark.parametrize("winner", ["train", "first", "second"])
def test_the_guard_keeps_whichever_is_best(
    there: Finished, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, winner: str
) -> None:
    """Also when test says otherwise, and also the first when alignment made it worse."""
    planned = plan(load_recipe(there.recipe))
    folders = {name: planned.cache.get(stage) for name, stage in planned.models.items()}
    order = iter([(name, part) for name in folders for part in ("test", "valid")])
    measure = protocol.evaluate

    def told(recommender: Any, *args: Any, **kwargs: Any) -> Any:
        found = measure(recommender, *args, **kwargs)
        if type(recommender).__name__ == "LLMRecommender":
            name, part = next(order)
            found.metrics["ndcg@10"] = 0.5 if (name == winner) == (part == "valid") else 0.4
        return found

    monkeypatch.setattr(protocol, "evaluate", told)
    recipe = load_recipe(there.recipe)
    stages.evaluate(recipe, planned.cache.get(planned.data), folders, tmp_path)
    figures = json.loads((tmp_path / "eval.json").read_text())
    assert figures["best_stage"] == winner
    assert figures["test"] == figures["stages"][winner]["test"]


def test_of_equal_stages_the_first_is_kept() -> None:
    same = {"valid": {"metrics": {"ndcg@10": 0.2}}}
    assert stages._best({"train": same, "more": same}) == "train"


def test_the_card_shows_every_stage(there: Finished) -> None:
    card = Path("runs/toy/README.md").read_text()
    for name, found in there.summary["stages"].items():
        (line,) = [line for line in card.splitlines() if line.startswith(f"| {name}")]
        assert f"{found['valid']['ndcg@10']:.4f}" in line
        assert f"{found['test']['ndcg@10']:.4f}" in line
        assert ("(kept)" in line) == (name == there.summary["best_stage"])
    assert ("Alignment did not help" in card) == (there.summary["best_stage"] == "train")


def test_what_was_measured_can_be_read_again(there: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    found = load_evaluations(plan(load_recipe(there.recipe)))
    others = [f"llm ({name})" for name in ("train", "first", "second") if name != there.summary["best_stage"]]
    assert list(found) == ["llm", *others, "popularity", "markov"]
    assert main(["run", str(there.recipe)]) == 0
    assert f"kept: {there.summary['best_stage']}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("override", "rebuilt"),
    [
        ("name=other", []),
        ("evaluation.ks=[3, 10]", ["evaluate"]),
        ("align.second.args.num_train_epochs=2", ["align second", "evaluate"]),
        ("align.first.args.beta=0.3", ["align first", "align second", "evaluate"]),
        ("align.second=null", ["evaluate"]),
        ("train.args.num_train_epochs=1", ["train", "align first", "align second", "evaluate"]),
    ],
)
def test_only_what_depends_on_a_change_is_built_again(there: Finished, override: str, rebuilt: list[str]) -> None:
    assert to_do(there.recipe, override) == rebuilt


def test_without_align_a_run_is_as_it_was(there: Finished, base: Path, tmp_path: Path) -> None:
    plain = write_recipe(tmp_path, base)
    assert to_do(plain) == ["evaluate"]  # the trained model is shared
    assert "stages" not in run(load_recipe(plain, ["name=plain"]))
    assert "stages" not in json.loads(Path("runs/plain/eval.json").read_text())
    assert "stages" not in Path("runs/plain/README.md").read_text()


def test_the_plan_and_the_verb_train_know_the_stages(there: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(there.recipe), "--dry-run", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["plan"]
    assert [row["stage"] for row in rows] == ["data", "index", "train", "align first", "align second", "evaluate"]
    assert main(["train", str(there.recipe), "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["plan"] == rows[:-1]


def test_a_longer_log_of_exposures_is_another_stage(there: Finished, tmp_path: Path) -> None:
    log, keys = tmp_path / "log.csv", []
    for lines in ("", "u1,i2,3\n"):
        log.write_text("user_id,item_id,timestamp\n" + lines)
        negatives = f"align.first.preferences.negatives={{kind: exposures, path: {log}}}"
        keys.append(plan(load_recipe(there.recipe, [negatives])).aligned["first"].key)
    assert keys[0] != keys[1]


def test_grpo_is_a_stage_like_any_other(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = write_one(tmp_path, base, "grpo")
    summary = run(load_recipe(recipe))
    assert list(summary["stages"]) == ["train", "first"]
    planned = plan(load_recipe(recipe))
    log = json.loads((planned.cache.get(planned.aligned["first"]) / "training.json").read_text())
    assert (log["choices"], log["stopped"]) == (30, None)
    assert [entry["kl"] for entry in log["history"] if "kl" in entry]
    rewards = "align.first.rewards=[{kind: next_item}, {kind: diversity, weight: 0.1}]"
    assert to_do(recipe, rewards) == ["align first", "evaluate"]
    assert to_do(recipe, "align.first.choices={share: 0.5}") == ["align first", "evaluate"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("align.first={kind: grpo, rewards: {kind: nxt_item}}", r"no reward 'nxt_item'\. Did you mean 'next_item'"),
        ("align.train={kind: dpo}", "'train' cannot name a stage"),
        ("align.kind=dpo", r"align"),
        ("align.first.los=dpo", r"align\.first\.los: unknown setting\. Did you mean 'loss'"),
        ("align.first.kind=dop", r"no trainer 'dop'\. Did you mean 'dpo'"),
        ("align.first.args.betta=1", r"align\.args: .*betta"),
    ],
)
def test_mistakes_are_answered(there: Finished, override: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        check(load_recipe(there.recipe, [override]))


@pytest.mark.parametrize("stage", ["dpo lora", "dpo full", "grpo", "rounds"])
def test_a_killed_alignment_continues_to_the_same_bytes(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """SIGKILL before and after a checkpoint of the alignment, in one, and in its model folder."""
    folders = {name: tmp_path / name for name in ("whole", "killed")}
    recipes = {name: write_one(folder, base, stage) for name, folder in folders.items()}
    monkeypatch.chdir(folders["whole"])
    run(load_recipe(recipes["whole"]))
    points = ["align: before the first checkpoint", "align: after the first checkpoint", "align: in a checkpoint"]
    points.append("align: in the model folder")
    assert killed_at(recipes["killed"], *points) == dict.fromkeys(points, signal.SIGKILL)
    monkeypatch.chdir(folders["killed"])
    assert main(["run", str(recipes["killed"])]) == 0
    assert checksums(Path("runs/toy")) == checksums(folders["whole"] / "runs" / "toy")
