"""The Yelp Open Dataset: people, places and reviews, as JSON lines.

`root` holds `yelp_academic_dataset_review.json` and `yelp_academic_dataset_business.json`, as they come out of the
archive or compressed to `.json.gz`. For academic use; the terms are in the archive.
https://business.yelp.com/data/resources/open-dataset/
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from llmrec.sources.files import require
from llmrec.sources.json_lines import read_events
from llmrec.sources.raw import EVENT, RawSource, text

FIELDS = {"user_id": pa.string(), "business_id": pa.string(), "date": pa.string(), "stars": pa.float64()}


class YelpSource(RawSource):
    """Places with the columns `title` (their name), `city`, `state` and `categories`; times are microseconds."""

    def files(self) -> tuple[Path, Path]:
        """The file of the reviews and that of the places."""
        return self._find("review"), self._find("business")

    def events(self, path: Path) -> Iterator[pa.RecordBatch]:
        """See `RawSource.events`."""
        for batch in read_events(path, FIELDS):
            yield batch.rename_columns(EVENT)

    def item(self, record: dict[str, Any]) -> dict[str, str | None]:
        """See `RawSource.item`."""
        return {
            "item_id": text(record.get("business_id")),
            "title": text(record.get("name")) or "",
            **{name: text(record.get(name)) for name in ("city", "state", "categories")},
        }

    def _find(self, what: str) -> Path:
        path = self.root / f"yelp_academic_dataset_{what}.json"
        packed = path.with_name(f"{path.name}.gz")
        return packed if packed.is_file() else require(path)
