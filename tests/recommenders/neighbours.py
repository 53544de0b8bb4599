"""A world with a rule: item i is followed by i + 1, around a circle; a sequence model must find it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.data.split import Split, leave_one_out
from llmrec.recommenders.scoring import ScoringRecommender

SIZE = 30
CATALOG = Catalog(
    pa.table({"item_id": [f"i{row}" for row in range(SIZE)], "title": [f"thing {row}" for row in range(SIZE)]})
)


def circle_world(users: int = 90, steps: int = 6) -> Split:
    """Users who start anywhere and go around."""
    walks = [[(user * 7 + step) % SIZE for step in range(steps)] for user in range(users)]
    return leave_one_out(
        Interactions.from_columns(
            pa.array([f"u{user}" for user, walk in enumerate(walks) for _ in walk]),
            pa.array([f"i{item}" for walk in walks for item in walk]),
            np.asarray([step for walk in walks for step in range(len(walk))], np.int64),
            CATALOG.items,
        )
    )


def share_of_first_places(recommender: ScoringRecommender, split: Split) -> float:
    """How often the test target leads the list."""
    rows = recommender.recommend(split.test.histories, k=1).rows[:, 0]
    return float((rows == split.test.targets.values).mean())
