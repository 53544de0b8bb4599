"""The page of `llmrec evaluate A B --report`: who recommends best, how sure that is, where each wins, and at what cost.

One file that opens from the disk. It is made of runs alone (`llmrec.evaluation.run`), so it can be drawn again without
the models; runs that answered other questions, or by another protocol, are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

import llmrec
from llmrec.evaluation.leaderboard import in_order, leaderboard, metrics_of
from llmrec.evaluation.published import published
from llmrec.evaluation.run import Run
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
    "target_code": ("How common is the first code of the answer?", "train events of the items that share it"),
    "history_popularity": ("How common are the items of the history?", "their train events, in the mean"),
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


def render_report(runs: Sequence[Run], price_per_hour: float | None = None, currency: str = "$") -> str:
    """The whole page.

    Args:
        runs: of any models, on the same questions. Of their facts the page uses `kind`, `parameters`, `bytes`, `data`,
            `machine` and `milliseconds_alone`, where they are known.
        price_per_hour: of the machine that answered, for the cost of a thousand users.

    Raises:
        DataError: as for `in_order`.
    """
    runs = in_order(runs)
    main, hits, shared = metrics_of(runs)
    evaluation, names = runs[0].evaluation, [run.name for run in runs]
    data = next((str(run.facts["data"]) for run in runs if run.facts.get("data")), "")
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
        published=published(data, len(runs[0].catalog)),
        machines=sorted({str(run.facts["machine"]) for run in runs if run.facts.get("machine")}),
        questions=runs[0].questions,
        version=llmrec.__version__,
        users=Markup(script_json(_users(runs))),
    )


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
    sizes = [
        (run.name, float(run.facts["parameters"]), run.evaluation.metrics[main])
        for run in runs
        if run.facts.get("parameters")
    ]
    return {
        "leaderboard": intervals_plot(points, f"{main} of each model, with its interval"),
        "latency": scatter_plot(speeds, f"{main} against milliseconds a user", "milliseconds a user, asked together"),
        "size": scatter_plot(sizes, f"{main} against size", "parameters"),
    }


def _slices(runs: Sequence[Run], main: str) -> list[dict[str, Any]]:
    """Of each slicing that every run has: `question`, `plot`, whether its slices are `numbered` there, and `rows`.

    A row has `slice`, `examples`, `values` (one a run) and `best` (places of the runs with the highest value above 0).
    """
    found = []
    for name, (question, x_name) in SLICINGS.items():
        tables = [run.evaluation.slices.get(name) or [] for run in runs]
        cut = [[row["slice"] for row in table] for table in tables]
        if not cut[0] or any(other != cut[0] for other in cut):
            continue
        labels = [one_line(label, 90) for label in cut[0]]
        numbered = max(map(len, labels)) > LONGEST_LABEL
        points = [
            Points(
                run.name,
                [row["metrics"].get(main) for row in table],
                [row["intervals"].get(main, (None, None))[0] for row in table],
                [row["intervals"].get(main, (None, None))[1] for row in table],
            )
            for run, table in zip(runs, tables, strict=True)
        ]
        shown = [str(number) for number in range(1, len(labels) + 1)] if numbered else labels
        rows = []
        for place, label in enumerate(labels):
            values = [of.values[place] for of in points]
            top = max((value for value in values if value is not None), default=0.0)
            best = [number for number, value in enumerate(values) if value == top and top > 0]
            rows.append({"slice": label, "examples": tables[0][place]["examples"], "values": values, "best": best})
        plot = Markup(groups_plot(shown, points, f"{main}: {question}", x_name))
        found.append({"question": question, "plot": plot, "numbered": numbered, "rows": rows})
    return sorted(found, key=lambda slicing: bool(slicing["numbered"]))  # those that need the whole width come last


def _calibration(runs: Sequence[Run]) -> dict[str, Any] | None:
    """`plot`, `legend`, and `rows`: name, style and figures of each model that states probabilities; None if none."""
    stating = [(place, run) for place, run in enumerate(runs) if run.evaluation.calibration]
    if not stating:
        return None
    curves = [
        (run.name, run.evaluation.calibration.get("stated", ()), run.evaluation.calibration.get("taken", ()))
        for run in runs  # in their order, so that each has its colour
    ]
    return {
        "plot": Markup(calibration_plot(curves, "Share taken by stated probability")),
        "legend": Markup(legend([run.name if run.evaluation.calibration else None for run in runs])),
        "rows": [{"name": run.name, "style": colour(place), **run.evaluation.calibration} for place, run in stating],
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
