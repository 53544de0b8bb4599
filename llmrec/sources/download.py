"""Fetch an archive once: short time-outs, a checksum, and a cache folder that appears whole or not at all."""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import shutil
import tempfile
import urllib.request
import zipfile
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

logger = logging.getLogger(__name__)

TIMEOUT = 5.0  # seconds, to connect and between two pieces
_LARGEST = 1 << 28  # bytes; no archive here is near this


def cached_archive(name: str, url: str, md5: str, members: Sequence[str]) -> Path | None:
    """The folder in the cache that holds these members of the archive, downloaded if it is not there yet.

    Args:
        name: the folder, in the cache and in the archive.
        url: where the zip archive is.
        md5: its checksum, as its owner publishes it.
        members: the files to take out.

    Returns:
        The folder; None if it is not cached and the site cannot be used (offline, unreachable, another file there).
    """
    cache = Path(os.environ.get("LLMREC_CACHE", "~/.cache/llmrec")).expanduser()
    if (folder := cache / name).is_dir():
        return folder
    if is_offline():
        return None
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=f".{name}-") as scratch:
            archive = Path(scratch, "archive.zip")
            if (found := _download(url, archive)) != md5:
                logger.warning("%s has the MD5 checksum %s, not %s; it is not used", url, found, md5)
                return None
            whole = Path(scratch, name)
            whole.mkdir()
            with zipfile.ZipFile(archive) as packed:
                for member in members:
                    with packed.open(f"{name}/{member}") as source, (whole / member).open("wb") as target:
                        shutil.copyfileobj(source, target)
            _publish(whole, folder)
    except (OSError, http.client.HTTPException, zipfile.BadZipFile, KeyError) as error:
        logger.info("%s cannot be used: %s", url, error)
        return None
    return folder


def is_offline() -> bool:
    """Whether `LLMREC_OFFLINE` or `HF_HUB_OFFLINE` asks to leave the network alone."""
    asked = (os.environ.get(name, "").strip().lower() for name in ("LLMREC_OFFLINE", "HF_HUB_OFFLINE"))
    return any(value in {"1", "on", "yes", "true"} for value in asked)


def _download(url: str, target: Path) -> str:
    """Write the file at this address to `target`; its MD5."""
    checksum, size = hashlib.md5(usedforsecurity=False), 0
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, target.open("wb") as out:
        total = int(answer.headers.get("Content-Length") or 0) or None
        with tqdm(total=total, desc=url.rpartition("/")[2], unit="B", unit_scale=True, leave=False) as bar:
            while piece := answer.read(1 << 16):
                if (size := size + len(piece)) > _LARGEST:
                    raise OSError(f"the file is larger than {_LARGEST:,} bytes")
                checksum.update(piece)
                out.write(piece)
                bar.update(len(piece))
    return checksum.hexdigest()


def _publish(whole: Path, folder: Path) -> None:
    """Move the finished folder to its place at once; another process that was faster wins."""
    try:
        whole.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
