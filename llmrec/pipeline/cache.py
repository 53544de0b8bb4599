"""A folder per finished stage, named by a hash of everything that its result depends on.

A stage writes into a hidden folder and is renamed when it is complete, so a killed run leaves either a whole stage or
none. What a stage wants to keep across a kill (checkpoints) goes into its work folder, which is removed at the end.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from llmrec import artifact
from llmrec.pipeline import processes
from llmrec.pipeline.machine import machine, versions

logger = logging.getLogger(__name__)

FORMAT = 1
"""Raise it when a stage's files or meaning change, so that old caches are not read."""

FINISHED = "stage.json"

POLL = 0.2
"""Seconds between two looks for a stage that another process builds."""


@dataclass(frozen=True)
class Stage:
    """One step of a run.

    Args:
        name: for people. settings: JSON values that the result depends on. parents: the stages whose results it reads.
        build: makes the result; it gets the folder to fill and the work folder that survives a kill.
        label: what a recipe calls it, where that is not its name; the result does not depend on it.
        together: whether all processes of a run build it, as they do when they train; otherwise the first one does.
    """

    name: str
    settings: dict[str, Any]
    parents: tuple[Stage, ...]
    build: Callable[[Path, Path], None]
    label: str = ""
    together: bool = False

    @property
    def title(self) -> str:
        """The name with the label, as a plan prints it."""
        return f"{self.name} {self.label}".rstrip()

    @property
    def key(self) -> str:
        """Hexadecimal digits that change when anything changes that the result depends on."""
        content = {
            "format": FORMAT,
            "name": self.name,
            "settings": self.settings,
            "parents": [parent.key for parent in self.parents],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


class StageCache:
    """Finished stages in one folder.

    Args:
        root: it may be shared by many recipes: equal stages are built once.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, stage: Stage) -> Path:
        """Where the result of a stage is, or will be."""
        return self.root / f"{stage.name}-{stage.key}"

    def has(self, stage: Stage) -> bool:
        """Whether the stage is finished."""
        return (self.folder(stage) / FINISHED).is_file()

    def get(self, stage: Stage) -> Path:
        """The folder of a finished stage, built now if it is not there; a second process waits for the first."""
        final = self.folder(stage)
        if self.has(stage):
            logger.info("%s: cached (%s)", stage.name, stage.key)
            shutil.rmtree(_beside(final, "work"), ignore_errors=True)  # killed just before the end of `_build`
            return final
        if not processes.is_first():
            self._take_part(stage, final)
            return final
        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(_beside(final, "lock")):
            if not self.has(stage):
                self._build(stage, final)
        return final

    def _take_part(self, stage: Stage, final: Path) -> None:
        """What another process than the first does: train along, and wait for what the first one writes.

        Its own files are thrown away. Where the first process fails, the launcher ends this one.
        """
        if stage.together:
            with tempfile.TemporaryDirectory() as scratch:
                stage.build(Path(scratch), _beside(final, "work"))
        while not self.has(stage):
            time.sleep(POLL)

    def _build(self, stage: Stage, final: Path) -> None:
        partial, work = _beside(final, "partial"), _beside(final, "work")
        for leftover in (partial, final):  # of a run that was killed; a result without its record
            shutil.rmtree(leftover, ignore_errors=True)
        partial.mkdir()
        work.mkdir(exist_ok=True)
        logger.info("%s: begins (%s)", stage.name, stage.key)
        began = time.perf_counter()
        stage.build(partial, work)
        seconds = time.perf_counter() - began
        record = {
            "name": stage.name,
            "settings": stage.settings,
            "seconds": round(seconds, 3),
            "machine": machine(),
            "versions": versions(),
        }
        artifact.write_text(partial / FINISHED, json.dumps(record, indent=2) + "\n")
        os.replace(partial, final)
        shutil.rmtree(work, ignore_errors=True)
        logger.info("%s: done in %.1f s", stage.name, seconds)

    def record(self, stage: Stage) -> dict[str, Any]:
        """What was written when the stage finished, its `seconds`, `machine` and `versions` among them."""
        return dict(json.loads((self.folder(stage) / FINISHED).read_text()))


def _beside(final: Path, purpose: str) -> Path:
    """The hidden neighbour of a result: its `lock`, its `partial` and its `work` folder."""
    return final.with_name(f".{final.name}.{purpose}")
