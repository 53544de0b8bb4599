"""Read the files of an index that anybody may have written: each is checked before memory is spent on what it claims.

A model folder is downloaded and opened by people who did not make it. Whatever a file holds, reading it ends with its
content or with one of `UNREADABLE`, which `ItemIndex.load` turns into a message.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from llmrec.errors import ArtifactError

UNREADABLE = (OSError, ValueError, KeyError, TypeError, SafetensorError)

MOST_HEAD_BYTES = 64 * 2**20
"""Of an `index.json`: many times what the pieces of the largest vocabulary take."""

MOST_DEPTH = 32
"""Of the provenance; what json reads at one depth of the program's stack it may be unable to write at another."""

STATE_TYPES = {"BOOL", "F64", "F32", "F16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8"}


FREE_TOKENS = 2**20
"""New tokens that any index may ask for, whatever the number of its items."""


def file_size(path: Path) -> int:
    """Bytes of an ordinary file, or of the one that a link leads to.

    Raises:
        OSError: it is missing or something else; a pipe or a device could be read forever.
    """
    if not path.is_file():
        raise OSError(f"{path.name} is missing" if not os.path.lexists(path) else f"{path.name} is no ordinary file")
    return path.stat().st_size


def read_json(path: Path, most_bytes: int, as_object: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """The value in a UTF-8 file, with or without a byte order mark.

    Args:
        path: the file. most_bytes: larger ones are not opened.
        as_object: makes an object of its members, a name that comes twice included; a dictionary when None.

    Raises:
        OSError, ValueError: it cannot be opened, is too large, no JSON, or nested too deeply.
    """
    if (size := file_size(path)) > most_bytes:
        raise ValueError(f"{path.name} has {size} bytes, at most {most_bytes} are read")
    try:
        return json.loads(
            path.read_text(encoding="utf-8-sig"), object_pairs_hook=as_object, parse_constant=_refuse_constant
        )
    except RecursionError:
        raise ValueError(f"{path.name} is nested too deeply") from None


def read_codes(path: Path, levels: int) -> tuple[NDArray[np.int32], NDArray[np.int32] | None]:
    """The arrays `codes` and, where there is one, `stand_ins`; their headers are compared before they are loaded.

    Raises:
        UNREADABLE: the file is damaged, or holds other arrays.
    """
    file_size(path)
    found = []
    with safe_open(path, framework="numpy") as file:
        if "codes" not in file.keys():
            raise KeyError("codes")
        for name in ("codes", "stand_ins"):
            if name not in file.keys():
                continue
            head = file.get_slice(name)
            if head.get_dtype() != "I32":
                raise TypeError(f"its {name} are {head.get_dtype()}, not int32")
            if len(head.get_shape()) != 2 or head.get_shape()[1] != levels:
                raise ValueError(f"{name} of shape {head.get_shape()} do not fit {levels} levels")
            found.append(np.asarray(file.get_tensor(name)))
    return found[0], found[1] if len(found) > 1 else None


def read_state(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of a file; none where there is no file.

    Raises:
        UNREADABLE: the file is damaged, or an array is of a kind that no index writes or has a value that is no number.
    """
    if not os.path.lexists(path):
        return {}
    file_size(path)
    state = {}
    with safe_open(path, framework="numpy") as file:
        for name in file.keys():
            if (kind := file.get_slice(name).get_dtype()) not in STATE_TYPES:
                raise TypeError(f"array '{name}' is {kind}, allowed are {', '.join(sorted(STATE_TYPES))}")
            state[name] = np.asarray(file.get_tensor(name))
            if state[name].dtype.kind == "f" and not np.isfinite(state[name]).all():
                raise ValueError(f"array '{name}' holds a value that is no finite number")
    return state


def check_provenance(value: Any) -> dict[str, Any]:
    """A dictionary that can be written again.

    Raises:
        ValueError, TypeError: it is something else, nested too deeply, or holds an infinite number.
    """
    if not isinstance(value, dict):
        raise TypeError(f"its provenance is a {type(value).__name__}, not an object")
    _check_depth(value, MOST_DEPTH)
    json.dumps(value, allow_nan=False)
    return value


def check_list(value: Any, name: str) -> tuple[Any, ...]:
    """A JSON list as a tuple.

    Raises:
        TypeError: it is something else; a string would pass as a list of letters.
    """
    if not isinstance(value, list):
        raise TypeError(f"its {name} are a {type(value).__name__}, not a list")
    return tuple(value)


def most_tokens(items: int) -> int:
    """The new tokens that an index of so many items may ask for.

    Every code of a level becomes a row of the model's embeddings, so a few digits in a damaged or hostile `index.json`
    could ask for terabytes. A million rows are many more than published codebooks have (8192 a level at most), and an
    index with a token of its own for every item stays below four times its items, with room for later ones.
    """
    return max(FREE_TOKENS, 4 * items)


def check_sizes(level_sizes: Sequence[int], items: int, pieces: Sequence[str] | None) -> None:
    """The sizes of an index's levels, before anything is made of them.

    Args:
        level_sizes: one a level. items: of the index. pieces: of an index of texts, whose levels add no tokens.

    Raises:
        ArtifactError: a size is no whole number or too large, or the pieces are others than the sizes say.
    """
    for level, size in enumerate(level_sizes):
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ArtifactError(
                f"the size of level {level} is no whole number from 1 on but a {type(size).__name__}. Rebuild it."
            )
    if pieces is None:
        if sum(level_sizes) > (room := most_tokens(items)):
            raise ArtifactError(
                f"the levels ask for more than {room} new tokens, the most that {items} items may have. Rebuild the "
                "index with smaller levels."
            )
        return
    if {len(pieces)} != set(level_sizes):
        raise ArtifactError(f"{len(pieces)} pieces do not fit the sizes of the levels. Rebuild the index.")
    if not all(isinstance(piece, str) for piece in pieces) or len(set(pieces)) != len(pieces):
        raise ArtifactError("the pieces of the titles must be texts, none of them twice. Rebuild the index.")
    try:
        "".join(pieces).encode()
    except UnicodeEncodeError as error:  # half of a surrogate pair, which no tokenizer takes
        raise ArtifactError(f"a piece of the titles is no text ({error.reason}). Rebuild the index.") from error


def _check_depth(value: Any, room: int) -> None:
    if not isinstance(value, dict | list):
        return
    if room == 0:
        raise ValueError(f"its provenance is nested more than {MOST_DEPTH} deep")
    for inner in value.values() if isinstance(value, dict) else value:
        _check_depth(inner, room - 1)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON value")
