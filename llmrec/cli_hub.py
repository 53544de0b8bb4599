"""The verb `push`, and how the other verbs name a model that may be on the Hub.

llmrec push runs/demo alice/demo --private
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_model(parser: argparse.ArgumentParser) -> None:
    """A model to read: `model` and `revision`, for `llmrec.hub.local_folder`."""
    parser.add_argument("model", type=Path, help="a model folder, or user/name on the Hub")
    parser.add_argument("--revision", help="of a model on the Hub: a branch, a tag or a commit")


def add_arguments(push: argparse.ArgumentParser) -> None:
    """What the verb takes. A token is no argument: other users of the machine could read it among its processes."""
    push.add_argument("model", type=Path, help="a model folder")
    push.add_argument("repository", help="user/name; made where it does not exist")
    push.add_argument("--private", action="store_true", help="only you can read it")
    text = "the branch to commit to; made where it does not exist (default main)"
    push.add_argument("--branch", "--revision", dest="branch", help=text)
    push.add_argument("--message", help="of the commit")


def push(chosen: argparse.Namespace) -> None:
    """Upload a model folder and say where it is."""
    from llmrec.hub import push_folder

    pushed = push_folder(
        chosen.model, chosen.repository, private=chosen.private, branch=chosen.branch, message=chosen.message
    )
    print(json.dumps(pushed._asdict())) if chosen.json else print(
        f"{pushed.url}\ncommit {pushed.commit}: {pushed.files} files, {pushed.bytes / 1e6:,.1f} MB"
    )
