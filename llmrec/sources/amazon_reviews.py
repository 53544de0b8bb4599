"""Amazon reviews as McAuley's group publishes them, in the formats of 2014, 2018 and 2023.

| year | reviews | items | paper |
|---|---|---|---|
| 2014 | `reviews_CATEGORY_5.json.gz`, `reviews_CATEGORY.json.gz` | `meta_CATEGORY.json.gz`, lines of Python dicts | McAuley et al., SIGIR 2015; He and McAuley, WWW 2016 |
| 2018 | `CATEGORY_5.json.gz`, `CATEGORY.json.gz` | `meta_CATEGORY.json.gz` | Ni et al., EMNLP 2019 |
| 2023 | `CATEGORY.jsonl.gz` | `meta_CATEGORY.jsonl.gz` | Hou et al., 2024 |

Each also without `.gz`. Of a review its user, item, time and rating are read. https://amazon-reviews-2023.github.io/
"""  # noqa: E501 - a table

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from llmrec.errors import DataError
from llmrec.sources.json_lines import read_events
from llmrec.sources.raw import EVENT, RawSource, text


class _Format(NamedTuple):
    """What files and fields are called."""

    reviews: tuple[str, ...]
    items: str
    suffix: str
    event: tuple[str, str, str, str]  # user, item, time, rating
    item: str
    brand: tuple[str, ...]
    categories: str


OLD_EVENT = ("reviewerID", "asin", "unixReviewTime", "overall")
FORMATS = {
    2014: _Format(
        ("reviews_{}_5", "reviews_{}"), "meta_{}", ".json", OLD_EVENT, "asin", ("brand",), "categories"
    ),
    2018: _Format(("{}_5", "{}"), "meta_{}", ".json", OLD_EVENT, "asin", ("brand",), "category"),
    2023: _Format(
        ("{}",), "meta_{}", ".jsonl", ("user_id", "parent_asin", "timestamp", "rating"), "parent_asin",
        ("store",), "categories",
    ),
}  # fmt: skip


class AmazonReviewsSource(RawSource):
    """A category of Amazon reviews, with the columns `title`, `brand` (2023: the store) and `categories`.

    Args:
        category: as it stands in the names of the files, such as `Office_Products`. year: of the publication.
        keep: further fields of the items that are texts or lists of texts, such as `description` and `features`.

    Times are seconds in 2014 and 2018, milliseconds in 2023. In 2023 an item is a `parent_asin`: colours and sizes
    of one thing are one item.
    """

    category: str
    year: Literal[2014, 2018, 2023]
    keep: tuple[str, ...] = ()

    def files(self) -> tuple[Path, Path]:
        """The file of the reviews, the 5-core where it is there, and that of the items."""
        form = FORMATS[self.year]
        return self._find(form.reviews, form.suffix), self._find((form.items,), form.suffix)

    def events(self, path: Path) -> Iterator[pa.RecordBatch]:
        """See `RawSource.events`."""
        types = (pa.string(), pa.string(), pa.int64(), pa.float64())
        for batch in read_events(path, dict(zip(FORMATS[self.year].event, types, strict=True))):
            yield batch.rename_columns(EVENT)

    def item(self, record: dict[str, Any]) -> dict[str, str | None]:
        """See `RawSource.item`."""
        form = FORMATS[self.year]
        return {
            "item_id": text(record.get(form.item)),
            "title": text(record.get("title")) or "",
            "brand": next((found for name in form.brand if (found := text(record.get(name)))), None),
            "categories": text(record.get(form.categories)),
            **{name: text(record.get(name)) for name in self.keep},
        }

    def _find(self, stems: tuple[str, ...], suffix: str) -> Path:
        names = [f"{stem.format(self.category)}{suffix}{end}" for stem, end in product(stems, (".gz", ""))]
        for name in names:
            if (path := self.root / name).is_file():
                return path
        raise DataError(
            f"none of {', '.join(names)} is in this folder.",
            where=str(self.root),
            fix="Give the folder as data.root, and category and year as in the names of the files.",
        )
