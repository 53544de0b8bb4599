"""The contract of an index: items become short codes. It knows nothing of any language model."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.errors import ArtifactError


@dataclass(frozen=True)
class ItemIndex:
    """One code an item.

    Args:
        codes: `int32[N, L]`; `codes[i, l]` is in `[0, level_sizes[l])`.
        level_sizes: `L` codebook sizes.
        provenance: what made it: kind, settings, collision counts, hash of the items. JSON values only.

    Raises:
        ArtifactError: shapes or values disagree.
    """

    codes: NDArray[np.int32]
    level_sizes: tuple[int, ...]
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.codes.ndim != 2 or self.codes.shape[1] != len(self.level_sizes):
            raise ArtifactError(
                f"codes of shape {self.codes.shape} do not fit {len(self.level_sizes)} levels. Rebuild the index."
            )
        if len(self.codes) and ((self.codes < 0).any() or (self.codes >= np.asarray(self.level_sizes)).any()):
            row, level = np.argwhere((self.codes < 0) | (self.codes >= np.asarray(self.level_sizes)))[0]
            raise ArtifactError(
                f"item row {row} has code {self.codes[row, level]} on level {level}, allowed is 0 to "
                f"{self.level_sizes[level] - 1}. Rebuild the index."
            )

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def collisions(self) -> int:
        """Items that share their code with an earlier item; 0 for every index that llmrec builds."""
        return len(self.codes) - len(np.unique(self.codes, axis=0)) if len(self.codes) else 0

    @property
    def digest(self) -> str:
        """SHA-256 over codes and sizes, the identity of an index."""
        head = json.dumps([self.codes.shape, self.level_sizes]).encode()
        return hashlib.sha256(head + np.ascontiguousarray(self.codes, np.int32).tobytes()).hexdigest()

    def save(self, folder: Path) -> None:
        """Write `codes.safetensors` and `index.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"codes": np.ascontiguousarray(self.codes, np.int32)}, folder / "codes.safetensors")
        head = {"level_sizes": list(self.level_sizes), "digest": self.digest, "provenance": self.provenance}
        (folder / "index.json").write_text(json.dumps(head, indent=2, sort_keys=True) + "\n")

    @classmethod
    def load(cls, folder: Path) -> ItemIndex:
        """Read what `save` wrote.

        Raises:
            ArtifactError: a file is missing, damaged, or was changed after saving.
        """
        try:
            head = json.loads((folder / "index.json").read_text())
            codes = load_file(folder / "codes.safetensors")["codes"]
            if codes.dtype != np.int32:
                raise TypeError(f"its codes are {codes.dtype}, not int32")
            index = cls(codes, tuple(int(size) for size in head["level_sizes"]), head["provenance"])
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise ArtifactError(f"{folder} is not a readable item index ({error}). Rebuild it.") from error
        if index.digest != head.get("digest"):
            raise ArtifactError(f"{folder}: the codes differ from those that were saved. Rebuild or download it again.")
        return index


class Indexer(Protocol):
    """What every index technique offers (a `Component` whose fields are its settings)."""

    def build(self, catalog: Catalog, train: Interactions) -> ItemIndex:
        """Codes for every catalog row, from item texts and train rows only, the same for the same seed."""
        ...

    def fingerprint(self) -> str:
        """Changes when a file that `build` reads changes; see `Component.fingerprint`."""
        ...
