"""A teacher from a recipe, then a student of it: an ordinary run with its cache, its folder and its card."""

from __future__ import annotations

import json
import shutil
import signal
import xml.etree.ElementTree
from pathlib import Path

import pytest
from toy_run import checksums, killed_at, make_base_model, write_recipe

from llmrec.cli import main
from llmrec.errors import ArtifactError, RecipeError
from llmrec.pipeline.run import check, load_evaluations, plan, run
from llmrec.recipe import distill_recipe, load_recipe
from llmrec.recommenders.base import Recommender

QUICK = [
    "distill.student.layers=1",
    "distill.batch_tokens=null",
    "distill.patience=null",
    "distill.args={use_cpu: true, bf16: false, gradient_checkpointing: false, disable_tqdm: true, "
    "per_device_train_batch_size: 8, num_train_epochs: 3, learning_rate: 1e-3, logging_steps: 1}",
]


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run `toy` and its student `toy_student`."""
    here = tmp_path_factory.mktemp("taught")
    recipe = write_recipe(here, make_base_model(tmp_path_factory.mktemp("base")))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        run(load_recipe(recipe))
        assert main(["distill", "runs/toy", *QUICK]) == 0
    return here


@pytest.fixture
def there(taught: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(taught)
    return taught


def to_do(*overrides: str) -> list[str]:
    planned = plan(distill_recipe(Path("runs/toy"), [*QUICK, *overrides]))
    return [stage.title for stage in planned.stages if not planned.cache.has(stage)]


@pytest.mark.usefixtures("there")
def test_the_folder_is_an_ordinary_one(capsys: pytest.CaptureFixture[str]) -> None:
    student, teacher = (Recommender.from_pretrained(f"runs/{name}") for name in ("toy_student", "toy"))
    assert student.recommend([[1, 2]], k=5).rows.min() >= 0
    assert len(student.model.get_decoder().layers) == 1 < len(teacher.model.get_decoder().layers)
    assert student.decoding == teacher.decoding
    figures = json.loads(Path("runs/toy_student/eval.json").read_text())
    assert main(["evaluate", "runs/toy_student", "--json"]) == 0
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert again["metrics"] == figures["test"]["metrics"]
    assert figures["baselines"]["teacher"] == json.loads(Path("runs/toy/eval.json").read_text())["test"]


@pytest.mark.usefixtures("there")
def test_the_card_states_teacher_ratio_and_quality_kept() -> None:
    figures = json.loads(Path("runs/toy_student/eval.json").read_text())
    found, card = figures["distillation"], Path("runs/toy_student/README.md").read_text()
    sizes = {
        name: Recommender.from_pretrained(f"runs/{name}").model.num_parameters() for name in ("toy", "toy_student")
    }
    assert found["parameters"] == {"teacher": sizes["toy"], "student": sizes["toy_student"]}
    assert found["ratio"] == sizes["toy_student"] / sizes["toy"]
    own, theirs = figures["test"]["metrics"], figures["baselines"]["teacher"]["metrics"]
    assert found["kept"]["ndcg@10"] == own["ndcg@10"] / theirs["ndcg@10"]
    assert "`toy`" in card
    assert f"{found['ratio'] * 100:.1f}% of its teacher's" in card
    assert f"{found['kept']['ndcg@10'] * 100:.1f}% ndcg@10" in card
    assert "| teacher |" in card


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize(
    ("override", "rebuilt"),
    [
        ("name=other", []),
        ("evaluation.ks=[3, 10]", ["teacher", "evaluate"]),
        ("evaluation.users=7", ["teacher", "evaluate"]),
        ("seed=3", ["train", "teacher", "evaluate"]),  # which draws other users to ask
        ("distill.losses.labels=0.2", ["train", "evaluate"]),
        ("decoding.beams=9", ["train", "evaluate"]),
    ],
)
def test_only_what_depends_on_a_change_is_built_again(override: str, rebuilt: list[str]) -> None:
    assert to_do(override) == rebuilt


@pytest.mark.usefixtures("there")
def test_the_teacher_is_measured_once_for_students_of_every_seed() -> None:
    everyone, some = "evaluation.users=null", "evaluation.users=7"
    keys = {
        (users, seed): plan(distill_recipe(Path("runs/toy"), [*QUICK, users, f"seed={seed}"])).stage("teacher").key
        for users in (everyone, some)
        for seed in (1, 2)
    }
    assert keys[everyone, 1] == keys[everyone, 2]
    assert keys[some, 1] != keys[some, 2]  # these are other questions


def test_another_teacher_is_another_student(there: Path, tmp_path: Path) -> None:
    other = tmp_path / "toy"
    shutil.copytree("runs/toy", other)
    (other / "README.md").write_text("other words")
    recipes = [distill_recipe(folder, QUICK) for folder in (Path("runs/toy"), other)]
    assert plan(recipes[0]).train.key == plan(recipes[1]).train.key  # the same content
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (other / "model.safetensors").write_bytes(weights)
    assert plan(recipes[0]).train.key != plan(recipes[1]).train.key


@pytest.mark.usefixtures("there")
def test_the_plan_and_what_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["distill", "runs/toy", *QUICK, "--dry-run", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["plan"]
    assert [(row["stage"], row["cached"]) for row in rows] == [
        *(("data", True), ("train", True), ("teacher", True), ("evaluate", True))
    ]
    assert main(["distill", "runs/toy", *QUICK, "--json"]) == 0
    printed = capsys.readouterr().out
    assert "student: " in printed
    assert json.loads(printed.splitlines()[-1])["distillation"]["teacher"] == "toy"
    found = load_evaluations(plan(distill_recipe(Path("runs/toy"), QUICK)))
    assert list(found) == ["llm", "popularity", "markov", "teacher"]


def test_a_student_can_be_measured_without_its_teacher(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("runs/toy").rename("runs/gone")
    try:
        assert main(["evaluate", "runs/toy_student"]) == 0
        with pytest.raises(RecipeError, match="there is no folder"):
            run(load_recipe("runs/toy_student/recipe.yaml", ["seed=5"]))
    finally:
        Path("runs/gone").rename("runs/toy")


@pytest.mark.usefixtures("there")
def test_mistakes_are_answered() -> None:
    with pytest.raises(RecipeError, match=r"distill\.student\.layer: unknown setting\. Did you mean 'layers'"):
        check(distill_recipe(Path("runs/toy"), ["distill.student.layer=1"]))
    with pytest.raises(RecipeError, match=r"distill\.args: .*betta"):
        check(distill_recipe(Path("runs/toy"), ["distill.args.betta=1"]))
    with pytest.raises(RecipeError, match=r"recipe\.yaml is missing"):
        distill_recipe(Path("runs/cache"))
    with pytest.raises(ArtifactError, match="other items"):
        run(distill_recipe(Path("runs/toy"), [*QUICK, "data.items=25"]))


@pytest.mark.usefixtures("there")
def test_the_study_measures_every_depth_once(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["distill", "runs/toy", *QUICK, "--study", "--json", "--output", "study"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["layers"] for row in found["depths"]] == [1, 2]
    assert found["depths"][0]["parameters"] < found["depths"][1]["parameters"]
    assert {key: found[key] for key in ("teacher", "epochs", "depths")} == json.loads(
        Path("study/depth.json").read_text()
    )
    chart = xml.etree.ElementTree.parse("study/depth.svg").getroot()
    assert len(chart.findall("{http://www.w3.org/2000/svg}polyline")) == 2
    before = Path("study/depth-1.json").stat().st_mtime_ns
    assert main([*words[:-3], "--output", "study", "--depths", "1"]) == 0
    assert Path("study/depth-1.json").stat().st_mtime_ns == before
    assert f"{found['depths'][0]['trained']:.4f}" in capsys.readouterr().out
    assert main([*words[:-3], "--output", "study", "--depths", "1,7"]) == 1
    assert "7 layers were asked for" in capsys.readouterr().err


def test_a_killed_distillation_continues_to_the_same_bytes(
    there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL while the teacher is asked, before and after a checkpoint, in one, and in the model folder."""
    for part in ("runs/toy", *(str(path) for path in Path("runs/cache").glob("data-*"))):
        shutil.copytree(there / part, tmp_path / part)
    recipe = tmp_path / "student.yaml"
    recipe.write_text(distill_recipe(Path("runs/toy"), QUICK).to_yaml())
    points = [
        "distill: while the teacher is asked",
        "train: before the first checkpoint",
        "train: after the first checkpoint",
        "train: in the middle of a checkpoint",
        "train: in the model folder",
    ]
    assert killed_at(recipe, *points) == dict.fromkeys(points, signal.SIGKILL)
    monkeypatch.chdir(tmp_path)
    assert main(["run", str(recipe)]) == 0
    assert checksums(tmp_path / "runs" / "toy_student") == checksums(there / "runs" / "toy_student")
