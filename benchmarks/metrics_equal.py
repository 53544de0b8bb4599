"""Our metrics against trec_eval (through ir-measures) and ranx, on random cases with ties.

Their code runs in an environment of its own: `--python` names its interpreter; without it one is made in a temporary
folder and thrown away. Ties are broken by both sides in their own way: ours by the lower item row, trec_eval's by the
larger id, so the ids are numbered downwards.

    python benchmarks/metrics_equal.py --cases 1000
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import report

from llmrec.evaluation.metrics import METRICS
from llmrec.recommenders.scoring import top_k
from llmrec.types import Ragged

REFEREE = Path(__file__).with_name("metrics_referee.py")
NEEDED = ("ir-measures==0.4.3", "ranx==0.3.21")
KS = (1, 2, 3, 5, 10, 20)


def random_cases(count: int, seed: int) -> list[tuple[np.ndarray, list[int]]]:
    """Scores of a small catalog, most of them tied, and one to eight targets."""
    random, cases = np.random.default_rng(seed), []
    for _ in range(count):
        size = int(random.integers(20, 120))
        levels = int(random.choice([1, 2, 5, 20, 1000]))
        scores = random.integers(0, levels, size).astype(np.float32)
        targets = random.choice(size, int(random.integers(1, 9)), replace=False)
        scores[targets] += random.integers(0, 2) * levels // 2  # some lists are good
        cases.append((scores, targets.tolist()))
    return cases


def item(row: int) -> str:
    return f"{9999 - row:04d}"


def ours(cases: list[tuple[np.ndarray, list[int]]]) -> dict[str, list[float]]:
    rows = np.concatenate([top_k(scores[None], max(KS))[0] for scores, _ in cases])
    targets = Ragged.from_lists([wanted for _, wanted in cases])
    return {f"{name}@{k}": metric(rows, targets, k).tolist() for name, metric in METRICS.items() for k in KS}


def theirs(python: str, cases: list[tuple[np.ndarray, list[int]]]) -> dict[str, Any]:
    asked = [
        {"scores": {item(row): float(score) for row, score in enumerate(scores)}, "targets": [*map(item, wanted)]}
        for scores, wanted in cases
    ]
    text = json.dumps({"ks": KS, "cases": asked})
    done = subprocess.run([python, str(REFEREE)], input=text, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{REFEREE.name} failed:\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def in_new_environment(cases: list[tuple[np.ndarray, list[int]]]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = str(Path(folder) / "bin" / "python")
        subprocess.run([python, "-m", "pip", "install", "-q", *NEEDED], check=True)
        return theirs(python, cases)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--python", help="an interpreter that has ir-measures and ranx")
    parser.add_argument("--store", action="store_true", help="keep the result under benchmarks/results/")
    chosen = parser.parse_args()
    cases = random_cases(chosen.cases, chosen.seed)
    answer = theirs(chosen.python, cases) if chosen.python else in_new_environment(cases)
    mine, figures = ours(cases), {}
    for referee in ("ir-measures", "ranx"):
        gaps = {name: float(np.abs(np.subtract(mine[name], answer[referee][name])).max()) for name in mine}
        differing = sum(int((np.abs(np.subtract(mine[name], answer[referee][name])) > 1e-6).sum()) for name in mine)
        figures[referee] = {
            "values": sum(map(len, mine.values())),
            "differing": differing,
            "largest_difference": max(gaps.values()),
            "in": max(gaps, key=lambda name: gaps[name]),
        }
    tied = sum(int(len(np.unique(scores)) < len(scores)) for scores, _ in cases)
    figures = {"cases": len(cases), "with_ties": tied, "metrics": sorted(METRICS), "ks": KS, **figures}
    report("metrics_equal", {**figures, "referees": answer["versions"], "seed": chosen.seed}, chosen.store)


if __name__ == "__main__":
    main()
