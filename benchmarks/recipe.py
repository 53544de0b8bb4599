"""Run a recipe and keep its figures: the model and the baselines on the test questions, and what each stage took.

    python benchmarks/recipe.py sft/office_smollm2_cpu data.root=../shared/data/amazon14_office --store
    python benchmarks/recipe.py demo --store

It is `llmrec run` with the hardware and the versions behind it; stages that are cached are not built again, and their
seconds are those of the run that built them.
"""

from __future__ import annotations

import argparse

from common import report

from llmrec.pipeline.run import plan, run
from llmrec.recipe import load_recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*", default=[])
    parser.add_argument("--store", action="store_true", help="keep the result under benchmarks/results/")
    arguments, later = parser.parse_known_args()
    recipe = load_recipe(arguments.recipe, [*arguments.overrides, *later])
    planned = plan(recipe)
    cached = [stage.name for stage in planned.stages if planned.cache.has(stage)]
    summary = run(recipe)
    seconds = {stage.name: planned.cache.record(stage)["seconds"] for stage in planned.stages}
    figures = {**summary, "stage_seconds": seconds, "cached": cached, "seed": recipe.seed}
    figures.pop("folder")
    report(f"recipe_{recipe.name}", figures, arguments.store, script="recipe")


if __name__ == "__main__":
    main()
