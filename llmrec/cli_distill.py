"""The part of the verb `distill` that studies a teacher before anything is distilled: how much depth does it need?"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmrec.recipe import DistillRecipe


def add_study(distill: argparse.ArgumentParser) -> None:
    """What the study takes."""
    text = "no student: measure the teacher cut at several depths, before and after a short training"
    distill.add_argument("--study", action="store_true", help=text)
    distill.add_argument("--depths", help="for --study: numbers of layers with commas between (default: a dozen)")
    distill.add_argument("--epochs", type=float, default=1.0, help="for --study: of the short training (default 1)")
    distill.add_argument("--output", type=Path, help="for --study: its folder (default: study beside the teacher)")


def study(recipe: DistillRecipe, chosen: argparse.Namespace) -> None:
    """Measure, and print a table."""
    from llmrec.pipeline.depth_study import study_depths

    depths = None if chosen.depths is None else [int(depth) for depth in chosen.depths.split(",")]
    output = chosen.output or chosen.teacher.with_name(f"{chosen.teacher.resolve().name}_study")
    found = study_depths(recipe, output, depths, chosen.epochs)
    if chosen.json:
        print(json.dumps({"folder": str(output), **found}))
        return
    print(f"{'layers':>6}  {'parameters':>12}  {'cut':>8}  {'trained':>8}    (validation NDCG@10)")
    for row in found["depths"]:
        print(f"{row['layers']:>6}  {row['parameters']:>12,}  {row['cut']:>8.4f}  {row['trained']:>8.4f}")
    print(f"\nchart: {output / 'depth.svg'}")
