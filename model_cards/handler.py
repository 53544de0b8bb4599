"""A Hub inference endpoint for this model: POST {"inputs": {"history": ["item id", ...]}, "parameters": {"k": 10}}."""

from typing import Any

from llmrec import Recommender


class EndpointHandler:
    """The class that Hub inference endpoints look for."""

    def __init__(self, path: str = "") -> None:
        self.recommender = Recommender.from_pretrained(path)

    def __call__(self, data: dict[str, Any]) -> list[dict[str, Any]]:
        """Ten items (or `k`) after a history, best first; ids that the catalog lacks are left out."""
        items = self.recommender.catalog.items
        rows = [row for row in items.rows(data["inputs"].get("history", [])) if row >= 0]
        found = self.recommender.recommend([rows], **data.get("parameters", {}))
        return [
            {"item_id": items[int(row)], "title": self.recommender.catalog.title(row), "score": float(score)}
            for row, score in zip(found.rows[0], found.scores[0], strict=True)
            if row >= 0
        ]
