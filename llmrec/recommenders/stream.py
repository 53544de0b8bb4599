"""Recommendations for a file of histories: read in parts, written in shards that appear whole, continued after a kill.

    llmrec recommend runs/shop --input histories.parquet --output lists

`recommend_batch` turns one table into another and knows neither files nor shards, so that it runs as well inside
whatever moves tables between machines (`llmrec.recommenders.ray_batch`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from tqdm.auto import tqdm

from llmrec import artifact
from llmrec.data.vocabulary import Vocabulary
from llmrec.errors import ArtifactError, DataError
from llmrec.hub import local_folder
from llmrec.recommenders.base import Recommender, load_recommender_settings
from llmrec.recommenders.checks import checked_k
from llmrec.sources.files import count_rows, digest, iter_batches, require_columns
from llmrec.types import PreparedCandidates, Ragged, Rows, ScoredItems

logger = logging.getLogger(__name__)

COLUMNS = ("user", "history")
"""What is read; `history` holds lists of item ids, oldest first, or one text with commas between them."""

SHARD_USERS = 16_384
"""Users in one file: what a kill costs at most."""

STEP_USERS = 1_024
"""Users asked for at once: often enough for a bar that moves, and many batches of a language model."""

PLAN, SUCCESS, LOCK = "_plan.json", "_SUCCESS", ".lock"
"""Names that readers of a folder of parquet files pass over, because of their first character."""

FORMAT = 1
"""Raise it when the lists or their columns change their meaning, so that a folder never holds two kinds."""

"""Files of a model folder that change no recommendation."""


class Summary(NamedTuple):
    """What an output folder holds, and how fast this run was.

    Args:
        users: lists in the folder. shards: files. skipped_shards: files that an earlier run had finished.
        unknown_items: items of all histories that the catalog lacks. users_per_second: of this run, 0 if it had nothing
            to do; without loading the model.
    """

    users: int
    shards: int
    skipped_shards: int
    unknown_items: int
    users_per_second: float


def recommend_batch(
    recommender: Recommender,
    batch: pa.Table | pa.RecordBatch,
    k: int = 10,
    exclude_seen: bool = True,
    candidates: Rows | PreparedCandidates | None = None,
    answered: Callable[[int], object] = lambda users: None,
) -> pa.Table:
    """The lists of a table of histories, in its order. Users with histories of like length are asked for together.

    Args:
        recommender: any.
        batch: the columns `user`, of any type, and `history`; see `COLUMNS`. A null is an empty history.
        k, exclude_seen, candidates: see `Recommender.recommend`.
        answered: told a number of users whenever so many more are done.

    Returns:
        `user`; `items list<string>`, best first, shorter than k where fewer are allowed; `scores list<float>`; `exact
        bool`, see `ScoredItems`; `unknown int32`, the items of the history that the catalog lacks: they are left out.

    Raises:
        DataError: a column is missing, the histories are no lists of ids, k is below 1, or a candidate is not in the
            catalog.
    """
    require_columns(batch.schema.names, COLUMNS, "the table of histories")
    histories, unknown = known_histories(batch["history"], recommender.catalog.items)
    rows = np.full((len(histories), checked_k(k)), -1, np.int32)
    scores = np.full(rows.shape, -np.inf, np.float32)
    exact = np.zeros(len(histories), bool)
    shared = prepared(recommender, candidates)
    by_length = np.argsort(histories.lengths, kind="stable")
    for start in range(0, len(by_length), STEP_USERS):
        users = by_length[start : start + STEP_USERS]
        found = recommender.recommend(histories.take(users), k, exclude_seen, shared)
        rows[users], scores[users], exact[users] = found.rows, found.scores, found.exact
        answered(len(users))
    items, scored = _lists(ScoredItems(rows, scores), recommender.catalog.items)
    return pa.table({"user": batch["user"], "items": items, "scores": scored, "exact": exact, "unknown": unknown})


def prepared(recommender: Recommender, candidates: Rows | PreparedCandidates | None) -> PreparedCandidates | None:
    """Candidates as this recommender wants them in every call."""
    if candidates is None or isinstance(candidates, PreparedCandidates):
        return candidates
    return recommender.prepare_candidates(candidates)


def recommend_file(
    model: str | Path,
    source: str | Path,
    output: str | Path,
    k: int = 10,
    exclude_seen: bool = True,
    candidates: Rows | None = None,
    shard_users: int = SHARD_USERS,
    progress: bool = True,
) -> Summary:
    """Write the lists of all users of a file: `output/part-00000.parquet` and so on, with `recommend_batch`'s columns.

    Called again after a kill, it keeps the shards that are finished. It takes a folder, not a model in memory, because
    only files can be compared with those of the first call.

    Args:
        model: a folder written by `save_pretrained`, or `user/name` on the Hub.
        source: a parquet file or a folder of them, or CSV or TSV; see `COLUMNS`. It need not fit into memory.
        output: a new folder, or one that the same call began.
        k, exclude_seen, candidates: see `Recommender.recommend`.
        shard_users: users in one file; one shard and its lists are in memory.
        progress: show a bar with users per second and the time left on stderr.

    Raises:
        ArtifactError: there is no usable model, the output belongs to another call, or another process writes there.
        DataError: the input cannot be read, or a setting is not allowed.
    """
    model, source, output = local_folder(model), Path(source), Path(output)
    plan = _plan(model, source, k, exclude_seen, candidates, shard_users)
    if output.exists() and not output.is_dir():
        raise ArtifactError(f"{output} is a file. Name a folder for the lists.")
    output.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(output / LOCK, timeout=0):
            _agree(plan, output)
            answer = partial(recommend_batch, k=k, exclude_seen=exclude_seen)
            return _fill(plan, model, source, output, answer, candidates, progress)
    except Timeout:
        raise ArtifactError(f"Another process is writing to {output}. Wait for it, or name another folder.") from None


def _fill(
    plan: dict[str, Any],
    model: Path,
    source: Path,
    output: Path,
    answer: Callable[..., pa.Table],
    candidates: Rows | None,
    progress: bool,
) -> Summary:
    """Write the shards that are not there yet. If none is missing, not even the model is read."""
    users, shard_users = plan["users"], plan["shard_users"]
    sizes = [min(shard_users, users - start) for start in range(0, users, shard_users)]
    parts = {output / f"part-{number:05}.parquet": size for number, size in enumerate(sizes)}
    todo = {path: size for path, size in parts.items() if not _finished(path, size)}
    missing, speed = sum(todo.values()), 0.0
    if todo:
        (output / SUCCESS).unlink(missing_ok=True)
        recommender = Recommender.from_pretrained(model)
        shared = prepared(recommender, candidates)
        shards = in_shards(iter_batches(source, COLUMNS, STEP_USERS), shard_users)
        began = time.perf_counter()
        # Lengths rise within a shard, so only the mean speed (no smoothing) tells when all is done.
        with tqdm(
            total=users, initial=users - missing, desc="recommend", unit="user", smoothing=0, disable=not progress
        ) as bar:
            for path, shard in zip(parts, shards, strict=True):
                if path in todo:
                    lists = answer(recommender, shard, candidates=shared, answered=bar.update)
                    with artifact.appears_whole(path) as new:
                        pq.write_table(lists, new)
        speed = missing / (time.perf_counter() - began)
    artifact.write_text(output / SUCCESS, "")
    columns = [pq.read_table(path, columns=["unknown"], partitioning=None)["unknown"] for path in parts]
    unknown = sum(pc.sum(column).as_py() for column in columns)
    return Summary(users, len(parts), len(parts) - len(todo), unknown, round(speed, 2))


def in_shards(batches: Iterable[pa.RecordBatch], size: int) -> Iterator[pa.Table]:
    """The same rows in tables of `size` rows; the last may be shorter. Holds no more than one shard and one batch."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        held.append(batch)
        rows += len(batch)
        while rows >= size:
            table = pa.Table.from_batches(held)
            yield table.slice(0, size)
            held = table.slice(size).to_batches()
            rows -= size
    if rows:
        yield pa.Table.from_batches(held)


def _plan(
    model: Path, source: Path, k: int, exclude_seen: bool, candidates: Rows | None, shard_users: int
) -> dict[str, Any]:
    """All that the lists depend on. Contents count, not names or times: a copied file is the same file."""
    load_recommender_settings(model)
    if shard_users < 1:
        raise DataError(f"shard_users is {shard_users}.", fix="Put at least one user into a shard.")
    chosen = None if candidates is None else np.unique(np.asarray(candidates, np.int32))
    speaking = [path for path in model.iterdir() if path.name not in artifact.ABOUT and not path.name.startswith(".")]
    return {
        "format": FORMAT,
        "k": checked_k(k),
        "exclude_seen": exclude_seen,
        "shard_users": shard_users,
        "users": count_rows(source, COLUMNS),
        "candidates_sha256": None if chosen is None else hashlib.sha256(chosen.tobytes()).hexdigest(),
        "input_sha256": digest([source]),
        "model_sha256": digest(sorted(speaking)),
    }


def _agree(plan: dict[str, Any], output: Path) -> None:
    """Write the plan into a new folder, or compare it with that of a begun one; clear away what a kill left."""
    path = output / PLAN
    if not path.exists():
        if foreign := sorted(found.name for found in output.iterdir() if not found.name.startswith(".")):
            raise ArtifactError(
                f"{output} holds '{foreign[0]}' and no {PLAN}: it was not made here. Name a new folder."
            )
        artifact.write_text(path, json.dumps(plan, indent=2) + "\n")
    try:
        begun = dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}). Name a new folder.") from error
    names = [name for name in {**plan, **begun} if plan.get(name) != begun.get(name)]
    if names:
        differ = "; ".join(f"{name} was {begun.get(name)}, now it is {plan.get(name)}" for name in names)
        raise ArtifactError(
            f"{output} was begun with other settings or files: {differ}. Give the same as before to go on, or name a "
            "new folder."
        )
    for leftover in output.glob(".part-*.parquet.*"):
        leftover.unlink()


def _finished(path: Path, users: int) -> bool:
    """Whether a shard is there whole: a power cut may leave a file with a name and no content."""
    try:
        return bool(pq.read_metadata(path).num_rows == users)
    except (OSError, pa.ArrowException):
        return False


def known_histories(column: pa.Array | pa.ChunkedArray, items: Vocabulary) -> tuple[Ragged, NDArray[np.int32]]:
    """The histories as item rows, and how many items of each the catalog lacks; a warning says so."""
    try:
        text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        lists = pc.split_pattern(column, ",") if text else column
        lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
        ids = pc.list_flatten(lists).cast(pa.string())
    except pa.ArrowException:
        raise DataError(
            f"the histories are of type {column.type}.",
            column="history",
            fix="Give lists of item ids, or texts with commas between the ids.",
        ) from None
    owners = np.repeat(np.arange(len(lengths)), lengths)
    if text:
        ids = pc.utf8_trim_whitespace(ids)
        there = pc.not_equal(ids, "").to_numpy(zero_copy_only=False).astype(bool)
        ids, owners = ids.filter(pa.array(there)), owners[there]
    rows = items.rows(ids)
    known = rows >= 0
    if (missing := np.flatnonzero(~known)).size:
        example = ids[int(missing[0])].as_py()
        logger.warning(
            "%d of %d items in the histories are not in the catalog and are left out, for example '%s'",
            missing.size, len(rows), example,
        )  # fmt: skip
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(np.bincount(owners[known], minlength=len(lengths)), out=offsets[1:])
    return Ragged(rows[known], offsets), np.bincount(owners[~known], minlength=len(lengths)).astype(np.int32)


def _lists(found: ScoredItems, items: Vocabulary) -> tuple[pa.ListArray, pa.ListArray]:
    """Ids and scores as lists without filling."""
    real = found.rows >= 0
    offsets = pa.array(np.concatenate([[0], np.cumsum(real.sum(axis=1))]), pa.int32())
    ids = items.ids.take(pa.array(found.rows[real]))
    return pa.ListArray.from_arrays(offsets, ids), pa.ListArray.from_arrays(offsets, pa.array(found.scores[real]))
