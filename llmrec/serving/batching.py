"""Micro-batching with a bounded queue: requests that wait together are decoded together.

No request is made to wait for company: a worker that is free takes all that wait (up to a batch), so that batches grow
with the load by themselves. Whoever could not be answered in time is told so at the door, and not after having waited.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from llmrec.serving.pace import Pace

logger = logging.getLogger(__name__)


CAUTION = 1.25
"""What a wait is taken to be, over its mean: an answer that is thrown away was work for nothing."""


class Question(Protocol):
    """What is asked; questions with equal keys can be answered in one call."""

    @property
    def key(self) -> Hashable:
        """Which questions it can be answered with."""
        ...


class Full(Exception):
    """The queue is full, or a new question could not be answered in time.

    Args:
        retry_after: seconds until there may be room.
    """

    def __init__(self, retry_after: float) -> None:
        super().__init__("the queue is full")
        self.retry_after = retry_after


class Closed(Exception):
    """The batcher takes no more questions."""


class Expired(Exception):
    """The time of a question was over before its turn came."""


@dataclass(eq=False)
class Waiting:
    """A question in the queue; `deadline` and `since` are times of `time.monotonic`."""

    question: Question
    deadline: float
    since: float
    answer: Future[Any] = field(default_factory=Future)


class Batcher:
    """Threads that answer questions in batches.

    Args:
        answer_all: answers questions of one key, in their order; called in a worker thread.
        max_queue: questions that may wait. max_batch: questions answered together. workers: threads.
        watch: told of each batch: the seconds that each of its questions waited, and those that answering took.
    """

    def __init__(
        self,
        answer_all: Callable[[list[Any]], Sequence[Any]],
        max_queue: int,
        max_batch: int,
        workers: int = 1,
        watch: Callable[[list[float], float], object] = lambda waited, took: None,
    ) -> None:
        self.answer_all, self.max_queue, self.max_batch, self.watch = answer_all, max_queue, max_batch, watch
        self.pace = Pace()
        self._queue: deque[Waiting] = deque()
        self._running: dict[int, tuple[int, float]] = {}  # by thread: the size of its batch, and when it began
        self._is_open = True
        self._change = threading.Condition()
        self._threads = [
            threading.Thread(target=self._work, name=f"llmrec-batch-{number}", daemon=True) for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def __len__(self) -> int:
        """Questions that wait."""
        return len(self._queue)

    def submit(self, questions: Sequence[Question], deadline: float) -> list[Future[Any]]:
        """Queue questions, all or none of them.

        Args:
            deadline: when the answers stop being wanted, on the clock of `time.monotonic`.

        Raises:
            Full: there is no room, or their turn would come too late.
            Closed: `close` was called.
        """
        now = time.monotonic()
        with self._change:
            if not self._is_open:
                raise Closed
            self._drop_given_up()
            wanted = len(self._queue) + len(questions)
            # Whoever finds nobody before them is never refused for time: one slow batch would refuse all for ever.
            late = bool(self._queue or self._running) and now + CAUTION * self.wait_for(wanted) > deadline
            if wanted > self.max_queue or late:
                raise Full(max(self.wait_for(len(self._queue)), self.pace.seconds(1)))
            waiting = [Waiting(question, deadline, now) for question in questions]
            self._queue.extend(waiting)
            self._change.notify(len(waiting))
        return [one.answer for one in waiting]

    def wait_for(self, questions: int) -> float:
        """Seconds until so many questions in the queue are answered, at the pace of late."""
        now = time.monotonic()
        whole, rest = divmod(questions, self.max_batch)
        seconds = whole * self.pace.seconds(self.max_batch) + (self.pace.seconds(rest) if rest else 0.0)
        for size, began in self._running.values():
            seconds += max(0.0, self.pace.seconds(size) - (now - began))
        return seconds / len(self._threads)

    def close(self) -> None:
        """Take no more questions, answer those that were accepted, and end the threads."""
        with self._change:
            self._is_open = False
            self._change.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while batch := self._next():
            try:
                self._answer(batch)
            finally:
                with self._change:
                    del self._running[threading.get_ident()]

    def _next(self) -> list[Waiting]:
        """The first question and all that can be answered with it; none when there will be no more."""
        with self._change:
            while True:
                self._drop_given_up()
                if self._queue:
                    break
                if not self._is_open:
                    return []
                self._change.wait()
            key = self._queue[0].question.key
            batch = [one for one in self._queue if one.question.key == key][: self.max_batch]
            taken = set(map(id, batch))
            self._queue = deque(one for one in self._queue if id(one) not in taken)
            batch = self._with_hope(batch)
            self._running[threading.get_ident()] = len(batch), time.monotonic()
            return batch

    def _drop_given_up(self) -> None:
        """Forget questions whose askers are gone, and tell those whose time is over."""
        now, kept = time.monotonic(), deque[Waiting]()
        for one in self._queue:
            if one.answer.cancelled():
                continue
            if one.deadline <= now:
                _settle(one.answer, error=Expired())
            else:
                kept.append(one)
        self._queue = kept

    def _with_hope(self, batch: list[Waiting]) -> list[Waiting]:
        """Without those that could not be answered in time any more; all of them where none could."""
        done = time.monotonic() + self.pace.seconds(len(batch))
        hopeful = [one for one in batch if one.deadline >= done] or batch
        for one in batch:
            if one not in hopeful:
                _settle(one.answer, error=Expired())
        return hopeful

    def _answer(self, batch: list[Waiting]) -> None:
        batch = [one for one in batch if one.answer.set_running_or_notify_cancel()]
        if not batch:
            return
        started = time.monotonic()
        try:
            answers = self.answer_all([one.question for one in batch])
        except Exception as error:
            if len(batch) == 1:
                _settle(batch[0].answer, error=error)
            else:  # one question must not spoil the others'
                logger.warning("a batch of %d failed (%s); each is answered alone", len(batch), error)
                for one in batch:
                    self._answer_alone(one)
            return
        took = time.monotonic() - started
        self.pace.note(len(batch), took)
        for one, answer in zip(batch, answers, strict=True):
            _settle(one.answer, answer)
        self.watch([started - one.since for one in batch], took)

    def _answer_alone(self, one: Waiting) -> None:
        try:
            (answer,) = self.answer_all([one.question])
        except Exception as error:
            _settle(one.answer, error=error)
        else:
            _settle(one.answer, answer)


def _settle(future: Future[Any], answer: Any = None, error: Exception | None = None) -> None:
    with suppress(InvalidStateError):  # the asker has gone meanwhile
        if error is None:
            future.set_result(answer)
        else:
            future.set_exception(error)
