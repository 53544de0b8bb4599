"""The contract of a recommender, and how a saved one of any kind is found again."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

from llmrec import artifact
from llmrec.data.catalog import Catalog
from llmrec.errors import ArtifactError
from llmrec.hub import Pushed, local_folder
from llmrec.registry import resolve
from llmrec.types import Candidates, PreparedCandidates, Ragged, Rows, ScoredItems


class Recommender(Protocol):
    """Anything that answers "what next?"; evaluation and serving know no more than this.

    `Recommender.from_pretrained(folder)` loads a saved one of any kind.
    """

    kind: ClassVar[str]
    """The name in the registry."""

    @property
    @abstractmethod
    def catalog(self) -> Catalog:
        """The items that can be recommended."""

    @property
    def log_probabilities(self) -> bool:
        """Whether the score of an item is `log p(item | history)` in nats, which can be checked and compared."""
        return False

    @abstractmethod
    def recommend(
        self,
        histories: Ragged | Sequence[Rows],
        k: int = 10,
        exclude_seen: bool = True,
        candidates: Candidates | None = None,
        exclude: Ragged | None = None,
    ) -> ScoredItems:
        """The best k items of each history.

        Args:
            histories: `B` lists of item rows, oldest first; an empty one is answered without a history.
            k: items wanted. exclude_seen: leave out the items of the history.
            candidates: item rows to choose from, for all histories or a list for each; all items when None.
            exclude: more item rows to leave out, a list for each history.

        Returns:
            Real, distinct items, best first; -1 fills a row where fewer than k are allowed.
        """

    @abstractmethod
    def prepare_candidates(self, candidates: Rows) -> PreparedCandidates:
        """Candidates that many calls of this recommender's `recommend` share, checked and counted once.

        Raises:
            DataError: an item row is not in the catalog.
        """

    @abstractmethod
    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that `from_pretrained` reads."""

    @abstractmethod
    def push_to_hub(self, repository: str, **how: Any) -> Pushed:
        """Save into a folder and upload it; see `llmrec.hub.push_folder`."""

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, revision: str | None = None, token: str | bool | None = None
    ) -> Recommender:
        """Read a folder that any recommender saved.

        Args:
            folder: on the disk, or `user/name` on the Hub. revision, token: see `llmrec.hub.local_folder`.

        Raises:
            ArtifactError: the folder is missing or damaged.
        """
        folder = local_folder(folder, revision, token)
        return resolve("recommender", load_recommender_settings(folder).kind).from_pretrained(folder)


class RecommenderSettings(NamedTuple):
    """The content of `recommender.json`."""

    kind: str
    settings: dict[str, Any]
    llmrec_version: str


def save_recommender_settings(folder: Path, saved: RecommenderSettings) -> None:
    """Write `recommender.json`."""
    (folder / artifact.RECOMMENDER).write_text(json.dumps(saved._asdict(), indent=2, sort_keys=True) + "\n")


def load_recommender_settings(folder: str | Path) -> RecommenderSettings:
    """What a saved recommender is.

    Raises:
        ArtifactError: `recommender.json` is missing or damaged.
    """
    path = Path(folder) / artifact.RECOMMENDER
    try:
        head = json.loads(path.read_text())
        return RecommenderSettings(str(head["kind"]), dict(head["settings"]), str(head["llmrec_version"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{path} does not describe a recommender ({type(error).__name__}: {error}). Give a folder written by "
            "save_pretrained."
        ) from error
