"""Recommendations on many machines: `recommend_batch` as a batch transform of Ray Data, which moves the tables.

recommend_dataset(ray.data.read_parquet("histories"), "runs/shop", workers=8, gpus=1).write_parquet("lists")
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from llmrec.errors import DataError, MissingExtraError
from llmrec.recommenders.base import Recommender, load_recommender_settings
from llmrec.recommenders.checks import checked_k
from llmrec.recommenders.stream import STEP_USERS, prepared, recommend_batch
from llmrec.types import Rows

if TYPE_CHECKING:
    from ray.data import Dataset

logger = logging.getLogger(__name__)


class Worker:
    """Lives in a process of its own, loads the model once and answers table after table."""

    def __init__(self, model: str, k: int, exclude_seen: bool, candidates: Rows | None) -> None:
        self.recommender = Recommender.from_pretrained(model)
        self.k, self.exclude_seen, self.candidates = k, exclude_seen, prepared(self.recommender, candidates)

    def __call__(self, batch: pa.Table) -> pa.Table:
        return recommend_batch(self.recommender, batch, self.k, self.exclude_seen, self.candidates)


def recommend_dataset(
    dataset: Dataset,
    model: str | Path,
    workers: int = 2,
    batch_size: int = STEP_USERS,
    k: int = 10,
    exclude_seen: bool = True,
    candidates: Rows | None = None,
    cpus: float = 1,
    gpus: float = 0,
) -> Dataset:
    """The lists of a Ray dataset of histories, computed when the result is read or written.

    Args:
        dataset: the columns of `recommend_batch`.
        model: a folder written by `save_pretrained`, at the same place on every machine.
        workers: processes with a model each; the dataset should have several blocks for each of them.
        batch_size: users of one call. k, exclude_seen, candidates: see `Recommender.recommend`.
        cpus: of each worker, which also get so many threads. gpus: of each worker; without one it computes on CPUs.

    Returns:
        The columns of `recommend_batch`; blocks come in any order unless Ray is told to preserve it.

    Raises:
        ArtifactError: there is no saved recommender in this folder. DataError: k or workers is below 1.
        MissingExtraError: Ray is not installed.
    """
    try:
        import ray
        from ray.data import ActorPoolStrategy
    except ImportError:
        raise MissingExtraError("ray", "ray", "recommending on many machines") from None
    folder, k = Path(model).resolve(), checked_k(k)
    load_recommender_settings(folder)  # a mistake shows here, not as a worker that dies again and again
    if workers < 1:
        raise DataError(f"workers is {workers}.", fix="Ask for at least one.")
    if ray.is_initialized() and (there := ray.cluster_resources().get("CPU", 0)) < workers * cpus + 1:
        logger.warning(
            "%d workers of %g CPUs leave none of Ray's %g for reading; unless the data is in memory or the cluster "
            "grows, they wait for ever. Take fewer workers, or a smaller share for each, such as cpus=0.5",
            workers, cpus, there,
        )  # fmt: skip
    return dataset.map_batches(
        Worker,
        fn_constructor_args=(str(folder), k, exclude_seen, candidates),
        compute=ActorPoolStrategy(size=workers),
        batch_size=batch_size,
        batch_format="pyarrow",
        num_cpus=cpus,
        num_gpus=gpus,
        udf_modifying_row_count=False,
    )
