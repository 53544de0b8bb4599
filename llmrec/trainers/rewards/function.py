"""A function of your own as a reward: whatever your shop knows of an item, such as its margin or its stock."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

from pydantic import field_validator

from llmrec.component import Component
from llmrec.data.interactions import Interactions
from llmrec.tasks.next_item import NextItemTask
from llmrec.trainers.rewards.base import RewardFunction


class Function(Component):
    """A `llmrec.trainers.rewards.base.RewardFunction` by the name that Python imports it under.

    Args:
        name: such as `my_shop.rewards:margin`; the function takes `(asked, items)` and gives `float[B, n]`.
    """

    name: str

    @field_validator("name")
    @classmethod
    def _can_be_imported(cls, name: str) -> str:
        load(name)
        return name

    def fit(self, task: NextItemTask, train: Interactions, seed: int) -> RewardFunction:
        """See `Reward.fit`; there is nothing to learn."""
        function: RewardFunction = load(self.name)
        return function

    def fingerprint(self) -> str:
        """The source of its module, so that a changed function is another reward."""
        return inspect.getsource(import_module(self.name.partition(":")[0]))


def load(name: str) -> Any:
    """What stands behind `module:name`.

    Raises:
        ValueError: there is none, or it cannot be called.
    """
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise ValueError(f"'{name}' names no function; write module:name, such as my_shop.rewards:margin")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{error}; the module must be importable where training runs (PYTHONPATH)") from None
    if not callable(found):
        raise ValueError(f"'{name}' is no function")
    return found
