"""An error is the same in the process that shows it as in the one that found it."""

from __future__ import annotations

import pickle

import pytest

from llmrec.errors import ArtifactError, DataError, LlmrecError, MissingExtraError


@pytest.mark.parametrize(
    "error",
    [
        DataError("it is odd.", fix="Make it even.", where="a.csv", row=3, column="n"),
        ArtifactError("gone"),
        MissingExtraError("ray", "ray", "this"),
    ],
)
def test_errors_travel_between_processes(error: LlmrecError) -> None:
    found = pickle.loads(pickle.dumps(error))
    assert (type(found), str(found), vars(found)) == (type(error), str(error), vars(error))
