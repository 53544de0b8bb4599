"""The base of baselines that train a network on histories: one loop, early stopping, saving, scoring.

A technique says what its network is (`network`), what a batch asks of it (`ask`) and what a recommendation asks
(`ask_next`). A score is the log-softmax of the logits over the catalog: `log p(item | history)` for a network trained
with `softmax`; with the other losses only its order is meant.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr
from torch import Tensor, nn
from tqdm.auto import tqdm

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.data.split import Examples
from llmrec.errors import ArtifactError, DataError
from llmrec.recommenders.early_stopping import Questions
from llmrec.recommenders.item_losses import ItemLoss, item_loss
from llmrec.recommenders.scoring import ScoringRecommender
from llmrec.recommenders.sequences import batches_of_like_length, padded
from llmrec.recommenders.weight_averaging import AveragedWeights
from llmrec.types import Ragged

PREFIX = "network."
USERS_AT_ONCE = 256

logger = logging.getLogger(__name__)


class ItemNetwork(nn.Module):
    """Rows of items in, one state a position out, in the same space as the items' vectors."""

    @abstractmethod
    def forward(self, rows: Tensor) -> Tensor:
        """States `float[B, T, D]` of item rows `int64[B, T]`; row `N` is padding, at the end."""

    @abstractmethod
    def item_vectors(self) -> Tensor:
        """`float[N, D]`; the logit of an item is its product with a state."""


class Asked(NamedTuple):
    """What a batch asks a network.

    Args:
        rows: `int64[B, T]`, what it sees. places: `bool[B, T]`, where it must answer. targets: `int64[M]`, the answers.
    """

    rows: Tensor
    places: Tensor
    targets: Tensor


class NeuralRecommender(ScoringRecommender):
    """Settings that all trained baselines share.

    Args:
        dimensions: of item vectors and states. max_history: the newest items that are looked at.
        loss: see `llmrec.recommenders.item_losses`. negatives: drawn in a step, for `sampled_softmax` and `gbce`.
        calibration: `t` of `gbce`.
        epochs: at most so many passes over the users. batch_size: users a step. learning_rate, weight_decay: AdamW's.
        averaging: the weights that are validated and kept are a mean over the last steps, see
            `llmrec.recommenders.weight_averaging`; this is its decay, and 0 keeps the weights as they are.
        patience: stop when validation NDCG@10 has not risen for so many epochs, and keep the best weights; None trains
            all epochs on all events and keeps the last.
        valid_users: questions asked after an epoch. They are validation examples where `fit` is given some, otherwise
            the last train events of at most a tenth of the users.
        seed: of weights, batches, negatives and dropout; the same seed gives the same weights on the same number of
            threads. device: torch's name of it; a GPU when there is one.
        progress: a bar on stderr.
    """

    dimensions: int = Field(default=64, ge=1)
    max_history: int = Field(default=50, ge=1)
    loss: ItemLoss = "softmax"
    negatives: int = Field(default=512, ge=1)
    calibration: float = Field(default=0.75, ge=0, le=1)
    epochs: int = Field(default=200, ge=1)
    batch_size: int = Field(default=128, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    averaging: float = Field(default=0.999, ge=0, lt=1)
    patience: int | None = Field(default=10, ge=1)
    valid_users: int = Field(default=2000, ge=1)
    seed: int = Field(default=0, ge=0)
    device: str | None = None
    progress: bool = True

    _valid: Examples | None = PrivateAttr(default=None)
    _network: ItemNetwork | None = PrivateAttr(default=None)
    _log: list[dict[str, float]] = PrivateAttr(default_factory=list)

    @abstractmethod
    def network(self, size: int) -> ItemNetwork:
        """A new network for so many items."""

    def ask(self, rows: Tensor, size: int) -> Asked:
        """What to learn from histories `int64[B, T + 1]`: here, from every item the next one."""
        following = rows[:, 1:]
        places = following < size
        return Asked(rows[:, :-1], places, following[places])

    def ask_next(self, rows: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """What follows histories `int64[B, T]`: rows to show, and each one's place of the answer, `int64[B]`."""
        return rows, (rows < size).sum(dim=1).clamp(min=1) - 1

    @property
    def log(self) -> list[dict[str, float]]:
        """One entry an epoch of the training: `epoch`, `loss` and, where it was validated, `ndcg@10`."""
        return self._log

    def fit(self, train: Interactions, catalog: Catalog, valid: Examples | None = None) -> Self:
        """Learn from train rows; gives itself back.

        Args:
            train: train rows. catalog: their items.
            valid: questions that say when to stop, and nothing else.

        Raises:
            DataError: the interactions were not made with this catalog, or no history has two items.
        """
        self._valid, self._network = valid, None
        try:
            return super().fit(train, catalog)
        finally:
            self._valid = None

    def learn(self, train: Interactions) -> dict[str, NDArray[Any]]:
        """The network's weights, and `popularity float32[N]` for an empty history."""
        counts = np.bincount(train.item_rows, minlength=len(train.items)) + 1
        questions = None
        if self.patience is not None and self._valid is not None:
            questions = Questions.of(self._valid, self.valid_users, self.seed)
        elif self.patience is not None:
            train, questions = Questions.held_out(train, self.valid_users, self.seed)
        if questions is not None and not len(questions.targets):
            raise DataError("there is no question to validate with.", fix="Give valid examples, or set patience: null.")
        popularity = np.log(counts / counts.sum()).astype(np.float32)
        weights = self._trained(train, questions, popularity)
        return {PREFIX + name: value.cpu().numpy() for name, value in weights.items()} | {"popularity": popularity}

    @property
    def log_probabilities(self) -> bool:
        """Where the network was trained to state them, with `softmax` over the catalog."""
        return self.loss == "softmax"

    def score(self, histories: Ragged) -> NDArray[np.float32]:
        """`float32[B, N]`: log-probabilities; those of train popularity for an empty history."""
        popularity = self._arrays["popularity"]
        if self._network is None:
            self._network = self._restored(len(popularity))
        return self._scores(self._network, histories, popularity)

    def _trained(
        self, train: Interactions, questions: Questions | None, popularity: NDArray[np.float32]
    ) -> dict[str, Tensor]:
        """The weights after the last epoch, or of the best one."""
        size, histories, lengths = len(train.items), train.histories, train.histories.lengths
        users = np.flatnonzero(lengths > 1)
        if not len(users):
            raise DataError("no train history has two items.", fix="A sequence model needs longer histories.")
        random, device = np.random.default_rng(self.seed), self._device()
        best: tuple[float, int, dict[str, Tensor]] | None = None
        self._log = []
        with seeded(self.seed), tqdm(
            total=self.epochs, desc=self.kind, unit="epoch", disable=not self.progress, leave=False
        ) as bar, torch.enable_grad():  # fmt: skip
            network = self.network(size).to(device)
            averaged = AveragedWeights(network, self.averaging)
            optimizer = torch.optim.AdamW(
                network.parameters(), lr=self.learning_rate, betas=(0.9, 0.98), weight_decay=self.weight_decay
            )
            for epoch in range(1, self.epochs + 1):
                network.train()
                losses = []
                for batch in batches_of_like_length(users, lengths[users], self.batch_size, random):
                    rows = torch.from_numpy(padded(histories, batch, self.max_history + 1, size)).to(device)
                    loss = self._loss(network, rows, size)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    averaged.follow(network)
                    losses.append(loss.detach())
                entry = {"epoch": epoch, "loss": float(torch.stack(losses).mean())}
                if questions is not None:
                    entry["ndcg@10"] = questions.ndcg(lambda part: self._scores(averaged.network, part, popularity))
                    if best is None or entry["ndcg@10"] > best[0]:
                        best = entry["ndcg@10"], epoch, copied(averaged.network)
                self._log.append(entry)
                bar.update()
                bar.set_postfix({name: f"{value:.4f}" for name, value in entry.items() if name != "epoch"})
                if best is not None and self.patience is not None and epoch - best[1] >= self.patience:
                    break
        logger.debug("%s: %d epochs, best %s", self.kind, len(self._log), best and best[:2])
        return copied(averaged.network) if best is None else best[2]

    def _loss(self, network: ItemNetwork, rows: Tensor, size: int) -> Tensor:
        asked = self.ask(rows, size)
        states = network(asked.rows)[asked.places]  # (M, D)
        return item_loss(self.loss, states, network.item_vectors(), asked.targets, self.negatives, self.calibration)

    @torch.no_grad()
    def _scores(self, network: ItemNetwork, histories: Ragged, popularity: NDArray[np.float32]) -> NDArray[np.float32]:
        network.eval()
        size, device = len(popularity), next(network.parameters()).device
        scores = np.empty((len(histories), size), np.float32)
        items = network.item_vectors()
        for start in range(0, len(histories), USERS_AT_ONCE):
            users = np.arange(start, min(start + USERS_AT_ONCE, len(histories)))
            rows = torch.from_numpy(padded(histories, users, self.max_history, size)).to(device)
            shown, places = self.ask_next(rows, size)
            states = network(shown)[torch.arange(len(users), device=device), places]  # (b, D)
            scores[users] = torch.log_softmax(states @ items.T, dim=1).cpu().numpy()
        scores[histories.lengths == 0] = popularity
        return scores

    def _restored(self, size: int) -> ItemNetwork:
        """The network whose weights were learned or loaded."""
        with seeded(self.seed):
            network = self.network(size)
        saved = {name.removeprefix(PREFIX): torch.tensor(a) for name, a in self._arrays.items() if PREFIX in name}
        try:
            network.load_state_dict(saved)
        except RuntimeError as error:
            raise ArtifactError(f"The weights do not fit the settings of this {self.kind} ({error}).") from None
        return network.to(self._device()).eval()

    def _device(self) -> torch.device:
        return torch.device(self.device or ("cuda" if torch.cuda.is_available() else "cpu"))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's random numbers follow the seed inside, and go on outside as if nothing had been drawn."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def copied(network: nn.Module) -> dict[str, Tensor]:
    """The weights as they are now."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}
