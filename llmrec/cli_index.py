"""The verbs `llmrec index inspect` and `llmrec index export`: look at the codes that are there, and hand them on.

llmrec index inspect runs/demo --html report.html
llmrec index export runs/demo codes.json --format lcrec
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmrec import artifact
from llmrec.errors import ArtifactError, DataError, LlmrecError

if TYPE_CHECKING:
    from llmrec.data.catalog import Catalog
    from llmrec.data.interactions import Interactions
    from llmrec.indexes.base import ItemIndex
    from llmrec.indexes.inspect import DepthFigures, Inspection, LevelFigures
    from llmrec.pipeline.run import Plan

FORMATS = "lcrec, id2sid, text, sem_ids, openonerec, table"


def add_arguments(inspecting: argparse.ArgumentParser, exporting: argparse.ArgumentParser) -> None:
    """What the two verbs take."""
    target = "a model folder, or the folder that 'llmrec index build' prints"
    inspecting.add_argument("target", type=Path, help=target)
    exporting.add_argument("target", type=Path, help=target)
    exporting.add_argument("file", type=Path)
    for parser in (inspecting, exporting):
        parser.add_argument("overrides", nargs="*", help="dotted.key=value for the recipe", default=[])
        parser.add_argument("--recipe", help="the recipe whose data belong to the index")
    inspecting.add_argument("--html", type=Path, metavar="FILE", help="also write a page with charts and all codes")
    inspecting.add_argument(
        "--category", metavar="COLUMN", help="of the catalog, for the purity (default: by its name)"
    )
    exporting.add_argument("--format", default="lcrec", help=f"one of {FORMATS} (default lcrec)")


@dataclass(frozen=True)
class Target:
    """What is known of an index.

    Args:
        catalog: its items, None where nobody says which. train: their train rows, or None.
        missing: why there are no train rows.
    """

    index: ItemIndex
    catalog: Catalog | None
    train: Interactions | None
    missing: str = ""


def inspect(chosen: argparse.Namespace) -> None:
    """Print the figures, and write the page where one is asked for."""
    from llmrec.indexes.inspect import inspect as measure
    from llmrec.indexes.inspect_page import render_page

    if chosen.html is not None and chosen.html.is_dir():
        raise DataError(f"{chosen.html} is a folder.", fix="Give --html the name of a file, such as report.html.")
    target = open_target(chosen.target, chosen.recipe, chosen.overrides, behaviour=True)
    if chosen.category and target.catalog is None:
        raise DataError("--category names a column of a catalog, and there is none.", fix="Give --recipe.")
    found = measure(target.index, target.catalog, target.train, chosen.category)
    if chosen.html is not None:
        artifact.write_text(chosen.html, render_page(found, target.index, target.catalog))
    if chosen.json:
        page = None if chosen.html is None else str(chosen.html)
        text = json.dumps({**found.to_dict(), "missing": target.missing, "html": page}, ensure_ascii=False)
        print(text.encode("utf-8", "replace").decode())  # the settings may be anybody's
        return
    _print(found, target)
    if chosen.html is not None:
        print(f"\npage: {chosen.html}")


def export(chosen: argparse.Namespace) -> None:
    """Write the codes to a file."""
    from llmrec.indexes.export import export_index

    target = open_target(chosen.target, chosen.recipe, chosen.overrides, behaviour=False)
    if target.catalog is None:
        raise DataError(
            f"{chosen.target} holds codes, but not the ids of their items.",
            fix="Give --recipe with the recipe that it was built from, or a model folder.",
        )
    export_index(target.index, target.catalog.items, chosen.file, chosen.format)
    print(json.dumps({"file": str(chosen.file), "items": len(target.index)}) if chosen.json else chosen.file)


def open_target(path: Path, recipe: str | None, overrides: Sequence[str], behaviour: bool) -> Target:
    """Read an index, and what belongs to it as far as it can be found.

    Args:
        path: a model folder, an index folder, or the result of an index stage. recipe: says where its data are.
        overrides: of the recipe. behaviour: whether train rows are wanted.

    Raises:
        ArtifactError: there is no index, or catalog or data are of other items.
        LlmrecError: the recipe that was asked for, or an override, cannot be used.
    """
    from llmrec.indexes.base import ItemIndex

    inner = path / artifact.ITEM_INDEX
    folder = inner if inner.is_dir() else path
    if not (folder / "index.json").is_file():
        raise ArtifactError(
            f"{path} holds no index.json. Give a model folder made by 'llmrec run', or the folder that "
            "'llmrec index build RECIPE' prints."
        )
    index, catalog = ItemIndex.load(folder), None
    if (path / artifact.CATALOG).is_file():
        catalog = _read_catalog(path / artifact.CATALOG)
        _check_items(index, catalog, f"{path / artifact.CATALOG}")
    own = path / artifact.RECIPE
    if recipe is None and overrides and not own.is_file():
        raise DataError(f"{path} has no recipe to override.", fix="Give --recipe.")
    if catalog is not None and not behaviour:
        return Target(index, catalog, None)
    if recipe is not None or overrides:
        return _with_data(index, catalog, _plan(recipe or own, overrides))
    if not own.is_file():
        return Target(index, catalog, None, "give --recipe, which says where the train rows are.")
    # Nobody has asked to read, download or write anything on the word of a folder that may come from elsewhere.
    try:
        planned = _plan(own, [])
        if planned.cache.has(planned.data):
            return _with_data(index, catalog, planned)
        reason = "its data are not prepared here."
    except LlmrecError as error:
        reason = str(error)
    return Target(index, catalog, None, f"{reason} To read the data of its recipe, add --recipe {own}")


def _plan(recipe: str | Path, overrides: Sequence[str]) -> Plan:
    from llmrec.pipeline.run import plan
    from llmrec.recipe import load_recipe

    return plan(load_recipe(recipe, overrides))


def _read_catalog(file: Path) -> Catalog:
    import pyarrow.parquet as pq

    from llmrec.data.catalog import Catalog

    try:
        return Catalog(pq.read_table(file))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{file} is not a readable table ({error}). Save or download the folder again.") from error


def _with_data(index: ItemIndex, catalog: Catalog | None, planned: Plan) -> Target:
    """The index with the data of a recipe; its train rows in the order of the catalog."""
    from llmrec.data import split, store

    read, interactions = store.load(planned.cache.get(planned.data))
    if catalog is None:
        catalog = read
        _check_items(index, catalog, f"recipe '{planned.recipe.name}'")
    return Target(index, catalog, _of_catalog(split.cut(interactions, planned.recipe.split).train, catalog))


def _of_catalog(train: Interactions, catalog: Catalog) -> Interactions:
    """The same events with the catalog's item rows; a model folder may know items that came later."""
    import pyarrow as pa

    from llmrec.data.interactions import Interactions

    rows = catalog.items.rows(train.items.ids)[train.item_rows]
    if (rows < 0).any():
        raise ArtifactError("the data of the recipe have items that the model folder lacks. Give its own recipe.")
    at = train.table.column_names.index("item")
    return Interactions(train.users, catalog.items, train.table.set_column(at, "item", pa.array(rows)), train.offsets)


def _check_items(index: ItemIndex, catalog: Catalog, where: str) -> None:
    from llmrec.indexes.provenance import items_digest

    if len(catalog) != len(index) or items_digest(catalog.items) != index.provenance.get("items"):
        raise ArtifactError(f"{where}: its items are not those of the index. Give what the index was built from.")


def _print(found: Inspection, target: Target) -> None:
    """The figures as plain tables."""
    sizes = ", ".join(str(level.size) for level in found.levels[:8]) + (", ..." if len(found.levels) > 8 else "")
    levels = "1 level" if len(found.levels) == 1 else f"{len(found.levels)} levels"
    print(f"{found.kind}: {found.items:,} items, {levels} of {sizes} codes")
    if len(found.lengths) > 1:
        print("Code lengths: " + ", ".join(f"{count:,} items of {length}" for length, count in found.lengths.items()))
    before = "" if found.colliding_before is None else f"{found.colliding_before:,} before they were resolved, "
    most = f", at most {found.largest_bucket:,} items on one code" if found.colliding else ""
    print(f"Collisions: {before}{found.colliding:,} now{most}\n")
    head = ["level", "size", "used", "perplexity", "reconstruction error"]
    _print_table([head, *(_level_line(number, level) for number, level in enumerate(found.levels, 1))])
    print()
    head = ["depth", "prefixes", "mean items", "largest", "purity", "chance", "neighbours", "chance", "lift"]
    _print_table([head, *(_depth_line(number, depth) for number, depth in enumerate(found.depths, 1))])
    print()
    if found.category is not None:
        print(f"Purity: of {found.category!r}, {found.category_values:,} values.")
    elif target.catalog is None:
        print("Purity is left out: give --recipe, which says where the catalog is.")
    else:
        print("Purity is left out: no column of the catalog looks like a category. Name one with --category.")
    if found.pairs is None:
        print(f"Neighbours are left out: {target.missing}")
    else:
        print(f"Neighbours: {found.pairs:,} pairs of train events at most {found.window} apart.")


def _level_line(number: int, level: LevelFigures) -> list[str]:
    counts = [f"{number}", f"{level.size:,}", f"{level.used:,}", f"{level.perplexity:,.1f}"]
    return [*counts, _rounded(level.reconstruction_error)]


def _depth_line(number: int, depth: DepthFigures) -> list[str]:
    counts = [f"{number}", f"{depth.prefixes:,}", f"{depth.mean_items:,.1f}", f"{depth.largest:,}"]
    shares = [depth.purity, depth.purity_chance, depth.neighbours, depth.neighbours_chance]
    return [*counts, *map(_rounded, shares), _rounded(depth.lift, 2)]


def _rounded(value: float | None, places: int = 3) -> str:
    return "-" if value is None else f"{value:,.{places}f}"


def _print_table(lines: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
