"""Model cards: what they say, whether the Hub takes them, and that they say nothing else."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hub_server import HubServer, check_metadata
from huggingface_hub import ModelCard, metadata_eval_result, metadata_load
from huggingface_hub.repocard_data import model_index_to_eval_results
from huggingface_hub.utils import get_session
from worlds import TinyWorld

from llmrec import artifact, cli
from llmrec.card import answers_of, facts_of, weak_slices, write_card
from llmrec.errors import ArtifactError
from llmrec.recipe import CardRecipe
from llmrec.recommenders.llm import LLMRecommender
from llmrec.tasks.next_item import NextItemTask
from llmrec.tasks.template import PromptTemplate


def measured(ndcg: float, **more: Any) -> dict[str, Any]:
    counts = dict.fromkeys(("invalid", "duplicates", "excluded_returned", "unfilled", "unreachable", "exact"), 0)
    metrics = {"hr@5": 0.1, "ndcg@5": ndcg / 2, "mrr@5": 0.05, "hr@10": 0.2, "ndcg@10": ndcg, "mrr@10": 0.06}
    return {"metrics": metrics, "protocol": "full ranking: 3 | 4", "examples": 900, "users": 900, **counts, **more}


def part(name: str, value: float, low: float, high: float) -> dict[str, Any]:
    of = {"metrics": {"ndcg@10": value}, "intervals": {"ndcg@10": [low, high]}}
    return {"slice": name, "examples": 90, "users": 90, **of}


FULL = {
    "intervals": {"hr@10": [0.18, 0.22], "ndcg@10": [0.085, 0.115]},
    "slices": {
        "history_length": [part("1-5", 0.05, 0.03, 0.07), part("6-10", 0.09, 0.07, 0.12)],
        "category": [part("<b>|\nTo[y]s", 0.02, 0.0, 0.04), part("Pens", 0.3, 0.2, 0.4)],
    },
    "popularity": {"popularity_lift": 0.6931, "novelty": 9.5, "coverage": 0.25, "concentration": 0.8},
}
RECIPE = {
    "name": "shop",
    "seed": 3,
    "data": {"kind": "table", "root": "/home/mallory/hidden place/tables"},
    "index": {"kind": "rqkmeans"},
    "model": {"name": "HuggingFaceTB/SmolLM2-135M-Instruct", "layers": 2},
    "train": {"kind": "sft"},
    "align": {"sdpo": {"kind": "dpo"}, "off": None},
    "card": {"data_license": "words of a recipe", "language": ["en"]},
}
MADE = {
    "seconds": {"data": 1.0, "train": 90.0},
    "answers": {"questions": 900, "seconds": 30.0},
    "machine": "A Processor, 2 threads",
    "versions": {"llmrec": "0.1.0", "torch": "2.13.0"},
}


@pytest.fixture
def folder(tiny_world: TinyWorld, tmp_path: Path) -> Path:
    """A model as `llmrec run` leaves it, with everything measured."""
    folder = tmp_path / "model"
    template = PromptTemplate("Next:{% for item in history %}{{ item.code }}{% endfor %}")
    task = NextItemTask(template, tiny_world.catalog, tiny_world.items, 8)
    LLMRecommender(tiny_world.model, task).save_pretrained(folder)
    figures = {"test": measured(0.1, **FULL), "valid": {"ndcg@10": 0.1}, "baselines": {"markov": measured(0.07)}}
    (folder / artifact.EVALUATION).write_text(json.dumps(figures))
    (folder / artifact.RECIPE).write_text(yaml.safe_dump(RECIPE))
    (folder / artifact.MADE).write_text(json.dumps(MADE))
    return folder


def text_of(folder: Path, **answers: Any) -> str:
    write_card(folder, CardRecipe(**answers))
    return (folder / artifact.CARD).read_text()


def test_the_hub_takes_it_and_reads_the_same_results(folder: Path, hub: HubServer, cache: Path) -> None:
    text_of(folder, license="other", license_name="mine", license_link="LICENSE", datasets=("alice/clicks",))
    card = ModelCard.load(folder / artifact.CARD)
    card.validate()
    while not hub.requests:  # recorded just behind the answer
        time.sleep(0.01)
    assert [(request.path, request.status) for request in hub.requests] == [("/api/validate-yaml", 200)]
    data = card.data
    assert (data.base_model, data.library_name) == ("HuggingFaceTB/SmolLM2-135M-Instruct", "llmrec")
    assert (data.pipeline_tag, data.datasets, data.language) == ("text-generation", ["alice/clicks"], ["en"])
    assert (data.license, data.license_name, data.license_link) == ("other", "mine", "LICENSE")
    assert {"recommender-system", "sequential-recommendation", "llmrec"} <= set(data.tags)
    found = {result.metric_type: result.metric_value for result in data.eval_results}
    assert found == measured(0.1)["metrics"]
    name, results = model_index_to_eval_results(metadata_load(folder / artifact.CARD)["model-index"])
    assert name == "shop"
    assert results == data.eval_results
    assert ModelCard(str(card)).data.to_dict() == data.to_dict()


def test_a_result_is_as_the_hub_s_own_function_writes_it(folder: Path) -> None:
    write_card(folder)
    (entry,) = metadata_load(folder / artifact.CARD)["model-index"][0]["results"]
    entry["metrics"] = [metric for metric in entry["metrics"] if metric["type"] == "hr@5"]
    theirs = metadata_eval_result(
        model_pretty_name="shop",
        task_pretty_name="next item",
        task_id="sequential-recommendation",
        metrics_pretty_name="HR@5",
        metrics_id="hr@5",
        metrics_value=0.1,
        dataset_pretty_name="tables",
        dataset_id="table",
        dataset_split="test",
    )
    entry["dataset"].pop("args")
    theirs["model-index"][0]["results"][0]["metrics"][0].pop("verified")  # false where nobody else has measured
    assert {"name": "shop", "results": [entry]} == theirs["model-index"][0]


def test_it_says_what_is_to_be_said(folder: Path) -> None:
    text = text_of(folder)
    headings = [
        "Use",
        "Intended use",
        "Training data",
        "Evaluation",
        "Where it is weak",
        "Popularity",
        "Size and speed",
    ]
    for heading in [*headings, "Provenance"]:
        assert f"# {heading}\n" in text, heading
    for words in (
        "Licence of the training data: words of a recipe.",
        "full ranking: 3 | 4",
        "| shop | 0.1000 | 0.0500 | 0.2000 [0.1800, 0.2200] | 0.1000 [0.0850, 0.1150] |",
        "| markov | 0.1000 | 0.0350 | 0.2000 | 0.0700 |",
        "2.00 times the train events",
        "it leans on what is popular",
        "25.0% of the catalog",
        "Training took 1.5 minutes on A Processor, 2 threads.",
        "30.0 questions a second",
        "catalog of 20 items",
        "training `sft`, then `sdpo` (`dpo`), seed 3",
        "(its first 2 layers)",
        "Versions: llmrec 0.1.0, torch 2.13.0.",
        "AutoModelForCausalLM.from_pretrained",
        "vllm serve",
    ):
        assert words in text, words
    facts = facts_of(folder)
    assert f"{facts['parameters']:,} parameters" in text
    assert facts["hashes"]["prompt.jinja"] in text
    assert "\n\n\n" not in text


def test_only_slices_that_are_surely_below_are_called_weak(folder: Path) -> None:
    weak = weak_slices(json.loads((folder / artifact.EVALUATION).read_text())["test"])
    assert [found["slice"] for found in weak] == ["<b>|\nTo[y]s", "1-5"]
    text = text_of(folder)
    assert r"| category | \<b\>\| To\[y\]s | 90 | 0.0200 [0.0000, 0.0400] |" in text
    assert "| history length | 1-5 | 90 | 0.0500 [0.0300, 0.0700] |" in text
    assert "Pens" not in text


def test_what_was_not_measured_is_said(folder: Path) -> None:
    figures = {"test": measured(0.1), "valid": {"ndcg@10": 0.1}, "baselines": {}}
    (folder / artifact.EVALUATION).write_text(json.dumps(figures))
    text = text_of(folder)
    assert "Not measured by groups of questions." in text
    assert "### Popularity\n\nNot measured." in text
    assert "intervals" not in text
    figures["test"]["slices"] = {"target_age": [part("cold", 0.1, 0.05, 0.2)]}
    (folder / artifact.EVALUATION).write_text(json.dumps(figures))
    assert "No group of questions that was looked at (by target age) is below the rest" in text_of(folder)
    for name in (artifact.EVALUATION, artifact.RECIPE, artifact.MADE, artifact.CARD):
        (folder / name).unlink()
    text = text_of(folder)
    assert "# model\n" in text
    assert "Not measured: this folder has no `eval.json`." in text
    assert "Licence of the training data: **not stated**." in text
    assert check_metadata(text) == ([], [])


def test_answers_that_were_given_stay(folder: Path) -> None:
    write_card(folder)
    assert answers_of(folder) == CardRecipe(data_license="words of a recipe", language=("en",))
    write_card(folder, CardRecipe(data_license="cc-by-4.0", license="mit"))
    known = write_card(folder, CardRecipe(data_link="https://example.org"))
    expected = CardRecipe(data_license="cc-by-4.0", data_link="https://example.org", license="mit", language=("en",))
    assert known == answers_of(folder) == expected


def test_no_place_of_this_machine_is_told(folder: Path, tmp_path: Path) -> None:
    recipe = {**RECIPE, "model": {"name": str(tmp_path / "private" / "base")}}
    (folder / artifact.RECIPE).write_text(yaml.safe_dump(recipe))
    text = text_of(folder)
    assert "from `base`" in text
    assert "base_model" not in text
    for secret in ("mallory", "hidden place", "private", str(tmp_path)):
        assert secret not in text


def test_answers_cannot_break_the_metadata(folder: Path) -> None:
    words = 'a: b\n---\nlicense: mit # "x" {y}'
    text = text_of(folder, data_license=words)
    assert check_metadata(text) == ([], [])
    assert answers_of(folder).data_license == words
    assert "license" not in metadata_load(folder / artifact.CARD)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"license": "free"}, '"license" must be one of'),
        ({"base_model": "/tmp/base"}, '"base_model"'),
        ({"datasets": ["a b"]}, '"datasets"'),
        ({"language": "english"}, '"language"'),
        ({"tags": [3]}, '"tags"'),
        ({"model-index": [{"name": "x", "results": []}]}, "results"),
        ({"model-index": [{"name": "x", "results": [{"task": {"type": "t"}, "metrics": []}]}]}, "dataset.type"),
        (
            {"model-index": [{"name": "x", "results": [{"metrics": [{"type": "hr"}]}]}]},
            "metrics.value",
        ),
    ],
)
def test_the_validator_knows_a_bad_card(change: dict[str, Any], told: str, hub: HubServer, cache: Path) -> None:
    text = f"---\n{yaml.safe_dump(change)}---\n\n# x\n"
    answer = get_session().post(f"{hub.url}/api/validate-yaml", json={"content": text, "repoType": "model"})
    assert answer.status_code == 400
    assert any(told in error["message"] for error in answer.json()["errors"])


def test_damaged_files_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no model folder: it has no recommender\.json"):
        write_card(tmp_path)
    (folder / artifact.CARD).write_text("---\na: [\n---\n")
    with pytest.raises(ArtifactError, match=r"README\.md has metadata that are no YAML"):
        write_card(folder)
    (folder / artifact.CARD).unlink()
    (folder / artifact.EVALUATION).write_text("{")
    with pytest.raises(ArtifactError, match=r"eval\.json cannot be read"):
        write_card(folder)


def test_the_command_line_writes_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["card", str(folder), "--data-license", "cc0-1.0", "--license", "apache-2.0", "--json"]
    assert cli.main(words) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["file"] == str(folder / "README.md")
    assert (found["data_license"], found["license"]) == ("cc0-1.0", "apache-2.0")
    assert "Licence of the training data: cc0-1.0." in (folder / "README.md").read_text()
