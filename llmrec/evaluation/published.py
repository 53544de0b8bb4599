"""What papers report on a data set, from `published.yaml`: other protocols, so never a part of a leaderboard."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml


def published(data: str, items: int) -> dict[str, Any]:
    """`protocol`, in words, and `lines`: each has `model`, `source` and some of `hr@10`, `ndcg@10`. Empty if none.

    Args:
        data: name of the data set. items: of its catalog; another number means another data set of that name.
    """
    found = every().get(data, {})
    return found if found.get("items") == items else {}


@cache
def every() -> dict[str, dict[str, Any]]:
    """All data sets of the file, by their names."""
    read: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
    return read
