"""The verbs `push` and `card`, and how the other verbs name a model that may be on the Hub.

llmrec card runs/demo --data-license cc-by-4.0
llmrec push runs/demo alice/demo --private
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from llmrec import artifact

if TYPE_CHECKING:
    from llmrec.recipe import CardRecipe

ANSWERS = {
    "data_license": "of the training data: an identifier of the Hub, such as cc-by-4.0, or words",
    "data_link": "where the licence of the training data is written",
    "license": "of the model: an identifier of the Hub; 'other' with a name and a link",
    "license_name": "for --license other",
    "license_link": "for --license other",
}


def add_model(parser: argparse.ArgumentParser) -> None:
    """A model to read: `model` and `revision`, for `llmrec.hub.local_folder`."""
    parser.add_argument("model", type=Path, help="a model folder, or user/name on the Hub")
    parser.add_argument("--revision", help="of a model on the Hub: a branch, a tag or a commit")


def add_arguments(push: argparse.ArgumentParser, card: argparse.ArgumentParser) -> None:
    """What the verbs take. A token is no argument: other users of the machine could read it among its processes."""
    for parser in (push, card):
        parser.add_argument("model", type=Path, help="a model folder")
        for name, text in ANSWERS.items():
            parser.add_argument(f"--{name.replace('_', '-')}", dest=name, metavar="WORDS", help=f"for the card: {text}")
    push.add_argument("repository", help="user/name; made where it does not exist")
    push.add_argument("--private", action="store_true", help="only you can read it")
    text = "the branch to commit to; made where it does not exist (default main)"
    push.add_argument("--branch", "--revision", dest="branch", help=text)
    push.add_argument("--message", help="of the commit")


def _answers(chosen: argparse.Namespace) -> CardRecipe | None:
    from llmrec.recipe import CardRecipe

    given = {name: value for name in ANSWERS if (value := getattr(chosen, name))}
    return CardRecipe.parse(given) if given else None


def card(chosen: argparse.Namespace) -> None:
    """Write the card of a model folder anew."""
    from llmrec.card import write_card

    known, file = write_card(chosen.model, _answers(chosen)), str(chosen.model / artifact.CARD)
    print(json.dumps({"file": file, **known.settings()}) if chosen.json else file)


def push(chosen: argparse.Namespace) -> None:
    """Upload a model folder and say where it is."""
    from llmrec.hub import push_folder

    pushed = push_folder(
        chosen.model,
        chosen.repository,
        private=chosen.private,
        branch=chosen.branch,
        message=chosen.message,
        answers=_answers(chosen),
    )
    print(json.dumps(pushed._asdict())) if chosen.json else print(
        f"{pushed.url}\ncommit {pushed.commit}: {pushed.files} files, {pushed.bytes / 1e6:,.1f} MB"
    )
