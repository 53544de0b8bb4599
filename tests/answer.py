"""What a command of llmrec answered."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """Exit status, stdout and stderr; `json` is the last line of stdout."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out.splitlines()[-1])


Command = Callable[..., Answer]
