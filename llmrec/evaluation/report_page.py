"""The page of `llmrec evaluate A B --report`: who recommends best, how sure that is, where each wins, and at what cost.

One file that opens from the disk. It is made of runs alone (`llmrec.evaluation.run`), so it can be drawn again without
the models; runs that answered other questions, or by another protocol, are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from markupsafe import Markup

from llmrec.errors import DataError
from llmrec.evaluation.calibration import LOG_PROBABILITIES, Reliability, reliability
from llmrec.evaluation.run import Run, check_comparable
from llmrec.evaluation.significance import holm, paired
from llmrec.pages.plots import Points, calibration_plot, colour, groups_plot, intervals_plot, legend, scatter_plot
from llmrec.pages.render import one_line, render, script_json
from llmrec.types import Rows

SHOWN_USERS = 200
"""Questions that can be looked at one by one; those on which models differ come first."""

SHOWN_HISTORY = 12
"""Last items of a history that are shown."""

LONGEST_LABEL = 12
"""Letters of a slice's name that fit below a plot; longer ones are listed beside it."""

SLICINGS = {
    "target_popularity": ("How popular was the answer?", "train events of the item that came next"),
    "history_length": ("How long was the history?", "items before the question"),
    "category": ("Of which kind was the answer?", "category of the item that came next"),
    "target_age": ("Had the answer been seen in training?", "item that came next"),
    "target_seen": ("Had the user taken the answer before?", "item that came next"),
    "time_gap": ("How long ago was the last event?", "time since then"),
}
"""Name of a slicing -> the question it answers, and what its slices are of."""

LISTS = {
    "popularity_lift": "popularity above that of the answers, nats",
    "coverage": "share of the catalog in any list",
    "concentration": "Gini coefficient of how often items come",
    "novelty": "mean surprise of an item, bits",
    "group_diversity": "pairs of a list that are of two categories",
    "code_diversity": "pairs of a list whose codes begin differently",
    "diversity": "1 - cosine of a list's pairs",
}
"""What lists are like, in the order of the table."""


def metrics_of(runs: Sequence[Run]) -> tuple[str, str, list[str]]:
    """What ranks the models (NDCG at the longest k), the hit rate beside it, and all metrics that every run has."""
    shared = [name for name in runs[0].evaluation.metrics if all(name in run.evaluation.metrics for run in runs)]
    longest = max((int(name.partition("@")[2]) for name in shared), default=0)
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


def render_report(runs: Sequence[Run], data: str = "", price_per_hour: float | None = None, currency: str = "$") -> str:
    """The whole page.

    Args:
        runs: of any models, on the same questions. data: name of the data set, for the lines of papers.
        price_per_hour: of the machine that answered, for the cost of a thousand users.

    Raises:
        DataError: as for `in_order`.
    """
    runs = in_order(runs)
    main, hits, shared = metrics_of(runs)
    evaluation, names = runs[0].evaluation, [run.name for run in runs]
    known = published().get(data, {})
    return render(
        Path(__file__).with_name("report_page.html.jinja"),
        title=f"{len(runs)} models on {data or 'one data set'}" if len(runs) > 1 else f"{runs[0].name}",
        main=main,
        hits=hits,
        metrics=[main, *(name for name in shared if name != main and name.endswith(main[main.index("@") :]))],
        evaluation=evaluation,
        items=len(runs[0].catalog),
        data=data,
        rows=leaderboard(runs, price_per_hour),
        currency=currency,
        price=price_per_hour,
        legend=Markup(legend(names)),
        plots={name: Markup(svg) for name, svg in _plots(runs, main).items()},
        slicings=_slices(runs, main),
        lists=[(text, [run.evaluation.popularity.get(name) for run in runs]) for name, text in LISTS.items()],
        calibration=_calibration(runs),
        names=names,
        published=known,
        users=Markup(script_json(_users(runs))),
    )


def leaderboard(runs: Sequence[Run], price_per_hour: float | None = None) -> list[dict[str, Any]]:
    """One row a model, in the order given; each but the first is compared with the first by a paired test.

    Returns:
        `name`, `style`, `kind`, `metrics` and `intervals` by name, `behind` (how much worse than the first: mean, low,
        high) and `p` (Holm's, over all rows), `parameters`, `bytes`, `users_per_second`, `milliseconds` (of one user
        alone), `cost` (of a thousand users), `faults`. None where nothing is known.
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
        name = row["name"].replace("|", "\\|")
        lines.append(f"| {name} | {' | '.join(cells)} | {p} | {size} | {row['users_per_second'] or 0:,.0f} |")
    words = f"Protocol: {runs[0].evaluation.protocol}. In brackets 95% intervals, users drawn; paired tests after Holm."
    return "\n".join([*lines, "", words, ""])


@cache
def published() -> dict[str, Any]:
    """Data set -> `protocol` and `lines` of papers."""
    found: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("published.yaml").read_text())
    return found


def _cell(row: dict[str, Any], name: str) -> str:
    text = f"{row['metrics'][name]:.4f}"
    if name not in row["intervals"]:
        return text
    low, high = row["intervals"][name]
    return f"{text} [{low:.4f}, {high:.4f}]"


def _p(value: float) -> str:
    return "< .001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def _plots(runs: Sequence[Run], main: str) -> dict[str, str]:
    points = []
    for run in runs:
        low, high = run.evaluation.intervals.get(main, (None, None))
        points.append(Points(run.name, [run.evaluation.metrics[main]], [low], [high]))
    speeds = [
        (run.name, 1000 * run.evaluation.seconds / run.evaluation.examples, run.evaluation.metrics[main])
        for run in runs
        if run.evaluation.seconds > 0
    ]
    return {
        "leaderboard": intervals_plot(points, f"{main} of each model, with its interval"),
        "latency": scatter_plot(speeds, f"{main} against milliseconds a user", "milliseconds a user, asked together"),
    }


def _slices(runs: Sequence[Run], main: str) -> list[tuple[str, Markup, list[str]]]:
    """Of each slicing that every run has its question, its plot, and the names of its slices if these are numbered."""
    found = []
    for name, (title, x_name) in SLICINGS.items():
        tables = [run.evaluation.slices.get(name) for run in runs]
        if not all(tables):
            continue
        labels = [one_line(row["slice"], 90) for row in tables[0] or []]
        numbered = max(map(len, labels)) > LONGEST_LABEL
        points = [
            Points(
                run.name,
                [row["metrics"].get(main) for row in table or []],
                [row["intervals"].get(main, (None, None))[0] for row in table or []],
                [row["intervals"].get(main, (None, None))[1] for row in table or []],
            )
            for run, table in zip(runs, tables, strict=True)
        ]
        shown = [str(number) for number in range(1, len(labels) + 1)] if numbered else labels
        plot = groups_plot(shown, points, f"{main}: {title}", x_name)
        found.append((title, Markup(plot), labels if numbered else []))
    return found


def _calibration(runs: Sequence[Run]) -> dict[str, Any] | None:
    """The plot and a row a model; None where no model states probabilities."""
    rows: list[tuple[str, Reliability, float | None]] = []
    for run in runs:
        if run.facts.get("kind") in LOG_PROBABILITIES:
            measured = reliability(run.evaluation.rows, run.evaluation.scores, run.examples.targets)
            rows.append((run.name, measured, run.facts.get("log_likelihood")))
    if not rows:
        return None
    of_name = {name: measured for name, measured, _ in rows}
    curves = [
        (run.name, of_name[run.name].stated, of_name[run.name].taken) if run.name in of_name else (run.name, (), ())
        for run in runs  # in their order, so that each has its colour
    ]
    return {
        "plot": Markup(calibration_plot(curves, "Share taken by stated probability")),
        "rows": [(name, measured.error, likelihood) for name, measured, likelihood in rows],
        "uniform": -float(np.log(len(runs[0].catalog))),
    }


def _users(runs: Sequence[Run]) -> dict[str, Any]:
    """Some questions with every model's list: `items` (titles by row), `names`, `users`; JSON values."""
    chosen, catalog = _chosen(runs), runs[0].catalog
    examples, rows_shown = runs[0].examples, set()
    users = []
    for number in chosen.tolist():
        history = examples.histories[number][-SHOWN_HISTORY:].tolist()
        targets = examples.targets[number].tolist()
        lists = [[row for row in run.evaluation.rows[number].tolist() if row >= 0] for run in runs]
        rows_shown |= {*history, *targets, *(row for shown in lists for row in shown)}
        users.append(
            {
                "user": int(examples.users[number]),
                "earlier": int(examples.histories.lengths[number]) - len(history),
                "history": history,
                "targets": targets,
                "lists": lists,
                "ranks": [int(run.evaluation.ranks[number]) for run in runs],
            }
        )
    titles = {row: one_line(catalog.title(row), 120) or catalog.items[row] for row in sorted(rows_shown)}
    return {"names": [run.name for run in runs], "styles": [colour(at) for at in range(len(runs))], "items": titles} | {
        "users": users
    }


def _chosen(runs: Sequence[Run], most: int = SHOWN_USERS) -> Rows:
    """Numbers of questions: first those that some models hit and others miss, then others, drawn by chance."""
    hits = np.stack([run.evaluation.ranks > 0 for run in runs]).sum(0)
    differ, order = (hits > 0) & (hits < len(runs)), np.random.default_rng(0).permutation(len(hits))
    same = order[~differ[order]]
    first = order[differ[order]][: most * 3 // 4]
    return np.concatenate([first, same[: most - len(first)]]).astype(np.int32)
