"""The queue: bounded, fair in what it promises, and nobody's question spoils another's."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any

import pytest

from llmrec.serving.batching import Batcher, Closed, Expired, Full
from llmrec.serving.pace import Pace

FAR = 1e9


@dataclass(frozen=True)
class Ask:
    value: Any
    key: Any = "same"


class Work:
    """Doubles values; can be held back."""

    def __init__(self) -> None:
        self.may_go, self.begun = threading.Event(), threading.Semaphore(0)
        self.batches: list[list[Any]] = []

    def __call__(self, questions: Sequence[Ask]) -> list[Any]:
        self.begun.release()
        self.may_go.wait(10)
        self.batches.append([question.value for question in questions])
        return [question.value * 2 for question in questions]


@pytest.fixture
def work() -> Iterator[Work]:
    made = Work()
    yield made
    made.may_go.set()


def blocked(work: Work, **settings: Any) -> Batcher:
    """A batcher whose worker is busy with the question 0."""
    batcher = Batcher(work, **{"max_queue": 4, "max_batch": 2, **settings})
    batcher.submit([Ask(0)], FAR)
    work.begun.acquire(timeout=10)
    return batcher


def test_what_waits_together_is_answered_together_in_order(work: Work) -> None:
    batcher = blocked(work)
    futures = batcher.submit([Ask(1), Ask(2), Ask(3)], FAR)
    work.may_go.set()
    assert [future.result(10) for future in futures] == [2, 4, 6]
    assert work.batches == [[0], [1, 2], [3]]


def test_questions_of_another_key_wait_for_their_own_batch(work: Work) -> None:
    batcher = blocked(work)
    futures = batcher.submit([Ask(1, "a"), Ask(2, "b"), Ask(3, "a")], FAR)
    work.may_go.set()
    assert [future.result(10) for future in futures] == [2, 4, 6]
    assert work.batches[1:] == [[1, 3], [2]]


def test_a_full_queue_refuses_all_or_nothing(work: Work) -> None:
    batcher = blocked(work)
    batcher.submit([Ask(1), Ask(2)], FAR)
    with pytest.raises(Full):
        batcher.submit([Ask(3), Ask(4), Ask(5)], FAR)
    assert len(batcher) == 2
    batcher.submit([Ask(3), Ask(4)], FAR)
    assert len(batcher) == 4


def test_whoever_would_be_too_late_is_refused_at_the_door(work: Work) -> None:
    batcher = blocked(work)
    batcher.pace.note(1, 50.0)
    with pytest.raises(Full) as full:
        batcher.submit([Ask(1)], time.monotonic() + 120)  # the batch that runs and its own take 100, perhaps 125
    assert full.value.retry_after == 50.0
    batcher.submit([Ask(1)], time.monotonic() + 130)


def test_one_slow_batch_does_not_refuse_everybody_for_ever(work: Work) -> None:
    work.may_go.set()
    batcher = Batcher(work, max_queue=4, max_batch=2)
    batcher.pace.note(1, 1000.0)
    (future,) = batcher.submit([Ask(1)], time.monotonic() + 10)
    assert future.result(10) == 2
    batcher.close()
    assert batcher.pace.seconds(1) < 1000


def test_the_pace_is_that_of_the_sizes_seen() -> None:
    pace = Pace()
    assert pace.seconds(5) == 0
    pace.note(4, 2.0)
    assert pace.seconds(4) == 2.0
    assert pace.seconds(8) == 4.0  # nothing else is known than that four took two seconds
    for size in (1, 8, 4, 2):
        pace.note(size, 0.5 + 0.25 * size)
    assert pace.seconds(16) == pytest.approx(4.5, rel=0.2)
    assert pace.seconds(1) == pytest.approx(0.75, rel=0.3)
    for size in (1, 8, 4, 2) * 8:
        pace.note(size, 1.0)  # what was before has faded
    assert pace.seconds(32) == pytest.approx(1.0, rel=0.05)


def test_what_is_given_up_or_too_late_is_never_worked_on(work: Work) -> None:
    batcher = blocked(work)
    (gone,) = batcher.submit([Ask(1)], FAR)
    (late,) = batcher.submit([Ask(2)], time.monotonic() + 0.01)
    (there,) = batcher.submit([Ask(3)], FAR)
    gone.cancel()
    time.sleep(0.02)
    work.may_go.set()
    assert there.result(10) == 6
    with pytest.raises(Expired):
        late.result(10)
    with pytest.raises(CancelledError):
        gone.result(10)
    assert work.batches == [[0], [3]]


def test_questions_that_were_given_up_leave_room(work: Work) -> None:
    batcher = blocked(work)
    for future in batcher.submit([Ask(number) for number in range(4)], FAR):
        future.cancel()
    batcher.submit([Ask(number) for number in range(4)], FAR)


def test_one_bad_question_does_not_spoil_the_others() -> None:
    may_go = threading.Event()

    def inverse(questions: Sequence[Ask]) -> list[float]:
        may_go.wait(10)
        return [1 / question.value for question in questions]

    batcher = Batcher(inverse, max_queue=9, max_batch=9)
    batcher.submit([Ask(1)], FAR)
    good, bad, better = batcher.submit([Ask(2), Ask(0), Ask(4)], FAR)
    may_go.set()
    assert (good.result(10), better.result(10)) == (0.5, 0.25)
    with pytest.raises(ZeroDivisionError):
        bad.result(10)


def test_closing_finishes_what_was_accepted(work: Work) -> None:
    batcher = blocked(work)
    futures = batcher.submit([Ask(1), Ask(2), Ask(3)], FAR)
    closing = threading.Thread(target=batcher.close)
    closing.start()
    while batcher._is_open:
        time.sleep(0.001)
    with pytest.raises(Closed):
        batcher.submit([Ask(4)], FAR)
    work.may_go.set()
    closing.join(10)
    assert [future.result(0) for future in futures] == [2, 4, 6]


def test_several_workers_answer_at_the_same_time() -> None:
    meeting = threading.Barrier(3)

    def meet(questions: Sequence[Ask]) -> list[int]:
        meeting.wait(10)
        return [0 for _ in questions]

    batcher = Batcher(meet, max_queue=9, max_batch=1, workers=3)
    assert [future.result(10) for future in batcher.submit([Ask(0)] * 3, FAR)] == [0, 0, 0]


def test_the_watcher_learns_how_long_each_waited(work: Work) -> None:
    seen: list[tuple[int, float]] = []
    batcher = blocked(work, watch=lambda waited, took: seen.append((len(waited), min([*waited, took]))))
    futures = batcher.submit([Ask(1), Ask(2)], FAR)
    work.may_go.set()
    for future in futures:
        future.result(10)
    batcher.close()
    assert [count for count, _ in seen] == [1, 2]
    assert all(seconds >= 0 for _, seconds in seen)


def test_no_work_goes_into_an_answer_that_would_be_late(work: Work) -> None:
    batcher = blocked(work)
    (hopeless,) = batcher.submit([Ask(1)], time.monotonic() + 20)
    (hopeful,) = batcher.submit([Ask(2)], time.monotonic() + 1000)
    batcher.pace.note(2, 300.0)
    work.may_go.set()
    assert hopeful.result(10) == 4
    with pytest.raises(Expired):
        hopeless.result(10)
    assert work.batches == [[0], [2]]
