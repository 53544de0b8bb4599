"""llmrec adapts a pretrained language model into a recommender that names only real items.

    from llmrec import Recommender
    model = Recommender.from_pretrained("runs/demo")

Importing llmrec loads neither torch nor transformers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from llmrec.client.clients import AsyncClient, Client
    from llmrec.data.catalog import Catalog
    from llmrec.data.interactions import Interactions
    from llmrec.pipeline.run import run
    from llmrec.recipe import Recipe, load_recipe
    from llmrec.recommenders.base import Recommender
    from llmrec.types import Ragged, ScoredItems

_PUBLIC = {
    "AsyncClient": "llmrec.client.clients",
    "Catalog": "llmrec.data.catalog",
    "Client": "llmrec.client.clients",
    "Interactions": "llmrec.data.interactions",
    "Ragged": "llmrec.types",
    "Recipe": "llmrec.recipe",
    "Recommender": "llmrec.recommenders.base",
    "ScoredItems": "llmrec.types",
    "load_recipe": "llmrec.recipe",
    "run": "llmrec.pipeline.run",
}

__all__ = [
    "AsyncClient",
    "Catalog",
    "Client",
    "Interactions",
    "Ragged",
    "Recipe",
    "Recommender",
    "ScoredItems",
    "load_recipe",
    "run",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'llmrec' has no attribute '{name}'")
