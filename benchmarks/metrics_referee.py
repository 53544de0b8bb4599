"""The metrics of rankings by other people's code; `metrics_equal.py` runs it where that code is installed.

Reads a JSON object from stdin, `{"ks": [...], "cases": [{"scores": {id: score}, "targets": [id]}]}`, and prints one:
`{"ir-measures": {name@k: [a value a case]}, "ranx": ..., "versions": ...}`. Needs `ir-measures` and `ranx`, not llmrec.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from typing import Any

Cases = dict[str, dict[str, Any]]


def by_ir_measures(qrels: Cases, run: Cases, ks: list[int]) -> dict[str, list[float]]:
    """By trec_eval's own code. Its reciprocal rank has no k (that of ir-measures has, but another order of ties)."""
    import ir_measures
    from ir_measures import AP, RR, R, Success, nDCG

    ours = {"hr": Success, "recall": R, "ndcg": nDCG, "map": AP}
    names = {measure @ k: f"{name}@{k}" for name, measure in ours.items() for k in ks}
    found: dict[str, list[float]] = {name: [0.0] * len(qrels) for name in (*names.values(), *(f"mrr@{k}" for k in ks))}
    for value in ir_measures.iter_calc([*names, RR], qrels, run):
        case, number = int(value.query_id), float(value.value)
        if value.measure in names:
            found[names[value.measure]][case] = number
            continue
        for k in ks:
            found[f"mrr@{k}"][case] = number if number and round(1 / number) <= k else 0.0
    return found


def by_ranx(qrels: Cases, run: Cases, ks: list[int]) -> dict[str, list[float]]:
    """In numba."""
    from ranx import Qrels, Run, evaluate

    ours = {"hr": "hit_rate", "recall": "recall", "mrr": "mrr", "ndcg": "ndcg", "map": "map"}
    names = {f"{theirs}@{k}": f"{name}@{k}" for name, theirs in ours.items() for k in ks}
    judged, ranked = Qrels(qrels), Run(run)
    evaluate(judged, ranked, list(names), make_comparable=True)
    return {name: [float(ranked.scores[theirs][case]) for case in qrels] for theirs, name in names.items()}


def main() -> None:
    asked = json.load(sys.stdin)
    qrels = {str(n): dict.fromkeys(case["targets"], 1) for n, case in enumerate(asked["cases"])}
    run = {str(n): case["scores"] for n, case in enumerate(asked["cases"])}
    # ranx leaves the order of equal scores open; it gets the places of trec_eval's order instead.
    placed = {}
    for query, scores in run.items():
        order = sorted(sorted(scores, reverse=True), key=lambda item, of=scores: -of[item])
        placed[query] = {item: float(len(order) - place) for place, item in enumerate(order)}
    print(
        json.dumps(
            {
                "ir-measures": by_ir_measures(qrels, run, asked["ks"]),
                "ranx": by_ranx(qrels, placed, asked["ks"]),
                "versions": {
                    name: importlib.metadata.version(name) for name in ("ir-measures", "pytrec-eval-terrier", "ranx")
                },
            }
        )
    )


if __name__ == "__main__":
    main()
