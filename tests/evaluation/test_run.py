"""A run comes back from the disk as it was, without its model, and compares only with answers to its own questions."""

from __future__ import annotations

import doctest
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llmrec.data.catalog import Catalog
from llmrec.data.split import Examples, Split, leave_one_out
from llmrec.errors import ArtifactError, DataError
from llmrec.evaluation import run as runs
from llmrec.evaluation.run import Run, check_comparable, compare, digest, folder_facts, measure
from llmrec.recommenders.ease import EASE
from llmrec.recommenders.markov import Markov
from llmrec.recommenders.popularity import Popularity
from llmrec.sources.synthetic import SyntheticSource
from llmrec.types import Ragged

World = tuple[Catalog, Split]


@pytest.fixture(scope="module")
def world() -> World:
    dataset = SyntheticSource(users=80, items=30).load()
    return dataset.catalog, leave_one_out(dataset.interactions)


def asked(world: World, name: str = "markov", exclude_seen: bool = True) -> Run:
    catalog, split = world
    recommender = {"markov": Markov(), "popularity": Popularity()}[name].fit(split.train, catalog)
    facts = {"parameters": 3}
    return measure(name, recommender, split.test, (1, 5), exclude_seen, facts, split=split.protocol, progress=False)


def test_docstring_examples_run() -> None:
    result = doctest.testmod(runs)
    assert result.attempted >= 1
    assert result.failed == 0


def test_a_run_comes_back_as_it_was(world: World, tmp_path: Path) -> None:
    run = asked(world)
    run.save(tmp_path / "markov")
    again = Run.load(tmp_path / "markov")
    assert (again.name, again.questions, again.facts) == (run.name, run.questions, {"parameters": 3})
    assert again.evaluation == run.evaluation
    for name in ("ranks", "rows", "scores"):
        np.testing.assert_array_equal(getattr(again.evaluation, name), getattr(run.evaluation, name))
    assert list(again.evaluation.per_example) == list(run.evaluation.per_example)
    for name, values in run.evaluation.per_example.items():
        np.testing.assert_array_equal(again.values(name), values)
    assert [list(h) for h in again.examples.histories] == [list(h)[-50:] for h in world[1].test.histories]
    assert [list(t) for t in again.examples.targets] == [list(t) for t in world[1].test.targets]
    np.testing.assert_array_equal(again.examples.gaps, world[1].test.gaps)
    assert again.catalog.title(3) == world[0].title(3)
    assert sorted(path.name for path in (tmp_path / "markov").iterdir()) == sorted(
        [runs.HEAD, runs.ANSWERS, runs.ITEMS]
    )


def test_a_run_keeps_what_was_recommended(world: World) -> None:
    evaluation = asked(world).evaluation
    assert evaluation.rows.shape == evaluation.scores.shape == (80, 5)
    first = evaluation.rows[:, 0] == world[1].test.targets.values
    assert evaluation.metrics["hr@1"] == first.mean() > 0
    assert (np.diff(evaluation.scores, axis=1) <= 0).all()


def test_only_the_last_items_of_a_history_are_kept_but_all_are_asked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = asked(world)
    monkeypatch.setattr(runs, "SHOWN_HISTORY", 2)
    short = asked(world)
    assert short.examples.histories.lengths.max() == 2
    assert [list(h) for h in short.examples.histories] == [list(h)[-2:] for h in world[1].test.histories]
    assert short.questions == whole.questions
    assert short.evaluation.metrics == whole.evaluation.metrics


def test_saving_over_a_run_replaces_it(world: World, tmp_path: Path) -> None:
    asked(world).save(tmp_path / "run")
    asked(world, "popularity").save(tmp_path / "run")
    assert Run.load(tmp_path / "run").name == "popularity"


@pytest.mark.parametrize("missing", [runs.HEAD, runs.ANSWERS, runs.ITEMS])
def test_an_incomplete_run_is_refused(world: World, tmp_path: Path, missing: str) -> None:
    asked(world).save(tmp_path / "run")
    (tmp_path / "run" / missing).unlink()
    with pytest.raises(ArtifactError, match="is not a run"):
        Run.load(tmp_path / "run")


def test_a_damaged_run_is_refused(world: World, tmp_path: Path) -> None:
    asked(world).save(tmp_path / "run")
    head = json.loads((tmp_path / "run" / runs.HEAD).read_text())
    del head["evaluation"]["protocol"]
    (tmp_path / "run" / runs.HEAD).write_text(json.dumps(head))
    with pytest.raises(ArtifactError, match="protocol"):
        Run.load(tmp_path / "run")


def test_two_runs_are_compared_by_user(world: World) -> None:
    markov, popularity = asked(world), asked(world, "popularity")
    found = compare(markov, popularity, "ndcg@5")
    means = markov.evaluation.metrics["ndcg@5"], popularity.evaluation.metrics["ndcg@5"]
    assert found.difference == pytest.approx(means[0] - means[1])
    assert found.low < found.difference < found.high
    assert found.users == 80
    turned = compare(popularity, markov, "ndcg@5")
    assert turned.difference == pytest.approx(-found.difference)
    assert turned.p_value == pytest.approx(found.p_value)


def test_other_questions_cannot_be_compared(world: World) -> None:
    catalog, split = world
    fewer = (catalog, replace(split, test=split.test.sample(40, 0)))
    with pytest.raises(DataError, match=r"different questions: 80 over 30 items .*, 40 over 30 .*one sample"):
        compare(asked(world), asked(fewer), "ndcg@5")
    other_sample = (catalog, replace(split, test=split.test.sample(40, 1)))
    with pytest.raises(DataError, match="different questions"):
        check_comparable([asked(fewer), asked(fewer), asked(other_sample)])


def test_another_protocol_cannot_be_compared(world: World) -> None:
    with pytest.raises(DataError, match=r"measured differently: .*seen items excluded.*seen items allowed"):
        compare(asked(world), asked(world, exclude_seen=False), "ndcg@5")


def test_an_unknown_metric_is_named(world: World) -> None:
    with pytest.raises(DataError, match=r"no metric 'ndcg@50'. Did you mean 'ndcg@5'"):
        compare(asked(world), asked(world), "ndcg@50")


def test_the_digest_sees_every_part_of_a_question(world: World) -> None:
    catalog = world[0]
    users, lists, targets = np.array([0, 1], np.int32), Ragged.from_lists([[1], [2, 3]]), Ragged.from_lists([[4], [5]])
    questions = Examples(users, lists, targets)
    others = [
        (replace(questions, users=np.array([0, 2], np.int32)), catalog),
        (replace(questions, histories=Ragged.from_lists([[1, 2], [3]])), catalog),
        (replace(questions, targets=Ragged.from_lists([[4], [6]])), catalog),
        (questions, catalog.take(np.arange(len(catalog))[::-1])),
    ]
    found = {digest(*other) for other in [(questions, catalog), *others]}
    assert len(found) == 5
    assert digest(questions.take(np.array([0, 1])), catalog) == digest(questions, catalog)


def test_the_facts_of_a_folder_are_read_without_loading_it(world: World, tmp_path: Path) -> None:
    catalog, split = world
    EASE().fit(split.train, catalog).save_pretrained(tmp_path / "ease")
    facts = folder_facts(tmp_path / "ease")
    assert facts["kind"] == "ease"
    assert facts["parameters"] == 30 * 30 + 30  # item by item, and what orders users without a history
    assert facts["bytes"] == (tmp_path / "ease" / "model.safetensors").stat().st_size
    with pytest.raises(ArtifactError):
        folder_facts(tmp_path)
