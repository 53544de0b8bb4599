"""Reward what is taken by the same people as the item that the user took."""

from __future__ import annotations

from typing import Any

from llmrec.trainers.rewards.similarity import LikeTheNext


class Collaborative(LikeTheNext):
    """The cosine of behaviour vectors, which come from train rows only.

    MiniOneRec's collaborative reward is the score of a SASRec; here `{kind: recommender, model: {kind: sasrec}}`.
    """

    encoder: dict[str, Any] = {"kind": "behaviour"}
