"""Steam: reviews of games, as Kang and McAuley collected them (ICDM 2018).

`root` holds `steam_reviews.json.gz` and `steam_games.json.gz` (or unpacked), whose lines are Python dicts, not JSON.
They are read as literals and never executed, which takes longer than JSON. https://cseweb.ucsd.edu/~jmcauley/datasets.html
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from llmrec.sources.files import require
from llmrec.sources.json_lines import iter_records
from llmrec.sources.raw import EVENT, RawSource, text

FIELDS = ("username", "product_id", "date")
AT_ONCE = 50_000  # events


class SteamSource(RawSource):
    """Games with the columns `title`, `developer`, `genres` and `tags`; users are names, times are days (microseconds).

    A review is an event, whatever it says; many of one user fall on one day and keep the order of the file.
    """

    def files(self) -> tuple[Path, Path]:
        """The file of the reviews and that of the games."""
        return self._find("steam_reviews"), self._find("steam_games")

    def events(self, path: Path) -> Iterator[pa.RecordBatch]:
        """See `RawSource.events`."""
        everything = iter_records(path)
        while records := list(islice(everything, AT_ONCE)):
            columns = [pa.array([_word(record.get(field)) for record in records], pa.string()) for field in FIELDS]
            yield pa.RecordBatch.from_arrays(columns, names=list(EVENT[:3]))

    def item(self, record: dict[str, Any]) -> dict[str, str | None]:
        """See `RawSource.item`."""
        return {
            "item_id": _word(record.get("id")),
            "title": text(record.get("title")) or text(record.get("app_name")) or "",
            **{name: text(record.get(name)) for name in ("developer", "genres", "tags")},
        }

    def _find(self, stem: str) -> Path:
        packed = self.root / f"{stem}.json.gz"
        plain = packed.with_suffix("")
        return plain if plain.is_file() else require(packed)


def _word(value: Any) -> str | None:
    """An id, which may be a number."""
    return None if value is None or value == "" else str(value)
