"""What Prometheus sees of a server; every server has its own registry."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        self.requests = histogram(
            "llmrec_request_seconds", "From the head of a request to its answer.", ("route", "status"), buckets=SECONDS
        )
        self.stages = histogram(
            "llmrec_stage_seconds",
            "Of a request: to read it, to wait in the queue, to decode with its batch, to write the answer.",
            ("stage",),
            buckets=SECONDS,
        )
        self.batches = histogram("llmrec_batch_histories", "Histories decoded together.", buckets=SIZES)
        self.beams = histogram("llmrec_beams", "Prefixes kept a level, of each list.", buckets=(*SIZES, 512))
        self.items = counter("llmrec_items", "Items recommended.")
        self.invalid = counter(
            "llmrec_invalid_items", "Items that a recommender gave and must not have; anything but 0 is a bug."
        )
        self.lists = counter("llmrec_lists", "Lists, by whether they are proven to be the true best.", ("exact",))
        self.unknown = counter("llmrec_unknown_items", "Ids in requests that the catalog lacks.")
        self.queue = gauge("llmrec_queue_histories", "Histories that wait.")
        self.catalog = gauge("llmrec_catalog_items", "Items, known and in stock.", ("state",))
        self.version = gauge("llmrec_catalog_version", "Changes of the catalog since the start, from 1.")

    def batch(self, waited: list[float], took: float) -> None:
        """Note a batch: the seconds each of its questions waited, and those of its decoding."""
        self.batches.observe(len(waited))
        for seconds in waited:
            self.stages.labels("queue").observe(seconds)
            self.stages.labels("decode").observe(took)

    def watch(
        self,
        queue: Callable[[], float],
        items: Callable[[], float],
        in_stock: Callable[[], float],
        version: Callable[[], float],
    ) -> None:  # fmt: skip
        """Read these whenever somebody looks."""
        self.queue.set_function(queue)
        self.catalog.labels("known").set_function(items)
        self.catalog.labels("in_stock").set_function(in_stock)
        self.version.set_function(version)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
