"""The verb `recommend`: for one history on the screen, or for a whole file of them."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrec import artifact
from llmrec.errors import DataError

if TYPE_CHECKING:
    from llmrec.data.catalog import Catalog
    from llmrec.data.interactions import Interactions
    from llmrec.recommenders.base import Recommender
    from llmrec.recommenders.llm import LLMRecommender
    from llmrec.recommenders.reasons import Reason
    from llmrec.types import Rows, ScoredItems

logger = logging.getLogger("llmrec")


def add_arguments(recommend: argparse.ArgumentParser) -> None:
    """What the verb takes, beside the model."""
    who = recommend.add_mutually_exclusive_group(required=True)
    who.add_argument("--user", help="a user id of the data that the model was trained on")
    who.add_argument("--history", help="item ids with commas between, oldest first")
    text = "many users: parquet, CSV or TSV with the columns user and history (a list of item ids, oldest first)"
    who.add_argument("--input", type=Path, help=text)
    text = "for --input: the folder to write the lists to; the same command continues one that was stopped"
    text = "what is wanted, in words (language models that learned it, see docs/language.md)"
    who.add_argument("--query", metavar="TEXT", help=text)
    recommend.add_argument("--output", type=Path, help=text)
    recommend.add_argument("--shard-users", type=int, help="for --input: users in one file of the output")
    recommend.add_argument("-k", type=int, default=10, help="items wanted (default 10)")
    text = "choose the k items together, as one list (language models only; not with --input)"
    recommend.add_argument("--list", action="store_true", dest="as_list", help=text)
    text = "say for each item which items of the history speak for it (language models only; with --user or --history)"
    recommend.add_argument("--why", action="store_true", help=text)
    recommend.add_argument("--keep-seen", action="store_true", help="items of the history may be recommended")
    recommend.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="COLUMN=VALUE",
        help="only items with this value in a column of the catalog; where repeated, all must hold",
    )


def recommend(chosen: argparse.Namespace) -> None:
    """Recommend, and print or write what comes."""
    from llmrec.evaluation.report import print_user
    from llmrec.hub import local_folder
    from llmrec.recommenders.base import Recommender

    if chosen.k < 1:
        raise DataError(f"-k is {chosen.k}.", fix="Ask for at least one item.")
    if chosen.why and ((chosen.user is None and chosen.history is None) or chosen.as_list):
        raise DataError("--why needs a history and single items.", fix="Use it with --user or --history alone.")
    if (chosen.input is None) != (chosen.output is None):
        raise DataError("--input and --output go together.", fix="Name a file of histories and a folder for the lists.")
    chosen.model = local_folder(chosen.model, chosen.revision)
    if chosen.input is not None:
        if chosen.as_list:
            raise DataError("--list and --input do not go together.", fix="Use AsLists with recommend_batch in Python.")
        _recommend_file(chosen)
        return
    recommender = Recommender.from_pretrained(chosen.model)
    if chosen.query is not None:
        _search(recommender, chosen)
        return
    if chosen.as_list:
        recommender = _as_lists(recommender)
    history, unknown = _history(recommender, chosen)
    if unknown:
        some = ", ".join(unknown[:5])
        logger.warning("%d of the history's items are not in the catalog and are skipped: %s", len(unknown), some)
    if not len(history):
        logger.warning("no known item in the history: this is what the model recommends to anybody")
    catalog = recommender.catalog
    candidates = _candidates(catalog, chosen.where)
    allowed = _count_allowed(catalog, history, candidates, chosen)
    found = recommender.recommend([history], chosen.k, exclude_seen=not chosen.keep_seen, candidates=candidates)
    why = _reasons(recommender, history, found.rows[0]) if chosen.why else []
    if not chosen.json:
        print_user(catalog, history, found, notes=[reason.text for reason in why])
        return
    items = _items(catalog, found)
    for item, reason in zip(items, why, strict=False):
        item["why"] = reason.text
        item["because"] = [
            {"item_id": catalog.items[row], "gain": gain}
            for row, gain in zip(reason.because, reason.gains, strict=True)
        ]
    ids = [catalog.items[int(row)] for row in history]
    print_json({"items": items, "allowed": allowed, "unknown": len(unknown), "history": ids})


def _search(recommender: Recommender, chosen: argparse.Namespace) -> None:
    """Answer `--query`."""
    import numpy as np

    from llmrec.data.price import comparable_limits, told, within
    from llmrec.evaluation.report import print_query

    if chosen.as_list:
        raise DataError("--list and --query do not go together.", fix="Leave --list out.")
    asked = _language_model(recommender, "--query")
    catalog = asked.catalog
    candidates, limits = _candidates(catalog, chosen.where), comparable_limits(chosen.query, catalog)
    if limits:
        fitting, price = catalog.where(within(limits)), told(limits)
        logger.info("the request names a price: %s, which %d of %d items satisfy", price, len(fitting), len(catalog))
        candidates = fitting if candidates is None else np.intersect1d(candidates, fitting)
    allowed = len(catalog) if candidates is None else len(candidates)
    if allowed < chosen.k:
        logger.warning("%d items were asked for, only %d are allowed", chosen.k, allowed)
    found = asked.search(chosen.query, chosen.k, candidates=candidates)
    if not chosen.json:
        print_query(catalog, chosen.query, found)
        return
    items = _items(catalog, found)
    print_json({"items": items, "allowed": allowed, "query": chosen.query, "price": told(limits)})


def _items(catalog: Catalog, found: ScoredItems) -> list[dict[str, Any]]:
    """The first list, best item first."""
    return [
        {"item_id": catalog.items[int(row)], "title": catalog.title(row), "score": float(score)}
        for row, score in zip(found.rows[0], found.scores[0], strict=True)
        if row >= 0
    ]


def _reasons(recommender: Recommender, history: Rows, rows: Rows) -> list[Reason]:
    from llmrec.recommenders.reasons import reasons

    return reasons(_language_model(recommender, "--why"), history, rows)


def _language_model(recommender: Recommender, flag: str) -> LLMRecommender:
    """The same, where it is one that writes codes.

    Raises:
        DataError: it is another kind.
    """
    from llmrec.recommenders.llm import LLMRecommender

    if not isinstance(recommender, LLMRecommender):
        told = (
            f"{flag} needs a language model that writes codes, and this folder holds a recommender of the kind "
            f"'{recommender.kind}'."
        )
        raise DataError(told, fix=f"Leave {flag} out.")
    return recommender


def _as_lists(recommender: Recommender) -> Recommender:
    """The same model, asked for one list."""
    from llmrec.recommenders.as_lists import AsLists

    return AsLists(_language_model(recommender, "--list"))


def _candidates(catalog: Catalog, conditions: Sequence[str]) -> Rows | None:
    """The items that satisfy all of `--where`; None where nothing was asked."""
    import numpy as np

    from llmrec.data.filters import read_condition

    # One by one, not as one mapping: a column of lists may be asked for two values.
    parts = [catalog.where(read_condition(catalog.table, text)) for text in conditions]
    return reduce(np.intersect1d, parts) if parts else None


def _count_allowed(catalog: Catalog, history: Rows, candidates: Rows | None, chosen: argparse.Namespace) -> int:
    """How many items may be recommended; says why where they are fewer than wanted."""
    import numpy as np

    there = np.arange(len(catalog)) if candidates is None else candidates
    seen = 0 if chosen.keep_seen else int(np.isin(there, history).sum())
    allowed = len(there) - seen
    if allowed < chosen.k:
        where = f"{len(there)} of {len(catalog)} items fit --where" if chosen.where else f"there are {len(there)} items"
        taken = f", and {seen} of these are in the history (--keep-seen allows them)" if seen else ""
        logger.warning("%d items were asked for, only %d are allowed: %s%s", chosen.k, allowed, where, taken)
    return allowed


def _recommend_file(chosen: argparse.Namespace) -> None:
    from llmrec.recommenders.stream import SHARD_USERS, recommend_file

    size = SHARD_USERS if chosen.shard_users is None else chosen.shard_users
    found = recommend_file(
        chosen.model, chosen.input, chosen.output, chosen.k, exclude_seen=not chosen.keep_seen, shard_users=size
    )
    print_json({"folder": str(chosen.output), **found._asdict()}) if chosen.json else print(
        f"{chosen.output}: {found.users:,} users in {found.shards:,} files, {found.skipped_shards:,} of them from "
        f"before; {found.users_per_second:,.1f} users a second; {found.unknown_items:,} unknown items left out"
    )


def _history(recommender: Recommender, chosen: argparse.Namespace) -> tuple[Rows, list[str]]:
    """Item rows of the request, and the ids that the catalog lacks."""
    if chosen.user is not None:
        interactions = _interactions_of(chosen.model)
        user = interactions.users.row(chosen.user)
        if user < 0:
            raise DataError(
                f"user '{chosen.user}' is not in the data that this model was trained on.",
                fix="Give --history with item ids instead.",
            )
        return interactions.history(user), []
    ids = [part.strip() for part in chosen.history.split(",") if part.strip()]
    rows = recommender.catalog.items.rows(ids)
    return rows[rows >= 0], [name for name, row in zip(ids, rows, strict=True) if row < 0]


def _interactions_of(model: Path) -> Interactions:
    """All events of the data behind a model folder; the folder itself holds none, so that it can be shared."""
    from llmrec.data import store
    from llmrec.pipeline.run import plan
    from llmrec.recipe import load_recipe

    planned = plan(load_recipe(recipe_of(model)))
    return store.load(planned.cache.get(planned.data))[1]


def recipe_of(model: Path) -> Path:
    """The recipe that a model folder was made by.

    Raises:
        DataError: the folder holds none.
    """
    recipe = model / artifact.RECIPE
    if not recipe.is_file():
        raise DataError(f"{recipe} is missing.", fix="Give a folder made by 'llmrec run', or use --history.")
    return recipe


def print_json(value: Any) -> None:
    """The last line of stdout."""
    print(json.dumps(value, ensure_ascii=False))
