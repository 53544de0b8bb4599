"""Reward what reads like the item that the user took: a near miss is worth more than a far one."""

from __future__ import annotations

from typing import Any

from llmrec.trainers.rewards.similarity import LikeTheNext


class Semantic(LikeTheNext):
    """The cosine of text vectors.

    MiniOneRec has it too and found that it helps less than the exact hit with a rank penalty: weigh it lightly.
    """

    encoder: dict[str, Any] = {"kind": "tfidf"}
