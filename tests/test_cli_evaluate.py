"""`llmrec evaluate` with several models: one table, one page, and answers that are kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmrec.cli import main
from llmrec.cli_evaluate import names_of, split_words
from llmrec.errors import LlmrecError
from llmrec.evaluation.run import Run
from llmrec.recommenders.popularity import Popularity

RECIPE = """
name: NAME
data: {kind: synthetic, users: 40, items: 24}
recommender: {kind: NAME}
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("models")
    for name in ("popularity", "markov"):
        file = here / f"{name}.yaml"
        file.write_text(RECIPE.replace("NAME", name))
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(here)
            assert main(["run", str(file)]) == 0
    return here


@pytest.fixture
def there(folders: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folders)
    return folders


@pytest.mark.usefixtures("there")
def test_two_models_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "runs/popularity", "runs/markov", "evaluation.ks=[3, 10]", "--report", str(tmp_path / "out")]
    assert main([*words, "--json"]) == 0
    printed = capsys.readouterr().out.splitlines()
    found = json.loads(printed[-1])
    assert list(found["models"]) == ["popularity", "markov"]
    assert found["report"] == str(tmp_path / "out" / "report.html")
    assert "No faults: every list is full, and its items are real, distinct and allowed." in printed
    page = (tmp_path / "out" / "report.html").read_text()
    for name, evaluation in found["models"].items():
        assert f">{name}<" in page
        assert f"{evaluation['metrics']['ndcg@10']:.4f}" in page
        assert evaluation["intervals"]["ndcg@10"]
    assert (tmp_path / "out" / "leaderboard.md").read_text().startswith("| model | ndcg@10 |")


@pytest.mark.usefixtures("there")
def test_answers_are_kept_until_something_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, recommend = [], Popularity.recommend

    def counted(self: Popularity, *args: object, **more: object) -> object:
        asked.append(len(args))
        return recommend(self, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Popularity, "recommend", counted)
    words = ["evaluate", "runs/popularity", "--report", str(tmp_path / "out")]
    assert main(words) == 0
    first, once = (tmp_path / "out" / "report.html").read_text(), len(asked)
    assert once > 0
    assert main(words) == 0
    assert len(asked) == once
    assert (tmp_path / "out" / "report.html").read_text() == first
    assert main([*words, "evaluation.users=9"]) == 0
    assert len(asked) > once
    again = len(asked)
    assert main(["evaluate", str(tmp_path / "out" / "runs" / "popularity"), "--report", str(tmp_path / "two")]) == 0
    assert len(asked) == again  # a run needs no model


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize("page", [True, False])
def test_models_with_other_questions_are_refused_before_any_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, page: bool
) -> None:
    assert main(["evaluate", "runs/markov", "evaluation.users=9", "--report", str(tmp_path / "few")]) == 0
    run = str(tmp_path / "few" / "runs" / "markov")
    monkeypatch.setattr(Popularity, "recommend", lambda *_, **__: pytest.fail("it was asked"))
    report = ["--report", str(tmp_path / "out")] if page else []
    assert main(["evaluate", "runs/popularity", run, *report]) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert "'popularity' and 'markov' would answer different questions: 40 questions of synthetic" in told
    assert "evaluation.users=500 seed=0 behind them" in told


@pytest.mark.usefixtures("there")
def test_models_that_are_measured_differently_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (other := tmp_path / "markov").mkdir()
    for file in Path("runs/markov").iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    recipe = (other / "recipe.yaml").read_text()
    (other / "recipe.yaml").write_text(recipe.replace("exclude_seen: true", "exclude_seen: false"))
    words = ["evaluate", "runs/popularity", str(other)]
    assert main(words) == 1
    told = "popularity has evaluation.exclude_seen=true, markov has evaluation.exclude_seen=false"
    assert told in capsys.readouterr().err
    assert main([*words, "evaluation.exclude_seen=true"]) == 0


@pytest.mark.usefixtures("there")
def test_a_run_says_what_is_needed_to_read_it_later(tmp_path: Path) -> None:
    assert main(["evaluate", "runs/popularity", "runs/markov", "--report", str(tmp_path / "out")]) == 0
    popularity, markov = (Run.load(tmp_path / "out" / "runs" / name) for name in ("popularity", "markov"))
    assert popularity.facts["data"] == markov.facts["data"] == "synthetic"
    assert popularity.facts["machine"]
    assert popularity.facts["milliseconds_alone"] > 0
    stated = popularity.evaluation.calibration
    assert stated["log_likelihood_interval"][0] < stated["log_likelihood"] < stated["log_likelihood_interval"][1] < 0
    assert markov.evaluation.calibration == {}  # counts are no probabilities
    page = (tmp_path / "out" / "report.html").read_text()
    assert popularity.facts["machine"] in page
    assert f"{stated['log_likelihood']:.3f}" in page


@pytest.mark.parametrize("price", ["0", "-1", "nan"])
def test_a_price_is_above_nothing(capsys: pytest.CaptureFixture[str], price: str) -> None:
    assert main(["evaluate", "runs/popularity", f"--price-per-hour={price}"]) == 1
    assert "--price-per-hour is" in capsys.readouterr().err


def test_words_are_models_or_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("beta=0.1").mkdir()
    assert split_words(["runs/a", "seed=3", "beta=0.1", "bob/b", "decoding.beams=9"]) == (
        ["runs/a", "beta=0.1", "bob/b"],
        ["seed=3", "decoding.beams=9"],
    )
    with pytest.raises(LlmrecError, match="no model is named"):
        split_words(["seed=3"])


def test_names_tell_models_apart() -> None:
    assert names_of(["runs/a", "old/a", "runs/b", "runs/b"]) == ["runs/a", "old/a", "b", "b (2)"]
    assert names_of(["runs/a"]) == ["a"]
