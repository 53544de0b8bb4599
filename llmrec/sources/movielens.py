"""MovieLens, from 100 thousand to 32 million ratings (Harper and Konstan, ACM TiiS 5(4), 2015).

Where a data set comes from, the first that answers:

1. `path`, a folder with GroupLens' own files;
2. the cache, such as `~/.cache/llmrec/ml-100k` (`LLMREC_CACHE` names another cache folder), else GroupLens' site, whose
   archive is checked and cached; `LLMREC_OFFLINE=1` or `HF_HUB_OFFLINE=1` skips the site;
3. for ml-100k, the copy inside an installed `recbole` package, which is not imported. `path` may also hold such a copy.

All give the same ids, events and event order. The data are for research and may not be redistributed.
"""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Literal, NamedTuple

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

URL = "https://files.grouplens.org/datasets/movielens/{}.zip"
ORIGINAL = ("u.data", "u.item")
COLONS = ("ratings.dat", "movies.dat")
COMMAS = ("ratings.csv", "movies.csv")


class _Release(NamedTuple):
    """One of GroupLens' archives: the files of events and films, what goes with them, and the archive's checksum.

    None where the archive changes.
    """

    files: tuple[str, str]
    readme: str
    md5: str | None


RELEASES = {  # checksums as GroupLens publishes them beside each archive
    "ml-100k": _Release(ORIGINAL, "README", "0e33842e24a9c977be4e0107933c0723"),
    "ml-1m": _Release(COLONS, "README", "c4d9eecfca2ab87c1945afe126590906"),
    "ml-20m": _Release(COMMAS, "README.txt", "cd245b17a1ae2cc31bb14903e1204af3"),
    "ml-25m": _Release(COMMAS, "README.txt", "6b51fb2759a8657d3bfcbfc42b592ada"),
    "ml-32m": _Release(COMMAS, "README.txt", "d472be332d4daa821edc399621853b57"),
    "ml-latest-small": _Release(COMMAS, "README.txt", None),
}
NO_GENRES = "(no genres listed)"
ATOMIC = ("ml-100k.inter", "ml-100k.item")
GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip


class MovieLensSource(Checks):
    """A release of MovieLens, with titles like `Toy Story (1995)` and a column `genres`.

    Args:
        name: the data set. path: a folder that holds it; None looks in the places that the module names.
    """

    name: Literal["ml-100k", "ml-1m", "ml-20m", "ml-25m", "ml-32m", "ml-latest-small"] = "ml-100k"
    path: Path | None = None

    def load(self) -> Dataset:
        """Read and check the data set.

        Raises:
            DataError: it is nowhere to be found (the message says how to get it), or is damaged.
        """
        events, items = _locate(self.name, self.path)
        rated, films = _READERS[events.name](events, items)
        return assemble(rated, films, Columns(), self, (str(events), str(items)))

    def fingerprint(self) -> str:
        """SHA-256 over the contents of both files (other places hold other bytes of the same data)."""
        return digest(_locate(self.name, self.path))


def _locate(name: str, path: Path | None) -> tuple[Path, Path]:
    release = RELEASES[name]
    if path is not None:
        names = ATOMIC if name == "ml-100k" and (path / ATOMIC[0]).exists() else release.files
        return require(path / names[0]), require(path / names[1])
    url = URL.format(name)
    if release.md5 is not None:
        folder = cached_archive(name, url, release.md5, (*release.files, release.readme))
        if folder is not None:
            return folder / release.files[0], folder / release.files[1]
    if name != "ml-100k":
        raise DataError(
            f"{name} is not here: " + (f"{url} did not answer (or is switched off)." if release.md5 else "it changes."),
            fix=f"Unpack {url} and give its folder as 'path' ({', '.join(release.files)}).",
        )
    package = importlib.util.find_spec("recbole")
    for place in (package.submodule_search_locations or []) if package else []:
        if (folder := Path(place, "dataset_example", "ml-100k")).is_dir():
            logger.info("MovieLens 100K from the installed package recbole")
            return require(folder / ATOMIC[0]), require(folder / ATOMIC[1])
    raise DataError(
        f"MovieLens 100K is not here: {url} did not answer (or is switched off), and recbole is not installed.",
        fix="Give 'path' (a folder with u.data and u.item), go online, or run: pip install --no-deps recbole==1.2.1",
    )


def _read_colons(events: Path, items: Path) -> tuple[pa.Table, pa.Table]:
    """MovieLens 1M: `1::1193::5::978300760`. No value holds a colon twice, but titles hold one."""
    rated = _split(events, ("user_id", "item_id", "rating", "timestamp"))
    return rated, _with_genres(_split(items, ("item_id", "title", "genres")))


def _split(path: Path, names: tuple[str, ...]) -> pa.Table:
    lines = read_delimited(path, "\x01", names=("line",), quoted=False, encoding="latin-1")["line"]
    parts = pc.split_pattern(lines, "::")
    wrong = pc.not_equal(pc.list_value_length(parts), len(names))
    if (row := pc.index(wrong, pa.scalar(True)).as_py()) >= 0:
        raise DataError(
            f"{lines[row].as_py()!r} has not {len(names)} values with '::' between them.",
            where=str(path),
            row=row,
            fix="Take the file from GroupLens' archive again.",
        )
    return pa.table({name: pc.list_element(parts, place) for place, name in enumerate(names)})


def _read_commas(events: Path, items: Path) -> tuple[pa.Table, pa.Table]:
    """MovieLens 20M and later: CSV with a header."""
    rated = read_delimited(events, ",").select(["userId", "movieId", "rating", "timestamp"])
    films = read_delimited(items, ",").select(["movieId", "title", "genres"])
    named = films.rename_columns(["item_id", "title", "genres"])
    return rated.rename_columns(["user_id", "item_id", "rating", "timestamp"]), _with_genres(named)


def _with_genres(films: pa.Table) -> pa.Table:
    genres = pc.replace_substring(pc.replace_substring(films["genres"], "|", ", "), NO_GENRES, "")
    return films.set_column(films.column_names.index("genres"), "genres", genres)


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


_READERS = {
    ORIGINAL[0]: _read_original,
    ATOMIC[0]: _read_atomic,
    COLONS[0]: _read_colons,
    COMMAS[0]: _read_commas,
}
