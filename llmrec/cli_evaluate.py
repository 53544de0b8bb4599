"""The verb `evaluate`: one model again, or several side by side, on the screen or as a page.

llmrec evaluate runs/shop evaluation.users=200
llmrec evaluate runs/shop runs/markov alice/demo --report out
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrec import artifact
from llmrec.cli_recommend import print_json, recipe_of
from llmrec.errors import LlmrecError

if TYPE_CHECKING:
    from llmrec.evaluation.run import Run

PAGE, TABLE, RUNS = "report.html", "leaderboard.md", "runs"


def add_arguments(evaluate: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    text = "model folders, runs of an earlier report, or user/name on the Hub; and dotted.key=value for their recipes"
    evaluate.add_argument("overrides", nargs="+", metavar="MODEL", help=text)
    evaluate.add_argument("--revision", help="of models on the Hub: a branch, a tag or a commit")
    evaluate.add_argument("--report", type=Path, metavar="FOLDER", help=f"write {PAGE}, {TABLE} and the runs there")
    text = "what an hour of this machine costs, for the cost of a thousand users on the page"
    evaluate.add_argument("--price-per-hour", type=float, metavar="X", help=text)
    evaluate.add_argument("--currency", default="$", help="of the price (default $)")


def evaluate(chosen: argparse.Namespace) -> None:
    """Measure, print the comparison, and write the page where one is wanted.

    Raises:
        LlmrecError: no model is named, or the models cannot be compared.
    """
    from dataclasses import replace

    from llmrec.evaluation.report import print_comparison
    from llmrec.evaluation.run import HEAD, Run, check_comparable
    from llmrec.hub import local_folder
    from llmrec.pipeline.run import plan
    from llmrec.pipeline.side_by_side import Candidate, answered, check_same_questions
    from llmrec.recipe import load_recipe

    if chosen.price_per_hour is not None and not chosen.price_per_hour > 0:
        raise LlmrecError(f"--price-per-hour is {chosen.price_per_hour:g}. Give a price above 0, or leave it out.")
    models, overrides = split_words(chosen.overrides)
    given: list[Run | Candidate] = []
    for name, model in zip(names_of(models), models, strict=True):
        if (Path(model) / HEAD).is_file():
            given.append(replace(Run.load(model), name=name))
            continue
        folder = local_folder(Path(model), chosen.revision)
        given.append(Candidate.of(name, folder, plan(load_recipe(recipe_of(folder), overrides))))
    check_same_questions(
        [one for one in given if isinstance(one, Candidate)], [one for one in given if isinstance(one, Run)]
    )
    kept = None if chosen.report is None else chosen.report / RUNS
    runs = [one if isinstance(one, Run) else answered(one, kept) for one in given]
    check_comparable(runs)
    print_comparison({run.name: run.evaluation for run in runs})
    found: dict[str, Any] = {run.name: run.evaluation.to_dict() for run in runs}
    if chosen.report is not None:
        page = write_report(runs, chosen.report, chosen.price_per_hour, chosen.currency)
        print(f"\nreport: {page}")
        found = {"models": found, "report": str(page)}
    elif len(runs) == 1:
        found = runs[0].evaluation.to_dict()
    if chosen.json:
        print_json(found)


def split_words(words: list[str]) -> tuple[list[str], list[str]]:
    """Models and `dotted.key=value`; a folder whose name has a `=` is a model.

    Raises:
        LlmrecError: there is no model.
    """
    is_change = [bool(re.match(r"[\w.]+=", word)) and not Path(word).exists() for word in words]
    models = [word for word, change in zip(words, is_change, strict=True) if not change]
    if not models:
        raise LlmrecError("evaluate: no model is named. Give a folder made by 'llmrec run', or user/name on the Hub.")
    return models, [word for word, change in zip(words, is_change, strict=True) if change]


def names_of(models: list[str]) -> list[str]:
    """The last part of each path; as much more of it as tells models apart, and a number where nothing does.

    >>> names_of(["runs/a", "old/a", "runs/b", "runs/b"])
    ['runs/a', 'old/a', 'b', 'b (2)']
    """
    found: list[str] = []
    for model in models:
        parts = Path(model).parts or (model,)
        others = [Path(other).parts for other in models if other != model]
        length = next(
            (n for n in range(1, len(parts)) if not any(other[-n:] == parts[-n:] for other in others)), len(parts)
        )
        name = "/".join(parts[-length:])
        again = sum(known.partition(" (")[0] == name for known in found)
        found.append(f"{name} ({again + 1})" if again else name)
    return found


def write_report(runs: list[Run], folder: Path, price_per_hour: float | None, currency: str) -> Path:
    """The page and the table; gives the page's path.

    Raises:
        DataError: the runs cannot be compared.
    """
    from llmrec.evaluation.leaderboard import markdown_table
    from llmrec.evaluation.report_page import render_report

    page = render_report(runs, price_per_hour, currency)
    artifact.write_text(folder / TABLE, markdown_table(runs))
    artifact.write_text(folder / PAGE, page)
    return folder / PAGE
