"""Find the files that ship beside the code: prompts, recipes and model card templates.

In a checkout (and an editable install) they are the folders at the top, where people read and change them; in an
installed wheel they are copies under `llmrec/_assets`. Nothing else in llmrec needs to know which.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from llmrec.errors import LlmrecError, did_you_mean

Kind = Literal["prompts", "recipes", "model_cards"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_PACKAGE = Path(__file__).resolve().parent


def folder(kind: Kind) -> Path:
    """The folder that holds all assets of one kind.

    Raises:
        LlmrecError: there is no such kind, or the folder is missing from this installation.
    """
    if kind not in KINDS:
        raise LlmrecError(f"There is no kind of asset '{kind}'. {did_you_mean(kind, KINDS)}")
    # The wheel's copy is asked first: beside an installed package lies site-packages, where any folder may be called
    # `prompts`. A checkout has no `_assets`.
    packed = _PACKAGE / "_assets"
    found = (packed if packed.is_dir() else _PACKAGE.parent) / kind
    if not found.is_dir():
        raise LlmrecError(f"{found}: this folder is missing from the installation. Reinstall it: pip install llmrec")
    return found


def names(kind: Kind) -> list[str]:
    """The names of all assets of one kind, sorted; sub-folders with forward slashes: `sft/beauty.yaml`."""
    root = folder(kind)
    files = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return sorted(file.as_posix() for file in files if not any(part.startswith((".", "__")) for part in file.parts))


def path(kind: Kind, name: str) -> Path:
    """The file of one asset, for example `path("prompts", "next_item.jinja")`.

    Args:
        kind: the folder. name: one of `names(kind)`; only those, so a name can never lead out of the folder.

    Raises:
        LlmrecError: there is no such asset; the message names the closest.
    """
    known = names(kind)
    if name not in known:
        raise LlmrecError(f"There is no '{name}' among the {kind.replace('_', ' ')}. {did_you_mean(name, known)}")
    return folder(kind) / name
