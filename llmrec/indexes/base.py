"""The contract of an index: items become short codes. It knows nothing of any language model."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.data.vocabulary import Vocabulary
from llmrec.encoders.base import State
from llmrec.errors import ArtifactError
from llmrec.indexes.collisions import collision_report
from llmrec.indexes.files import (
    MOST_HEAD_BYTES,
    UNREADABLE,
    check_list,
    check_provenance,
    check_sizes,
    read_codes,
    read_json,
    read_state,
)
from llmrec.indexes.provenance import items_digest, level_usage
from llmrec.registry import build

END = -1
"""What fills a code behind its end, where the codes of an index differ in length."""


@dataclass(frozen=True)
class ItemIndex:
    """One code an item.

    Args:
        codes: `int32[N, L]`; `codes[i, l]` is in `[0, level_sizes[l])`, or `END` on every level behind a shorter code.
        level_sizes: `L` codebook sizes.
        provenance: what made it: kind, settings, collision counts, hash of the items. JSON values only.
        state: named arrays that `add` needs to place items that come later.
        pieces: for an index of texts, the token strings that the codes stand for, one list for all levels, the mark of
            an item's end last; None where codes become new tokens.
        stand_ins: `int32[A, L]`, for the last `A` items, which came after the model was trained: the trained code that
            is scored in place of theirs (see `llmrec.indexes.newcomers`); None where there is no such item.

    Raises:
        ArtifactError: shapes or values disagree.
    """

    codes: NDArray[np.int32]
    level_sizes: tuple[int, ...]
    provenance: dict[str, Any] = field(default_factory=dict)
    state: State = field(default_factory=dict)
    pieces: tuple[str, ...] | None = None
    stand_ins: NDArray[np.int32] | None = None

    def __post_init__(self) -> None:
        if self.codes.dtype != np.int32:
            raise ArtifactError(f"codes are {self.codes.dtype}, not int32. Rebuild the index.")
        if self.codes.ndim != 2 or not self.level_sizes or self.codes.shape[1] != len(self.level_sizes):
            raise ArtifactError(
                f"codes of shape {self.codes.shape} do not fit {len(self.level_sizes)} levels. Rebuild the index."
            )
        check_sizes(self.level_sizes, len(self.codes), self.pieces)
        _check_codes(self.codes, self.level_sizes, "item row")
        if self.stand_ins is not None:
            if self.stand_ins.dtype != np.int32 or self.stand_ins.shape[1:] != self.codes.shape[1:]:
                raise ArtifactError("the stand-ins of the new items are no codes of this index. Rebuild the index.")
            if not len(self.stand_ins) < len(self.codes):
                raise ArtifactError(f"{len(self.stand_ins)} of {len(self)} items are new. Rebuild the index.")
            _check_codes(self.stand_ins, self.level_sizes, "the stand-in of new item")

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """`int64[N]`: the levels that each item's code has."""
        return (self.codes != END).sum(axis=1)

    @property
    def trained(self) -> NDArray[np.int32]:
        """The codes that a model has been trained on, `int32[N - A, L]`: all but those of the new items."""
        return self.codes if self.stand_ins is None else self.codes[: len(self) - len(self.stand_ins)]

    @property
    def collisions(self) -> int:
        """Items that share their code with an earlier item; 0 for every index that llmrec builds."""
        return len(self.codes) - len(np.unique(self.codes, axis=0)) if len(self.codes) else 0

    @property
    def digest(self) -> str:
        """SHA-256 over codes, sizes, pieces and stand-ins, the identity of an index."""
        new = 0 if self.stand_ins is None else len(self.stand_ins)
        digest = hashlib.sha256(json.dumps([self.codes.shape, self.level_sizes, self.pieces, new]).encode())
        for codes in (self.codes, self.stand_ins):
            if codes is not None:
                digest.update(np.ascontiguousarray(codes, np.int32).tobytes())
        return digest.hexdigest()

    def add(self, catalog: Catalog) -> ItemIndex:
        """Codes for items that came after the index was made; every item that has one keeps it.

        Level sizes never change, so a model that was trained on this index needs no new row and can recommend the new
        items at once.

        Args:
            catalog: the items of this index in their order, and behind them the new ones.

        Raises:
            ArtifactError: the catalog does not begin with the items of this index.
            RecipeError: this kind of index cannot place an item that nobody has taken, or has no free code left.
        """
        known = Catalog(catalog.table.slice(0, len(self)))
        if len(catalog) < len(self) or items_digest(known.items) != self.provenance.get("items"):
            raise ArtifactError(
                f"the catalog does not begin with the {len(self)} items of this index. Append the new items behind "
                "them, in the order of the model folder's catalog."
            )
        if len(catalog) == len(self):
            return self
        settings = self.provenance.get("settings")
        if not isinstance(settings, dict):
            raise ArtifactError("the index does not say how it was made (provenance.settings). Rebuild it.")
        maker = build("index", {**settings, "kind": str(self.provenance.get("kind"))}, "index")
        added: ItemIndex = maker.add(self, catalog)
        return added

    def grown(
        self, codes: NDArray[np.int32], catalog: Catalog, stand_ins: NDArray[np.int32] | None = None
    ) -> ItemIndex:
        """With codes for the catalog rows behind its own, and a provenance that says so; for `Indexer.add`.

        Args:
            codes: `int32[A, L]`, of the new items. catalog: all items. stand_ins: `int32[A, L]`, of the new items.
        """
        whole = np.vstack([self.codes, codes])
        if stand_ins is not None and self.stand_ins is not None:
            stand_ins = np.vstack([self.stand_ins, stand_ins])
        made = self.provenance
        changed = {
            "items": items_digest(catalog.items),
            "levels": level_usage(whole, self.level_sizes),
            "collisions": {**made["collisions"], "after": collision_report(whole)},
            "added": made.get("added", 0) + len(codes),
        }
        return ItemIndex(whole, self.level_sizes, {**made, **changed}, self.state, self.pieces, stand_ins)

    def all_trained(self) -> ItemIndex:
        """Without stand-ins: after a training on all items each is scored by its own code."""
        return self if self.stand_ins is None else replace(self, stand_ins=None)

    def is_for(self, items: Vocabulary) -> bool:
        """Whether its rows are these items; an index that does not say whose it is passes for any of its length."""
        return len(items) == len(self) and self.provenance.get("items") in (None, items_digest(items))

    def save(self, folder: Path) -> None:
        """Write `codes.safetensors`, `index.json`, and `state.safetensors` where there is a state."""
        folder.mkdir(parents=True, exist_ok=True)
        codes = {"codes": self.codes} | ({} if self.stand_ins is None else {"stand_ins": self.stand_ins})
        save_file({name: np.ascontiguousarray(value) for name, value in codes.items()}, folder / "codes.safetensors")
        if self.state:
            arrays = {name: np.ascontiguousarray(value) for name, value in self.state.items()}
            save_file(arrays, folder / "state.safetensors")
        head = {
            "level_sizes": list(self.level_sizes),
            "digest": self.digest,
            "provenance": self.provenance,
            **({} if self.pieces is None else {"pieces": list(self.pieces)}),
        }
        (folder / "index.json").write_text(json.dumps(head, indent=2, sort_keys=True) + "\n")

    @classmethod
    def load(cls, folder: Path) -> ItemIndex:
        """Read what `save` wrote.

        Raises:
            ArtifactError: a file is missing, damaged, or was changed after saving.
        """
        try:
            head = read_json(folder / "index.json", MOST_HEAD_BYTES)
            sizes = check_list(head["level_sizes"], "level_sizes")
            codes, stand_ins = read_codes(folder / "codes.safetensors", len(sizes))
            index = cls(
                codes,
                sizes,
                check_provenance(head["provenance"]),
                read_state(folder / "state.safetensors"),
                check_list(head["pieces"], "pieces") if "pieces" in head else None,
                stand_ins,
            )
        except UNREADABLE as error:
            raise ArtifactError(f"{folder} is not a readable item index ({error}). Rebuild it.") from error
        if index.digest != head.get("digest"):
            raise ArtifactError(f"{folder}: the codes differ from those that were saved. Rebuild or download it again.")
        return index


def _check_codes(codes: NDArray[np.int32], level_sizes: tuple[int, ...], what: str) -> None:
    """Raise `ArtifactError` for a code outside of its level, or one behind the end."""
    ended = codes == END
    wrong = (codes < END) | (codes >= np.asarray(level_sizes))
    wrong[:, :1] |= ended[:, :1]
    wrong[:, 1:] |= ended[:, :-1] & ~ended[:, 1:]
    if wrong.any():
        row, level = np.argwhere(wrong)[0]
        raise ArtifactError(
            f"{what} {row} has code {codes[row, level]} on level {level}, allowed is 0 to {level_sizes[level] - 1}. "
            "Rebuild the index."
        )


class Indexer(Protocol):
    """What every index technique offers (a `Component` whose fields are its settings)."""

    def build(self, catalog: Catalog, train: Interactions) -> ItemIndex:
        """Codes for every catalog row, from item texts and train rows only, the same for the same seed."""
        ...

    def add(self, index: ItemIndex, catalog: Catalog) -> ItemIndex:
        """`index` with codes for the catalog rows behind its own; called by `ItemIndex.add`, which has checked them.

        Raises:
            RecipeError: this technique cannot, or no code is free.
        """
        ...

    def fingerprint(self) -> str:
        """Changes when a file that `build` reads changes; see `Component.fingerprint`."""
        ...
