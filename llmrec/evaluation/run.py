"""One model's answers on one set of questions, on the disk: what a report shows and a paired test compares.

A run is read back without the model that made it:

run folder
├── run.json               name, metrics with intervals and slices, protocol, digest of the questions, model facts
├── answers.safetensors    who asked, what was recommended with which score, ranks, the value of every metric
└── items.parquet          ids and titles, so that people can read the lists
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from llmrec import artifact
from llmrec.data.catalog import Catalog
from llmrec.data.split import Examples
from llmrec.errors import ArtifactError, DataError, did_you_mean
from llmrec.evaluation.protocol import Evaluation, evaluate
from llmrec.evaluation.significance import Difference, paired
from llmrec.recommenders.base import Recommender, load_recommender_settings
from llmrec.types import Ragged

HEAD, ANSWERS, ITEMS = "run.json", "answers.safetensors", "items.parquet"

SHOWN_HISTORY = 50
"""Last items of each history that a run keeps, to be shown beside the answer."""

VALUES = "values."


@dataclass(frozen=True)
class Run:
    """What one model answered, and what that was worth.

    Args:
        name: of the model, as it is to stand in tables.
        evaluation: with the values of every example, `ranks`, `rows` and `scores`.
        examples: the questions; of long histories the last items.
        questions: digest of the whole questions and of the catalog; equal digests mean equal questions.
        catalog: ids and titles.
        facts: of the model, such as `kind`, `parameters` and `bytes` (`folder_facts`), or its latency.
    """

    name: str
    evaluation: Evaluation
    examples: Examples
    questions: str
    catalog: Catalog
    facts: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: str | Path) -> None:
        """Write the folder so that it appears whole."""

        def write(target: Path) -> None:
            arrays = {
                "users": self.examples.users,
                "ranks": self.evaluation.ranks,
                "rows": self.evaluation.rows,
                "scores": self.evaluation.scores,
                **_ragged("histories", self.examples.histories),
                **_ragged("targets", self.examples.targets),
                **({} if self.examples.gaps is None else {"gaps": self.examples.gaps}),
                **{VALUES + name: values for name, values in self.evaluation.per_example.items()},
            }
            save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, target / ANSWERS)
            pq.write_table(self.catalog.table.select(["item_id", "title"]), target / ITEMS)
            head = {
                "name": self.name,
                "questions": self.questions,
                "facts": self.facts,
                "evaluation": self.evaluation.to_dict(),
            }
            (target / HEAD).write_text(json.dumps(head, indent=2) + "\n")

        artifact.write_folder(Path(folder), write, last=HEAD)

    @classmethod
    def load(cls, folder: str | Path) -> Run:
        """Read what `save` wrote.

        Raises:
            ArtifactError: a file is missing or damaged.
        """
        folder = Path(folder)
        try:
            head = json.loads((folder / HEAD).read_text())
            arrays = load_file(folder / ANSWERS)
            catalog = Catalog(pq.read_table(folder / ITEMS))
            per_example = {name.removeprefix(VALUES): arrays[name] for name in arrays if name.startswith(VALUES)}
            evaluation = Evaluation(
                **head["evaluation"],
                per_example={name: per_example[name] for name in head["evaluation"]["metrics"]},
                ranks=arrays["ranks"],
                rows=arrays["rows"],
                scores=arrays["scores"],
            )
            lists = [Ragged(arrays[name], arrays[f"{name}.offsets"]) for name in ("histories", "targets")]
            examples = Examples(arrays["users"], lists[0], lists[1], arrays.get("gaps"))
            return cls(head["name"], evaluation, examples, head["questions"], catalog, head["facts"])
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException, SafetensorError, DataError) as error:
            raise ArtifactError(
                f"{folder} is not a run ({type(error).__name__}: {error}). Give a folder that Run.save wrote, or "
                "measure the model again."
            ) from error

    def values(self, metric: str) -> NDArray[np.float64]:
        """`float64[E]`: a metric of every question.

        Raises:
            DataError: it was not measured.
        """
        if metric not in self.evaluation.per_example:
            raise DataError(
                f"run '{self.name}' has no metric '{metric}'.", fix=did_you_mean(metric, self.evaluation.per_example)
            )
        return self.evaluation.per_example[metric]


def measure(
    name: str,
    recommender: Recommender,
    examples: Examples,
    ks: Sequence[int] = (5, 10),
    exclude_seen: bool = True,
    facts: dict[str, Any] | None = None,
    **how: Any,
) -> Run:
    """Ask a recommender the questions and keep its answers.

    Args:
        name: of the run. facts: of the model, see `folder_facts`. how: the further arguments of `evaluate`.

    Raises:
        DataError, RecipeError: as for `evaluate`.
    """
    evaluation = evaluate(recommender, examples, ks, exclude_seen, **how)
    catalog = recommender.catalog
    shown = replace(examples, histories=last_items(examples.histories, SHOWN_HISTORY))
    return Run(name, evaluation, shown, digest(examples, catalog), catalog, facts or {})


def compare(first: Run, second: Run, metric: str = "ndcg@10", **how: Any) -> Difference:
    """Whether the first run is better than the second; `how` goes to `paired`.

    Raises:
        DataError: the runs answer different questions, were measured by another protocol, or lack the metric.
    """
    check_comparable([first, second])
    return paired(first.values(metric), second.values(metric), first.examples.users, **how)


def check_comparable(runs: Sequence[Run]) -> None:
    """Only answers to the same questions, measured in the same way, say which model is better.

    Raises:
        DataError: a run answers other questions than the first, or was measured by another protocol.
    """
    for other in runs[1:]:
        first, pair = runs[0], f"runs '{runs[0].name}' and '{other.name}'"
        if first.questions != other.questions:
            raise DataError(
                f"{pair} answer different questions: {first.evaluation.examples:,} over {len(first.catalog):,} items "
                f"({first.questions}), {other.evaluation.examples:,} over {len(other.catalog):,} ({other.questions}).",
                fix="Measure both on one split of one data set, with one sample of users and one seed.",
            )
        if first.evaluation.protocol != other.evaluation.protocol:
            raise DataError(
                f"{pair} were measured differently: '{first.evaluation.protocol}' and '{other.evaluation.protocol}'.",
                fix="Measure both with the same settings, such as exclude_seen.",
            )


def digest(examples: Examples, catalog: Catalog) -> str:
    """Sixteen hex digits of who asks, the histories, the targets, and the ids of the catalog in their order."""
    found = hashlib.sha256()
    lists = [part for ragged in (examples.histories, examples.targets) for part in (ragged.values, ragged.offsets)]
    for array in (examples.users, *lists):
        found.update(np.ascontiguousarray(array, np.int64).tobytes())
        found.update(b"|")
    for item in catalog.items.ids.to_pylist():
        found.update(item.encode() + b"\0")
    return found.hexdigest()[:16]


def folder_facts(folder: str | Path) -> dict[str, Any]:
    """What a model folder says without being loaded: `kind`, `parameters` (numbers in its weights) and `bytes`.

    Raises:
        ArtifactError: the folder holds no recommender, or weights that cannot be read.
    """
    kind = load_recommender_settings(folder).kind
    parameters, size = artifact.count_weights(Path(folder))
    return {"kind": kind, "parameters": parameters, "bytes": size}


def last_items(lists: Ragged, count: int) -> Ragged:
    """The last `count` items of each list.

    >>> last_items(Ragged.from_lists([[1, 2, 3], [4]]), 2).values
    array([2, 3, 4], dtype=int32)
    """
    kept = np.minimum(lists.lengths, count)
    offsets = np.concatenate([[0], np.cumsum(kept)])
    starts = lists.offsets[1:] - kept
    return Ragged(lists.values[np.repeat(starts - offsets[:-1], kept) + np.arange(offsets[-1])], offsets)


def _ragged(name: str, lists: Ragged) -> dict[str, NDArray[Any]]:
    return {
        name: lists.values[lists.offsets[0] : lists.offsets[-1]],
        f"{name}.offsets": lists.offsets - lists.offsets[0],
    }
