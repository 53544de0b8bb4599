"""The verbs of `llmrec index` that work on finished indexes: inspect and export."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from llmrec import artifact
from llmrec.errors import ArtifactError

if TYPE_CHECKING:
    from llmrec.data.catalog import Catalog
    from llmrec.data.interactions import Interactions
    from llmrec.indexes.base import ItemIndex
    from llmrec.indexes.inspect import Inspection


def add_arguments(inspecting: argparse.ArgumentParser, exporting: argparse.ArgumentParser) -> None:
    """What the two verbs take."""
    inspecting.add_argument("target", type=Path, help="a model folder, or a folder with an index")
    inspecting.add_argument("--recipe", help="measure neighbours in the train rows of this recipe")
    inspecting.add_argument("--category", help="catalog column to compare prefixes with")
    inspecting.add_argument("--html", type=Path, metavar="FILE", help="write a page with plots and all codes")
    exporting.add_argument("target", type=Path, help="a model folder")
    exporting.add_argument("file", type=Path)
    exporting.add_argument("--format", default="lcrec", help="lcrec, id2sid, text, sem_ids, openonerec or table")


def _read(target: Path) -> tuple[ItemIndex, Catalog | None]:
    """The index of a model folder or of a folder that is an index, and its catalog where there is one."""
    import pyarrow.parquet as pq

    from llmrec.data.catalog import Catalog
    from llmrec.indexes.base import ItemIndex

    folder = target / artifact.ITEM_INDEX if (target / artifact.ITEM_INDEX).is_dir() else target
    if not (folder / "index.json").is_file():
        raise ArtifactError(
            f"{target} holds no index.json. Give a model folder, or a folder that an index was saved in."
        )
    catalog = target / artifact.CATALOG
    return ItemIndex.load(folder), Catalog(pq.read_table(catalog)) if catalog.is_file() else None


def _train_rows(recipe: str) -> tuple[Catalog, Interactions]:
    from llmrec.data import split, store
    from llmrec.pipeline.run import plan
    from llmrec.recipe import load_recipe

    planned = plan(load_recipe(recipe))
    catalog, interactions = store.load(planned.cache.get(planned.data))
    return catalog, split.cut(interactions, planned.recipe.split).train


def inspect(chosen: argparse.Namespace) -> None:
    """Print the figures of an index, and draw them where asked."""
    from llmrec.indexes.inspect import inspect as measured
    from llmrec.indexes.inspect_page import render_page

    index, catalog = _read(chosen.target)
    train = None
    if chosen.recipe:
        data, train = _train_rows(chosen.recipe)
        catalog = catalog or data
    found = measured(index, catalog, train, chosen.category)
    if chosen.html:
        artifact.write_text(chosen.html, render_page(found, index, catalog))
    if chosen.json:
        print(json.dumps(found.to_dict(), ensure_ascii=False))
        return
    _print(found)
    if train is None:
        print("\nNo train rows were given, so it is not said whether neighbours share prefixes: --recipe RECIPE.")


def _print(found: Inspection) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    before = "unknown" if found.colliding_before is None else f"{found.colliding_before:,}"
    print(f"{found.kind}: {found.items:,} items; sharing a code: {before} before, {found.colliding:,} now")
    levels = Table("level", "size", "used", "perplexity", "not yet described")
    for number, level in enumerate(found.levels):
        left = level.reconstruction_error
        row = (number, level.size, level.used, f"{level.perplexity:.1f}", "" if left is None else f"{left:.1%}")
        levels.add_row(*map(str, row))
    console.print(levels)
    depths = Table("prefix of", "prefixes", "items each", "purity", "by chance", "neighbours", "by chance")
    for depth, here in enumerate(found.depths, 1):
        shares = (here.purity, here.purity_chance, here.neighbours, here.neighbours_chance)
        cells = ("" if share is None else f"{share:.1%}" for share in shares)
        depths.add_row(str(depth), f"{here.prefixes:,}", f"{found.items / here.prefixes:.1f}", *cells)
    console.print(depths)


def export(chosen: argparse.Namespace) -> None:
    """Write the codes in another project's format."""
    from llmrec.indexes.export import export_index

    index, catalog = _read(chosen.target)
    if catalog is None:
        raise ArtifactError(f"{chosen.target} has no {artifact.CATALOG}, which names the items. Give a model folder.")
    export_index(index, catalog.items, chosen.file, chosen.format)
    print(json.dumps({"file": str(chosen.file)}) if chosen.json else chosen.file)
