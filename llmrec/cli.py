"""The command line: `llmrec run recipes/demo.yaml train.args.num_train_epochs=2`.

Results go to stdout, progress to stderr; `--json` prints one JSON object as the last line. Libraries are imported
inside the verbs, so `llmrec --help` answers at once.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llmrec
from llmrec import artifact, assets, cli_index, cli_serve
from llmrec.errors import DataError, LlmrecError

if TYPE_CHECKING:
    from llmrec.data.catalog import Catalog
    from llmrec.data.interactions import Interactions
    from llmrec.pipeline.run import Plan
    from llmrec.recommenders.base import Recommender
    from llmrec.types import Rows

logger = logging.getLogger("llmrec")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the exit status is 0, 1 for an error that the message explains, 130 after Ctrl-C."""
    parser = _parser()
    chosen, later = parser.parse_known_args(arguments)
    # argparse takes no more positional arguments after an option: `run a.yaml --json seed=1`.
    if later and (not hasattr(chosen, "overrides") or any(word.startswith("-") for word in later)):
        parser.error(f"unrecognized arguments: {' '.join(later)}")
    if later:
        chosen.overrides = [*chosen.overrides, *later]
    _set_up_logging(chosen.verbose)
    try:
        return chosen.verb(chosen) or 0
    except LlmrecError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command continues from the last checkpoint", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llmrec", description="Turn a language model into a recommender.")
    parser.add_argument("--version", action="version", version=llmrec.__version__)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON object as the last line of stdout")
    common.add_argument("--verbose", action="store_true", help="also what the libraries have to say")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, function: Any, text: str, among: Any = verbs) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = among.add_parser(name, help=text, description=text, parents=[common])
        added.set_defaults(verb=function)
        return added

    def staged(last: str, name: str, text: str, among: Any = verbs) -> None:
        added = verb(name, _run, text, among)
        added.set_defaults(last=last)
        added.add_argument("recipe", help="a YAML file, or the name of a shipped recipe (llmrec recipes ls)")
        added.add_argument("overrides", nargs="*", help="dotted.key=value", default=[])
        added.add_argument("--dry-run", action="store_true", help="print the plan and stop")

    staged("evaluate", "run", "do all stages of a recipe: data, index, train, evaluate, model folder")
    staged("data", "prepare", "only read, clean and split the data of a recipe")
    text = "item indexes: build | inspect | export"
    indexes = verbs.add_parser("index", help=text, description=text).add_subparsers(required=True, metavar="ACTION")
    staged("index", "build", "only up to the item index", indexes)
    cli_index.add_arguments(
        verb("inspect", cli_index.inspect, "how good the codes of an index or a model folder are", indexes),
        verb("export", cli_index.export, "write the codes as other projects read them", indexes),
    )
    staged("train", "train", "only up to the trained model")

    demo = verb("demo", _demo, "train on MovieLens-100K in minutes and show one user's recommendations")
    demo.add_argument("overrides", nargs="*", help="dotted.key=value for recipes/demo.yaml", default=[])

    add = verb("add", _add, "add new items to a trained model, which can recommend them at once")
    add.add_argument("model", type=Path)
    add.add_argument("items", type=Path, help="a table of the new items alone: .parquet or .csv")
    add.add_argument("output", type=Path, help="the new model folder")

    recommend = verb("recommend", _recommend, "recommend with a finished model folder")
    recommend.add_argument("model", type=Path)
    who = recommend.add_mutually_exclusive_group(required=True)
    who.add_argument("--user", help="a user id of the data that the model was trained on")
    who.add_argument("--history", help="item ids with commas between, oldest first")
    text = "many users: parquet, CSV or TSV with the columns user and history (a list of item ids, oldest first)"
    who.add_argument("--input", type=Path, help=text)
    text = "for --input: the folder to write the lists to; the same command continues one that was stopped"
    recommend.add_argument("--output", type=Path, help=text)
    recommend.add_argument("--shard-users", type=int, help="for --input: users in one file of the output")
    recommend.add_argument("-k", type=int, default=10, help="items wanted (default 10)")
    recommend.add_argument("--keep-seen", action="store_true", help="items of the history may be recommended")
    recommend.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="COLUMN=VALUE",
        help="only items with this value in a column of the catalog; where repeated, all must hold",
    )

    cli_serve.add_arguments(
        verb("serve", cli_serve.serve, "answer over HTTP; see docs/serving.md"),
        verb("key", cli_serve.key, "make a key for a server's --api-keys or --admin-keys file"),
    )

    evaluate = verb("evaluate", _evaluate, "measure a model folder again, on the test questions of its recipe")
    evaluate.add_argument("model", type=Path)
    evaluate.add_argument("overrides", nargs="*", help="dotted.key=value for its recipe", default=[])

    recipes = verb("recipes", _recipes, "the shipped recipes: ls | show NAME | cp NAME FILE | check [NAME ...]")
    recipes.add_argument("action", choices=["ls", "show", "cp", "check"])
    recipes.add_argument("names", nargs="*")
    return parser


def _set_up_logging(verbose: bool) -> None:
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.WARNING)
    logger.setLevel(logging.INFO)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not verbose:
        for name in ("TRANSFORMERS_VERBOSITY", "DATASETS_VERBOSITY"):
            os.environ.setdefault(name, "error")
        os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False))


def _run(chosen: argparse.Namespace) -> None:
    from llmrec.pipeline.run import build_stages, plan
    from llmrec.recipe import load_recipe

    planned = plan(load_recipe(chosen.recipe, chosen.overrides))
    wanted = planned.up_to(chosen.last)
    if chosen.dry_run:
        rows = [{"stage": s.title, "key": s.key, "cached": planned.cache.has(s)} for s in wanted]
        if chosen.json:
            _print_json({"plan": rows, "folder": str(planned.folder)})
            return
        for row in rows:
            print(f"{row['stage']:<10} {row['key']}  {'cached' if row['cached'] else 'to do'}")
        print(f"{'folder':<10} {planned.folder}")
        return
    build_stages(planned, wanted)
    if chosen.last == "evaluate":
        summary = _finish(planned)
        if chosen.json:
            _print_json(summary)
    else:
        folder = str(planned.cache.folder(wanted[-1]))
        _print_json({"folder": folder}) if chosen.json else print(folder)


def _finish(planned: Plan) -> dict[str, Any]:
    """Make the model folder, print the comparison, give back the summary."""
    from llmrec.evaluation.report import print_comparison
    from llmrec.pipeline.run import finish, load_evaluations

    summary = finish(planned)
    print_comparison(load_evaluations(planned))
    if "best_stage" in summary:
        valid = ", ".join(f"{name} {found['valid']['ndcg@10']:.4f}" for name, found in summary["stages"].items())
        print(f"\nkept: {summary['best_stage']}, the best NDCG@10 on validation ({valid})")
    print(f"\nmodel folder: {summary['folder']}")
    return summary


def _demo(chosen: argparse.Namespace) -> None:
    from llmrec.evaluation.report import print_user
    from llmrec.pipeline.run import build_stages, load_split, plan
    from llmrec.recipe import load_recipe
    from llmrec.recommenders.base import Recommender

    planned = plan(load_recipe("demo", chosen.overrides))
    build_stages(planned, planned.stages)
    summary = _finish(planned)
    split = load_split(planned)
    user = int(split.test.histories.lengths.argmin())  # short enough to read
    history = split.test.histories[user]
    recommender = Recommender.from_pretrained(planned.folder)
    print(f"\nUser '{split.train.users[int(split.test.users[user])]}'")
    print_user(recommender.catalog, history, recommender.recommend([history], 10), targets=split.test.targets[user])
    print(f"\nTry it: .venv/bin/llmrec recommend {planned.folder} --history 50,172,181")
    if chosen.json:
        _print_json(summary)


def _add(chosen: argparse.Namespace) -> None:
    from llmrec.recommenders.llm import LLMRecommender
    from llmrec.sources.files import read_table
    from llmrec.sources.table import items_from_frame

    recommender = LLMRecommender.from_pretrained(chosen.model)
    grown = recommender.add_items(items_from_frame(read_table(chosen.items), str(chosen.items)))
    grown.save_pretrained(chosen.output)
    added = len(grown.catalog) - len(recommender.catalog)
    found = {"folder": str(chosen.output), "items": len(grown.catalog), "added": added}
    _print_json(found) if chosen.json else print(
        f"{chosen.output}: {len(grown.catalog):,} items, {added:,} of them new"
    )


def _recommend(chosen: argparse.Namespace) -> None:
    from llmrec.evaluation.report import print_user
    from llmrec.recommenders.base import Recommender

    if chosen.k < 1:
        raise DataError(f"-k is {chosen.k}.", fix="Ask for at least one item.")
    if (chosen.input is None) != (chosen.output is None):
        raise DataError("--input and --output go together.", fix="Name a file of histories and a folder for the lists.")
    if chosen.input is not None:
        _recommend_file(chosen)
        return
    recommender = Recommender.from_pretrained(chosen.model)
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
    if not chosen.json:
        print_user(catalog, history, found)
        return
    items = [
        {"item_id": catalog.items[int(row)], "title": catalog.title(row), "score": float(score)}
        for row, score in zip(found.rows[0], found.scores[0], strict=True)
        if row >= 0
    ]
    ids = [catalog.items[int(row)] for row in history]
    _print_json({"items": items, "allowed": allowed, "unknown": len(unknown), "history": ids})


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
    _print_json({"folder": str(chosen.output), **found._asdict()}) if chosen.json else print(
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

    planned = plan(load_recipe(_recipe_of(model)))
    return store.load(planned.cache.get(planned.data))[1]


def _recipe_of(model: Path) -> Path:
    recipe = model / artifact.RECIPE
    if not recipe.is_file():
        raise DataError(f"{recipe} is missing.", fix="Give a folder made by 'llmrec run', or use --history.")
    return recipe


def _evaluate(chosen: argparse.Namespace) -> None:
    import torch

    from llmrec.evaluation.protocol import evaluate
    from llmrec.evaluation.report import print_comparison
    from llmrec.pipeline.run import load_split, plan
    from llmrec.recipe import load_recipe
    from llmrec.recommenders.base import Recommender
    from llmrec.recommenders.llm import Decoding, LLMRecommender

    planned = plan(load_recipe(_recipe_of(chosen.model), chosen.overrides))
    split, settings = load_split(planned), planned.recipe.evaluation
    questions = split.test.sample(settings.users, planned.recipe.seed)
    recommender = Recommender.from_pretrained(chosen.model)
    if isinstance(recommender, LLMRecommender) and recommender.model is not None:
        recommender.decoding = Decoding.parse(planned.recipe.decoding, "decoding")
        recommender.model.to(getattr(torch, settings.precision))
    found = evaluate(recommender, questions, settings.ks, settings.exclude_seen, split=split.protocol)
    print_comparison({planned.recipe.name: found})
    if chosen.json:
        _print_json(found.to_dict())


def _recipes(chosen: argparse.Namespace) -> None:
    from llmrec.recipe import find_recipe

    # base.yaml holds what the recipes beside it share; it is no run by itself.
    files = [Path(name) for name in assets.names("recipes") if name.endswith(".yaml")]
    shipped = [file.with_suffix("").as_posix() for file in files if file.stem != "base"]
    if chosen.action == "ls":
        _print_json({"recipes": shipped}) if chosen.json else print("\n".join(shipped))
    elif chosen.action == "show":
        if not chosen.names:
            raise LlmrecError(f"recipes show takes names, such as: llmrec recipes show {shipped[0]}")
        texts = {name: find_recipe(name).read_text() for name in chosen.names}
        _print_json(texts) if chosen.json else print("\n".join(texts.values()))
    elif chosen.action == "cp":
        if len(chosen.names) != 2:
            raise LlmrecError("recipes cp takes a recipe and the file to write: llmrec recipes cp demo mine.yaml")
        target = Path(chosen.names[1])
        if target.exists():
            raise LlmrecError(f"{target} exists already. Choose another name.")
        artifact.write_text(target, find_recipe(chosen.names[0]).read_text())
        _print_json({"file": str(target)}) if chosen.json else print(target)
    else:
        _check_recipes(chosen.names or shipped, chosen.json)


def _check_recipes(names: Sequence[str], as_json: bool) -> None:
    """Build every plug-in of every recipe; data and models are not touched. Without a GPU it is as if for a CPU."""
    import torch

    from llmrec.pipeline.run import check
    from llmrec.recipe import load_recipe

    failed = {}
    for name in names:
        try:
            check(load_recipe(name, [] if torch.cuda.is_available() else ["train.args.use_cpu=true"]))
        except LlmrecError as error:
            failed[name] = str(error)
        print(f"{name:<40} {'FAILED: ' + failed[name] if name in failed else 'ok'}")
    if as_json:
        _print_json({"found": len(names), "failed": failed})
    if failed:
        raise LlmrecError(f"{len(failed)} of {len(names)} recipes cannot be used.")
