"""Who recommends best, on the same questions: in order, each tested against the first; as rows and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmrec.card import cell
from llmrec.errors import DataError
from llmrec.evaluation.run import Run, check_comparable
from llmrec.evaluation.significance import holm, paired
from llmrec.pages.plots import colour


def metrics_of(runs: Sequence[Run]) -> tuple[str, str, list[str]]:
    """What ranks the models (NDCG at the longest k), the hit rate beside it, and all metrics that every run has.

    Raises:
        DataError: they have none in common.
    """
    shared = [name for name in runs[0].evaluation.metrics if all(name in run.evaluation.metrics for run in runs)]
    if not shared:
        raise DataError(
            "the runs have no metric in common: "
            + "; ".join(f"{run.name} has {', '.join(run.evaluation.metrics)}" for run in runs)
            + ".",
            fix="Measure all with one list of lengths, evaluation.ks=[5,10].",
        )
    longest = max(int(name.partition("@")[2]) for name in shared)
    main = f"ndcg@{longest}" if f"ndcg@{longest}" in shared else shared[-1]
    return main, f"hr@{longest}", shared


def in_order(runs: Sequence[Run]) -> list[Run]:
    """The best first; of equal ones in the order given.

    Raises:
        DataError: there is no run, two have one name, or they cannot be compared.
    """
    if not runs:
        raise DataError("there is nothing to report.", fix="Give at least one model.")
    names = [run.name for run in runs]
    if twice := {name for name in names if names.count(name) > 1}:
        raise DataError(f"two runs are called '{min(twice)}'.", fix="Give runs different names.")
    check_comparable(runs)
    main, _, _ = metrics_of(runs)
    return sorted(runs, key=lambda run: -run.evaluation.metrics[main])


def leaderboard(runs: Sequence[Run], price_per_hour: float | None = None) -> list[dict[str, Any]]:
    """One row a model, in the order given; each but the first is compared with the first by a paired test.

    Returns:
        `name`, `style`, `kind`, `metrics` and `intervals` by name, `behind` (how much worse than the first: mean, low,
        high) and `p` (Holm's, over all rows), `parameters`, `bytes`, `users_per_second`, `milliseconds` (of one user
        alone), `cost` (of a thousand users), `faults`, `proven` (share of the lists that are proven to be the model's
        true best). None where nothing is known.
    """
    main, _, _ = metrics_of(runs)
    first = runs[0]
    tests = [paired(first.values(main), run.values(main), first.examples.users) for run in runs[1:]]
    raised = holm([test.p_value for test in tests])
    rows = []
    for place, run in enumerate(runs):
        found, seconds = run.evaluation, run.evaluation.seconds / run.evaluation.examples
        test = tests[place - 1] if place else None
        rows.append(
            {
                "name": run.name,
                "style": colour(place),
                "kind": run.facts.get("kind", ""),
                "metrics": found.metrics,
                "intervals": found.intervals,
                "behind": None if test is None else (test.difference, test.low, test.high),
                "p": None if test is None else raised[place - 1],
                "parameters": run.facts.get("parameters"),
                "bytes": run.facts.get("bytes"),
                "users_per_second": 1 / seconds if seconds else None,
                "milliseconds": run.facts.get("milliseconds_alone"),
                "cost": None if price_per_hour is None else price_per_hour * seconds * 1000 / 3600,
                "faults": found.invalid + found.duplicates + found.excluded_returned,
                "proven": found.exact / found.examples,
            }
        )
    return rows


def markdown_table(runs: Sequence[Run]) -> str:
    """The leaderboard for a model card or an issue, with its protocol.

    Raises:
        DataError: as for `in_order`.
    """
    runs = in_order(runs)
    main, hits, shared = metrics_of(runs)
    columns = [main, *([hits] if hits in shared else [])]
    lines = [
        f"| model | {' | '.join(columns)} | p against the first | parameters | users a second |",
        f"|---|{'---|' * len(columns)}---|---|---|",
    ]
    for row in leaderboard(runs):
        cells = [_cell(row, name) for name in columns]
        p = "" if row["p"] is None else _p(row["p"])
        size = "" if row["parameters"] is None else f"{row['parameters'] / 1e6:,.1f} M"
        lines.append(
            f"| {cell(row['name'])} | {' | '.join(cells)} | {p} | {size} | {row['users_per_second'] or 0:,.0f} |"
        )
    words = f"Protocol: {runs[0].evaluation.protocol}. In brackets 95% intervals, users drawn; paired tests after Holm."
    return "\n".join([*lines, "", words, ""])


def _cell(row: dict[str, Any], name: str) -> str:
    text = f"{row['metrics'][name]:.4f}"
    if name not in row["intervals"]:
        return text
    low, high = row["intervals"][name]
    return f"{text} [{low:.4f}, {high:.4f}]"


def _p(value: float) -> str:
    return "< .001" if value < 0.001 else f"{value:.3f}".removeprefix("0")
