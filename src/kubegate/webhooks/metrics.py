"""Metrics of a webhook server. Label values come from the policy file and from closed sets, never from a caller."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import orjson

from kubegate.transport.metrics import Counter, Gauge, Histogram, Metric, exposition, process_gauges

_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """All metrics of one server process."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.certificate_ends = 0.0
        self.reviews = Counter("kubegate_webhook_reviews_total", "Reviews answered.", ("path", "outcome"))
        self.seconds = Histogram("kubegate_webhook_review_duration_seconds", "Time to answer.", ("path",), _SECONDS)
        self.refused = Counter("kubegate_webhook_refused_requests_total", "Requests that were no review.", ("reason",))
        self.reloads = Counter("kubegate_webhook_policy_reloads_total", "New contents of the policy file.", ("result",))
        self._all: list[Metric] = [
            self.reviews,
            self.seconds,
            self.refused,
            self.reloads,
            Gauge("kubegate_webhook_in_flight", "Reviews being answered.", (), lambda: [((), float(self.in_flight))]),
            Gauge(
                "kubegate_webhook_certificate_expiration_seconds",
                "When the serving certificate ends, in seconds since 1970.",
                (),
                lambda: [((), self.certificate_ends)],
            ),
            *process_gauges(),
        ]

    def text(self, others: Iterable[bytes] = ()) -> str:
        """The exposition format 0.0.4; with the `snapshot`s of other workers, the sum of all of them."""
        merged = Metrics()
        merged.certificate_ends = self.certificate_ends
        for snapshot in (self.snapshot(), *others):
            merged._add(snapshot)
        return exposition(merged._all)

    def snapshot(self) -> bytes:
        """What was counted, for another process's `text`."""
        counted = {each.name: list(each.values.items()) for each in self._all if isinstance(each, (Counter, Histogram))}
        return orjson.dumps({"in_flight": self.in_flight, "counted": counted})

    def _add(self, snapshot: bytes) -> None:
        found = orjson.loads(snapshot)
        self.in_flight += found["in_flight"]
        for metric in self._all:
            for labels, value in found["counted"].get(metric.name, ()):
                key = tuple(labels)
                if isinstance(metric, Counter):
                    metric.add(key, value)
                elif isinstance(metric, Histogram):
                    row = metric.values.get(key)
                    metric.values[key] = value if row is None else [a + b for a, b in zip(row, value, strict=True)]


class Shared:
    """The counts of several workers, in a folder with a file for each: whichever is asked tells the sum.

    A worker that died leaves its file, so that counters never go back.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._own = folder, folder / str(os.getpid())
        self._written = b""

    def publish(self, metrics: Metrics) -> None:
        """Write this worker's counts, where they are others than before."""
        snapshot = metrics.snapshot()
        if snapshot != self._written:
            temporary = self._own.with_suffix(".new")
            temporary.write_bytes(snapshot)
            temporary.replace(self._own)
            self._written = snapshot

    def text(self, metrics: Metrics) -> str:
        """The sum: this worker's counts as they are now, the others' as they were last published."""
        others = (path for path in self._folder.iterdir() if path != self._own and not path.suffix)
        return metrics.text([path.read_bytes() for path in others])
