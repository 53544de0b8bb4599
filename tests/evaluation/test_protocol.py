"""An evaluation counts what a recommender returned, right or wrong, and says how it was measured."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from llmrec.data.catalog import Catalog
from llmrec.data.split import Examples
from llmrec.errors import ArtifactError, DataError, RecipeError
from llmrec.evaluation.protocol import Evaluation, evaluate
from llmrec.types import Ragged, Rows, ScoredItems

CATALOG = Catalog(pa.table({"item_id": [f"i{row}" for row in range(8)], "title": [f"Item {row}" for row in range(8)]}))


class Scripted:
    """Answers each history with the list written down for its last item."""

    def __init__(self, script: dict[int, list[int]]) -> None:
        self.script, self.calls = script, []

    @property
    def catalog(self) -> Catalog:
        return CATALOG

    def recommend(
        self, histories: Ragged, k: int = 10, exclude_seen: bool = True, candidates: Rows | None = None
    ) -> ScoredItems:
        self.calls.append((len(histories), k, exclude_seen))
        rows = np.array([(self.script[int(history[-1])] + [-1] * k)[:k] for history in histories], np.int32)
        return ScoredItems(rows, np.zeros(rows.shape, np.float32), rows[:, 0] != 7)


def examples(histories: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> Examples:
    users = np.arange(len(histories), dtype=np.int32)
    return Examples(users, Ragged.from_lists(histories), Ragged.from_lists(targets))


def test_hand_worked_means_and_ranks() -> None:
    questions = examples([[7, 0], [1], [2], [3]], [[4], [5], [6], [7]])
    model = Scripted({0: [4, 5, 6], 1: [4, 6, 5], 2: [4, 5, 7], 3: [0, 7, 1]})
    result = evaluate(model, questions, ks=(1, 3), progress=False)
    assert list(result.metrics) == ["hr@1", "ndcg@1", "mrr@1", "hr@3", "ndcg@3", "mrr@3"]
    assert result.ranks.tolist() == [1, 3, 0, 2]
    assert result.metrics["hr@1"] == 0.25
    assert result.metrics["hr@3"] == 0.75
    assert result.metrics["mrr@3"] == pytest.approx((1 + 1 / 3 + 1 / 2) / 4)
    assert result.metrics["ndcg@3"] == pytest.approx((1 + 0.5 + 0.6309297535714575) / 4)
    assert result.per_example["hr@3"].tolist() == [1, 1, 0, 1]
    assert (result.examples, result.users) == (4, 4)


def test_default_metrics_are_at_5_and_10() -> None:
    model = Scripted({0: [1]})
    result = evaluate(model, examples([[0]], [[1]]), progress=False)
    assert list(result.metrics) == ["hr@5", "ndcg@5", "mrr@5", "hr@10", "ndcg@10", "mrr@10"]
    assert model.calls == [(1, 10, True)]


def test_wrong_answers_are_counted_from_the_rows() -> None:
    questions = examples([[0], [1], [2], [3, 4]], [[5], [5], [5], [5]])
    model = Scripted({0: [8, -2, 5], 1: [6, 6, 6], 2: [5], 4: [3, 4, 5]})
    result = evaluate(model, questions, ks=(3,), progress=False)
    assert result.invalid == 2  # rows 8 and -2 of a catalog of 8
    assert result.duplicates == 2
    assert result.unfilled == 2
    assert result.excluded_returned == 2


def test_seen_items_are_no_fault_when_they_are_allowed() -> None:
    result = evaluate(Scripted({1: [0, 1]}), examples([[0, 1]], [[1]]), ks=(2,), exclude_seen=False, progress=False)
    assert (result.excluded_returned, result.unreachable) == (0, 0)
    assert result.metrics["hr@2"] == 1
    assert "seen items allowed" in result.protocol


def test_a_target_in_the_history_is_unreachable_and_the_protocol_says_so() -> None:
    questions = examples([[0, 1], [2], [3, 4]], [[0], [3], [7, 4]])
    model = Scripted({1: [5], 2: [3], 4: [7]})
    result = evaluate(model, questions, ks=(1,), progress=False)
    assert result.unreachable == 2
    assert "2 with a target in their own history" in result.protocol


def test_protocol_names_items_split_and_users() -> None:
    one_user = Examples(np.array([0, 0], np.int32), Ragged.from_lists([[0], [0, 1]]), Ragged.from_lists([[1], [2]]))
    result = evaluate(Scripted({0: [1], 1: [2]}), one_user, ks=(1,), progress=False, split="global temporal")
    expected = "global temporal; full ranking over 8 items; seen items excluded; 2 examples of 1 users"
    assert result.protocol == expected
    assert (result.examples, result.users) == (2, 1)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_the_batch_size_changes_nothing(batch_size: int) -> None:
    questions = examples([[item] for item in range(5)], [[5], [6], [7], [5], [6]])
    model = Scripted({item: [5, 6, 6] for item in range(5)})
    result = evaluate(model, questions, ks=(1, 3), progress=False, batch_size=batch_size)
    assert result.ranks.tolist() == [1, 2, 0, 1, 2]
    assert result.duplicates == 5
    assert max(size for size, _, _ in model.calls) <= batch_size


def test_recall_of_several_targets_on_request() -> None:
    result = evaluate(
        Scripted({0: [1, 2, 5]}), examples([[0]], [[1, 2, 3, 4]]), (3,), progress=False, metrics=["recall"]
    )
    assert result.metrics == {"recall@3": 0.5}


def test_json_holds_means_and_on_request_every_example() -> None:
    result = evaluate(Scripted({0: [1], 1: [0]}), examples([[0], [1]], [[1], [2]]), ks=(1,), progress=False)
    short, long = json.loads(result.to_json()), json.loads(result.to_json(per_example=True))
    assert short["metrics"] == {"hr@1": 0.5, "ndcg@1": 0.5, "mrr@1": 0.5}
    assert not {"per_example", "ranks"} & set(short)
    assert long["ranks"] == [1, 0]
    assert Evaluation.from_json(result.to_json()) == result
    again = Evaluation.from_json(result.to_json(per_example=True))
    assert again.ranks.tolist() == [1, 0]
    assert again.per_example["hr@1"].tolist() == [1, 0]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"metrics": {}, "other": 1}'])
def test_a_text_that_is_no_evaluation_is_refused(text: str) -> None:
    with pytest.raises(ArtifactError, match="not an evaluation"):
        Evaluation.from_json(text)


def test_lists_that_are_proven_exact_are_counted() -> None:
    model = Scripted({0: [1], 1: [7], 2: [3]})  # the script proves all lists but those that begin with 7
    assert evaluate(model, examples([[0], [1], [2]], [[1], [1], [1]]), (1,), progress=False).exact == 2


def test_progress_goes_to_stderr_only(capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(Scripted({0: [1]}), examples([[0]], [[1]]), progress=True)
    shown = capsys.readouterr()
    assert "evaluate" in shown.err
    assert shown.out == ""


def test_questions_that_cannot_be_asked_are_refused() -> None:
    model, one = Scripted({0: [1]}), examples([[0]], [[1]])
    with pytest.raises(DataError, match="no example"):
        evaluate(model, examples([], []), progress=False)
    with pytest.raises(DataError, match="ks"):
        evaluate(model, one, ks=(0, 5), progress=False)
    with pytest.raises(RecipeError, match="Did you mean 'ndcg'"):
        evaluate(model, one, metrics=["ndgc"], progress=False)
