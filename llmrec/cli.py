"""The command line: `llmrec run recipes/demo.yaml train.args.num_train_epochs=2`.

Results go to stdout, progress to stderr; `--json` prints one JSON object as the last line. Libraries are imported
inside the verbs, so `llmrec --help` answers at once.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llmrec
from llmrec import artifact, cli_distill, cli_evaluate, cli_hub, cli_index, cli_recommend, cli_serve
from llmrec.errors import LlmrecError

if TYPE_CHECKING:
    from llmrec.pipeline.plan import Plan
    from llmrec.recipe import AnyRecipe

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

    text = "teach a small model what a finished one knows; see docs/distillation.md"
    distill = verb("distill", _distill, text)
    distill.set_defaults(last="evaluate")
    distill.add_argument("teacher", type=Path, help="a model folder made by llmrec run, or user/name on the Hub")
    distill.add_argument("--revision", help="of a teacher on the Hub")
    distill.add_argument("overrides", nargs="*", help="dotted.key=value, such as distill.student.layers=1", default=[])
    distill.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    cli_distill.add_study(distill)

    demo = verb("demo", _demo, "train on MovieLens-100K in minutes and show one user's recommendations")
    demo.add_argument("overrides", nargs="*", help="dotted.key=value for recipes/demo.yaml", default=[])

    add = verb("add", _add, "add new items to a trained model, which can recommend them at once")
    cli_hub.add_model(add)
    add.add_argument("items", type=Path, help="a table of the new items alone: .parquet or .csv")
    add.add_argument("output", type=Path, help="the new model folder")

    prune = verb("prune", _prune, "drop the words of a model folder that its prompts never hold")
    cli_hub.add_model(prune)
    prune.add_argument("output", type=Path, help="the new model folder, which recommends the same")

    quantize = verb("quantize", _quantize, "store the weights of a model folder in eight bits, by torchao")
    cli_hub.add_model(quantize)
    quantize.add_argument("output", type=Path, help="the new model folder")
    text = "int8: weights alone (default); int8_dynamic: activations too, which is faster on some machines"
    quantize.add_argument("--kind", choices=["int8", "int8_dynamic"], default="int8", help=text)

    recommend = verb("recommend", cli_recommend.recommend, "recommend with a finished model folder")
    cli_hub.add_model(recommend)
    cli_recommend.add_arguments(recommend)
    serve = verb("serve", cli_serve.serve, "answer over HTTP; see docs/serving.md")
    cli_hub.add_model(serve)
    cli_serve.add_arguments(
        serve, verb("key", cli_serve.key, "make a key for a server's --api-keys or --admin-keys file")
    )
    cli_hub.add_arguments(
        verb("push", cli_hub.push, "upload a model folder to the Hugging Face Hub; see docs/hub.md"),
        verb("card", cli_hub.card, "write the model card of a folder anew; see docs/hub.md"),
    )

    text = "measure finished models on the test questions of their recipes, one or several side by side"
    cli_evaluate.add_arguments(verb("evaluate", cli_evaluate.evaluate, text))

    text = "the shipped recipes: ls | show NAME | cp NAME FILE | check [NAME ...]"
    recipes = verb("recipes", _recipes, text)
    recipes.add_argument("action", choices=["ls", "show", "cp", "check"])
    recipes.add_argument("names", nargs="*")
    text = "check every shipped recipe, and the files for Accelerate (as check does without names)"
    recipes.add_argument("--all", action="store_true", help=text)
    return parser


def _set_up_logging(verbose: bool) -> None:
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.WARNING)
    logger.setLevel(logging.INFO)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not verbose:
        for name in ("TRANSFORMERS_VERBOSITY", "DATASETS_VERBOSITY"):
            os.environ.setdefault(name, "error")
        os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")


def _run(chosen: argparse.Namespace) -> None:
    from llmrec.pipeline.run import plan
    from llmrec.recipe import load_recipe

    _carry_out(plan(load_recipe(chosen.recipe, chosen.overrides)), chosen)


def _distill(chosen: argparse.Namespace) -> None:
    from llmrec.hub import local_folder
    from llmrec.pipeline.run import plan
    from llmrec.recipe import distill_recipe

    recipe = distill_recipe(local_folder(chosen.teacher, chosen.revision), chosen.overrides)
    cli_distill.study(recipe, chosen) if chosen.study else _carry_out(plan(recipe), chosen)


def _carry_out(planned: Plan, chosen: argparse.Namespace) -> None:
    """Print the plan, or build its stages up to the one that is wanted."""
    from llmrec.pipeline import processes
    from llmrec.pipeline.run import build_stages

    wanted = planned.up_to(chosen.last)
    if chosen.dry_run:
        rows = [{"stage": s.title, "key": s.key, "cached": planned.cache.has(s)} for s in wanted]
        if chosen.json:
            cli_recommend.print_json({"plan": rows, "folder": str(planned.folder)})
            return
        for row in rows:
            print(f"{row['stage']:<10} {row['key']}  {'cached' if row['cached'] else 'to do'}")
        print(f"{'folder':<10} {planned.folder}")
        return
    build_stages(planned, wanted)
    if not processes.is_first():
        return
    if chosen.last == "evaluate":
        summary = _finish(planned)
        if chosen.json:
            cli_recommend.print_json(summary)
    else:
        folder = str(planned.cache.folder(wanted[-1]))
        cli_recommend.print_json({"folder": folder}) if chosen.json else print(folder)


def _finish(planned: Plan) -> dict[str, Any]:
    """Make the model folder, print the comparison, give back the summary."""
    from llmrec.evaluation.report import print_comparison
    from llmrec.pipeline.run import finish, load_evaluations

    summary = finish(planned)
    print_comparison(load_evaluations(planned))
    if "best_stage" in summary:
        valid = ", ".join(f"{name} {found['valid']['ndcg@10']:.4f}" for name, found in summary["stages"].items())
        print(f"\nkept: {summary['best_stage']}, the best NDCG@10 on validation ({valid})")
    if "distillation" in summary:
        found = summary["distillation"]
        kept = ", ".join(f"{share:.1%} of its {name}" for name, share in found["kept"].items() if share is not None)
        print(f"\nstudent: {found['ratio']:.1%} of the parameters of {found['teacher']}; {kept}")
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
    print(f"With a page: .venv/bin/llmrec serve {planned.folder}")
    if chosen.json:
        cli_recommend.print_json(summary)


def _add(chosen: argparse.Namespace) -> None:
    from llmrec.recommenders.llm import LLMRecommender
    from llmrec.sources.files import read_table
    from llmrec.sources.table import items_from_frame

    recommender = LLMRecommender.from_pretrained(chosen.model, revision=chosen.revision)
    grown = recommender.add_items(items_from_frame(read_table(chosen.items), str(chosen.items)))
    grown.save_pretrained(chosen.output)
    added = len(grown.catalog) - len(recommender.catalog)
    found = {"folder": str(chosen.output), "items": len(grown.catalog), "added": added}
    cli_recommend.print_json(found) if chosen.json else print(
        f"{chosen.output}: {len(grown.catalog):,} items, {added:,} of them new"
    )


def _prune(chosen: argparse.Namespace) -> None:
    from llmrec.card import write_card
    from llmrec.hub import local_folder
    from llmrec.recommenders.llm import LLMRecommender
    from llmrec.recommenders.llm_folder import copy_about
    from llmrec.recommenders.pruning import pruned

    chosen.model = local_folder(chosen.model, chosen.revision)
    recommender = LLMRecommender.from_pretrained(chosen.model)
    before = len(recommender.task.items.tokenizer)
    small = pruned(recommender)
    rows = [before, len(small.task.items.tokenizer)]
    copy_about(chosen.model, chosen.output)
    small.save_pretrained(chosen.output)
    write_card(chosen.output)
    _print_smaller(chosen, f"{rows[0]:,} rows of the vocabulary became {rows[1]:,}", {"rows": rows})


def _quantize(chosen: argparse.Namespace) -> None:
    from llmrec.card import write_card
    from llmrec.hub import local_folder
    from llmrec.recommenders.llm_folder import copy_about
    from llmrec.recommenders.quantization import quantize_folder

    chosen.model = local_folder(chosen.model, chosen.revision)
    copy_about(chosen.model, chosen.output)
    quantize_folder(chosen.model, chosen.output, chosen.kind)
    write_card(chosen.output)
    _print_smaller(chosen, chosen.kind, {"kind": chosen.kind})


def _print_smaller(chosen: argparse.Namespace, text: str, what: dict[str, Any]) -> None:
    """What became of a folder, with the bytes of its weights before and after."""
    folders = (chosen.model, chosen.output)
    weights = [sum(path.stat().st_size for path in folder.glob("*.safetensors")) for folder in folders]
    megabytes = " and now ".join(f"{size / 1e6:,.1f}" for size in weights)
    found = {"folder": str(chosen.output), **what, "bytes": weights}
    cli_recommend.print_json(found) if chosen.json else print(f"{chosen.output}: {text}; {megabytes} MB of weights")


def _recipes(chosen: argparse.Namespace) -> None:
    from llmrec.recipe import find_recipe, shipped_recipes

    shipped = shipped_recipes()
    if chosen.action == "ls":
        cli_recommend.print_json({"recipes": shipped}) if chosen.json else print("\n".join(shipped))
    elif chosen.action == "show":
        if not chosen.names:
            raise LlmrecError(f"recipes show takes names, such as: llmrec recipes show {shipped[0]}")
        texts = {name: find_recipe(name).read_text() for name in chosen.names}
        cli_recommend.print_json(texts) if chosen.json else print("\n".join(texts.values()))
    elif chosen.action == "cp":
        if len(chosen.names) != 2:
            raise LlmrecError("recipes cp takes a recipe and the file to write: llmrec recipes cp demo mine.yaml")
        target = Path(chosen.names[1])
        if target.exists():
            raise LlmrecError(f"{target} exists already. Choose another name.")
        artifact.write_text(target, find_recipe(chosen.names[0]).read_text())
        cli_recommend.print_json({"file": str(target)}) if chosen.json else print(target)
    else:
        if chosen.names and chosen.all:
            raise LlmrecError("recipes check takes names or --all, not both.")
        _check_recipes(chosen.names, chosen.json)


def on_this_machine(recipe: AnyRecipe) -> list[str]:
    """Overrides with which the stages of a recipe run on the CPU, where there is no GPU."""
    import torch

    if torch.cuda.is_available() or recipe.trained_under is None:
        return []
    trained = [recipe.trained_under, *(f"align.{name}" for name in getattr(recipe, "alignments", {}))]
    return [f"{key}.args.use_cpu=true" for key in trained]


def _check_recipes(names: Sequence[str], as_json: bool) -> None:
    """Build every plug-in of every recipe; data and models are not touched. Without a GPU it is as if for a CPU.

    Without names: all that are shipped, and the files for Accelerate.
    """
    from llmrec.pipeline.launch import check_launch, is_launch, shipped_launches
    from llmrec.pipeline.run import check
    from llmrec.recipe import find_recipe, load_recipe, shipped_recipes

    failed = {}
    names = names or [*shipped_recipes(), *shipped_launches()]
    for name in names:
        try:
            if is_launch(find_recipe(name)):
                check_launch(find_recipe(name))
            else:
                check(load_recipe(name, on_this_machine(load_recipe(name))))
        except LlmrecError as error:
            failed[name] = str(error)
        print(f"{name:<40} {'FAILED: ' + failed[name] if name in failed else 'ok'}")
    if as_json:
        cli_recommend.print_json({"found": len(names), "failed": failed})
    if failed:
        raise LlmrecError(f"{len(failed)} of {len(names)} recipes cannot be used.")
