"""MovieLens 100K: 943 people, 1,682 films, 100,000 ratings (Harper and Konstan, ACM TiiS 5(4), 2015).

Where it comes from, the first that answers:

1. `path`, a folder with GroupLens' own `u.data` and `u.item`, or with RecBole's `ml-100k.inter` and `ml-100k.item`;
2. the cache, `~/.cache/llmrec/ml-100k` (`LLMREC_CACHE` names another cache folder), else GroupLens' site, whose archive
   is checked and cached; `LLMREC_OFFLINE=1` or `HF_HUB_OFFLINE=1` skips the site;
3. the copy inside an installed `recbole` package, which is not imported.

All give the same ids, events and event order. The data are for research and may not be redistributed.
"""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from llmrec.errors import DataError
from llmrec.sources.assemble import Checks, assemble
from llmrec.sources.base import Dataset
from llmrec.sources.columns import Columns
from llmrec.sources.download import cached_archive
from llmrec.sources.files import digest, read_delimited, require
from llmrec.sources.recbole import read_atomic

logger = logging.getLogger(__name__)

URL = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
MD5 = "0e33842e24a9c977be4e0107933c0723"  # as GroupLens publishes it, in ml-100k.zip.md5
ORIGINAL = ("u.data", "u.item")
ATOMIC = ("ml-100k.inter", "ml-100k.item")
GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip


class MovieLensSource(Checks):
    """MovieLens 100K, with titles like `Toy Story (1995)` and a column `genres`.

    Args:
        name: the data set. path: a folder that holds it; None looks in the places that the module names.
    """

    name: Literal["ml-100k"] = "ml-100k"
    path: Path | None = None

    def load(self) -> Dataset:
        """Read and check the data set.

        Raises:
            DataError: it is nowhere to be found (the message says how to get it), or is damaged.
        """
        events, items = _locate(self.path)
        read = _read_original if events.name == ORIGINAL[0] else _read_atomic
        return assemble(*read(events, items), Columns(), self, (str(events), str(items)))

    def fingerprint(self) -> str:
        """SHA-256 over the contents of both files (other places hold other bytes of the same data)."""
        return digest(_locate(self.path))


def _locate(path: Path | None) -> tuple[Path, Path]:
    if path is not None:
        names = ATOMIC if (path / ATOMIC[0]).exists() else ORIGINAL
        return require(path / names[0]), require(path / names[1])
    if (folder := cached_archive("ml-100k", URL, MD5, (*ORIGINAL, "README"))) is not None:
        return folder / ORIGINAL[0], folder / ORIGINAL[1]
    package = importlib.util.find_spec("recbole")
    for place in (package.submodule_search_locations or []) if package else []:
        if (folder := Path(place, "dataset_example", "ml-100k")).is_dir():
            logger.info("MovieLens 100K from the installed package recbole")
            return require(folder / ATOMIC[0]), require(folder / ATOMIC[1])
    raise DataError(
        f"MovieLens 100K is not here: {URL} did not answer (or is switched off), and recbole is not installed.",
        fix="Give 'path' (a folder with u.data and u.item), go online, or run: pip install --no-deps recbole==1.2.1",
    )


def _read_original(events: Path, items: Path) -> tuple[pa.Table, pa.Table]:
    rated = read_delimited(events, "\t", names=("user_id", "item_id", "rating", "timestamp"), quoted=False)
    names = ("item_id", "title", "release", "video_release", "url", *GENRES)
    films = read_delimited(items, "|", names=names, quoted=False, encoding="latin-1")
    flagged = [pc.if_else(pc.equal(films[genre], "1"), genre, pa.scalar(None, pa.string())) for genre in GENRES]
    genres = pc.binary_join_element_wise(*flagged, ", ", null_handling="skip")
    return rated, pa.table({"item_id": films["item_id"], "title": films["title"], "genres": genres})


def _read_atomic(events: Path, items: Path) -> tuple[pa.Table, pa.Table]:
    films = read_atomic(items)
    # RecBole cut 'Toy Story (1995)' into title and year; one film has no year, only 'unkonwn' (its spelling) twice.
    no_year = pc.equal(films["release_year"], "unkonwn")
    dated = pc.binary_join_element_wise(films["movie_title"], " (", films["release_year"], ")", "")
    titles = pc.if_else(no_year, "unknown", dated)
    genres = pc.replace_substring(films["class"], " ", ", ")
    return read_atomic(events), pa.table({"item_id": films["item_id"], "title": titles, "genres": genres})
