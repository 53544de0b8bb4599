"""Evaluations and single answers as people read them: colours on a terminal, plain text everywhere else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import IO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from llmrec.data.catalog import Catalog
from llmrec.errors import DataError
from llmrec.evaluation.protocol import Evaluation
from llmrec.types import Rows, ScoredItems

FAULTS = ("invalid", "duplicates", "excluded_returned", "unfilled")


def comparison_table(results: dict[str, Evaluation]) -> str:
    """One line a recommender, one column a metric, and below it the protocol: plain text.

    Args:
        results: name of the recommender -> its evaluation, in the order of the lines.

    Raises:
        DataError: there is nothing to compare.
    """
    names, lines = _cells(results)
    columns = list(zip(["", *names], *lines, strict=True))
    widths = [max(map(len, column)) for column in columns]
    text = [
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]).rstrip()
        for line in [["", *names], *lines]
    ]
    return "\n".join([*text, "", *_notes(results)])


def print_comparison(results: dict[str, Evaluation], file: IO[str] | None = None) -> None:
    """Print the comparison to `file` (stdout by default); a terminal gets a drawn table with the best values bold."""
    console = _console(file)
    if not console.is_terminal:
        console.print(comparison_table(results))
        return
    names, lines = _cells(results)
    best = {name: max(result.metrics.get(name, 0.0) for result in results.values()) for name in names}
    table = Table("", box=box.SIMPLE_HEAD)
    for name in names:
        table.add_column(name, justify="right")
    for (label, *cells), result in zip(lines, results.values(), strict=True):
        styles = ["bold" if result.metrics.get(name) == best[name] else "" for name in names]
        table.add_row(Text(label), *(Text(cell, style) for cell, style in zip(cells, styles, strict=True)))
    console.print(table, *_notes(results), sep="\n")


def print_user(
    catalog: Catalog,
    history: Rows,
    answer: ScoredItems,
    position: int = 0,
    targets: Rows | None = None,
    longest_history: int = 10,
    file: IO[str] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Print what one user took and what is recommended, by title, with scores.

    Args:
        catalog: gives the titles. history: item rows, oldest first.
        answer: from `recommend`; its line `position` is this user's.
        targets: item rows that truly came next; marked where they are recommended, else listed.
        longest_history: only so many of the last items are shown.
        file: stdout by default. notes: a line below each recommended item.
    """
    console = _console(file)
    shown = history[-longest_history:] if longest_history > 0 else history[:0]
    console.print(Text(f"History, oldest first ({len(history)} items)", "bold"))
    if len(shown) < len(history):
        console.print(f"      ... {len(history) - len(shown)} earlier")
    for row in shown:
        console.print(f"      {_title(catalog, row)}")
    wanted = set() if targets is None else {int(row) for row in targets}
    _print_items(console, catalog, answer, position, wanted, notes)
    if missed := sorted(wanted - {int(row) for row in answer.rows[position]}):
        console.print(Text("Taken next, not recommended", "bold"))
        for row in missed:
            console.print(f"      {_title(catalog, row)}")


def print_query(catalog: Catalog, text: str, answer: ScoredItems, file: IO[str] | None = None) -> None:
    """Print a request in words and what is recommended.

    Args:
        catalog: gives the titles. answer: from `LLMRecommender.search`; its first line is printed.
        file: stdout by default.
    """
    console = _console(file)
    console.print(Text("Asked for", "bold"))
    console.print(Text(f"      {_printable(text)}"))
    _print_items(console, catalog, answer, 0, set(), ())


def _print_items(
    console: Console, catalog: Catalog, answer: ScoredItems, position: int, wanted: set[int], notes: Sequence[str]
) -> None:
    console.print(Text("Recommended", "bold"))
    rows, scores = answer.rows[position], answer.scores[position]
    for rank, (row, score) in enumerate(zip(rows[rows >= 0], scores[rows >= 0], strict=True), start=1):
        hit = int(row) in wanted
        line = f"{rank:4}  {_title(catalog, row)}  ({score:.3f}){'  <- taken next' if hit else ''}"
        console.print(Text(line, "green" if hit else ""))
        if rank <= len(notes):
            console.print(Text(f"      {_printable(notes[rank - 1])}"))


def _cells(results: dict[str, Evaluation]) -> tuple[list[str], list[list[str]]]:
    """The metric names, and per recommender its name and one text a metric."""
    if not results:
        raise DataError("there is no evaluation to compare.", fix="Evaluate at least one recommender.")
    names = _unique(name for result in results.values() for name in result.metrics)
    return names, [
        [label, *(f"{result.metrics[name]:.4f}" if name in result.metrics else "-" for name in names)]
        for label, result in results.items()
    ]


def _notes(results: dict[str, Evaluation]) -> list[str]:
    """The protocol (each, where they differ) and every fault that was counted."""
    protocols = _unique(result.protocol for result in results.values())
    lines = []
    for protocol in protocols:
        owners = ", ".join(label for label, result in results.items() if result.protocol == protocol)
        lines.append(f"Protocol{f' of {owners}' if len(protocols) > 1 else ''}: {protocol}.")
    if len(protocols) > 1:
        lines.append("The protocols differ: do not compare across them.")
    if intervals := _intervals(results):
        lines.append(intervals)
    faults = {
        label: [f"{count:,} {name}" for name in FAULTS if (count := getattr(result, name))]
        for label, result in results.items()
    }
    lines += [f"{label} returned: {', '.join(found)}." for label, found in faults.items() if found]
    lines += [
        f"{label}: {result.exact:,} of {result.examples:,} lists are proven to be its true best."
        for label, result in results.items()
        if result.exact < result.examples
    ]
    if not any(faults.values()):
        lines.append("No faults: every list is full, and its items are real, distinct and allowed.")
    return lines


def _intervals(results: dict[str, Evaluation]) -> str:
    """How sure the last metric that says it is: all models in one line, or nothing."""
    names = _unique(name for result in results.values() for name in result.intervals)
    if not names:
        return ""
    chosen = next((name for name in reversed(names) if name.startswith("ndcg@")), names[-1])
    found = [
        f"{label} {result.intervals[chosen][0]:.4f} to {result.intervals[chosen][1]:.4f}"
        for label, result in results.items()
        if chosen in result.intervals
    ]
    return f"95% intervals of {chosen}, users drawn: {', '.join(found)}."


def _console(file: IO[str] | None) -> Console:
    return Console(file=file, markup=False, highlight=False, emoji=False, soft_wrap=True)


def _title(catalog: Catalog, row: int) -> str:
    """The title without control characters, which a terminal would obey."""
    return _printable(catalog.title(row)) or f"(no title, id {catalog.items[int(row)]})"


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text).strip()


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
