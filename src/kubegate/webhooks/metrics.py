"""Metrics of a webhook server. Label values come from the policy file and from closed sets, never from a caller."""

from __future__ import annotations

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
        self.all: list[Metric] = [
            self.reviews,
            self.seconds,
            self.refused,
            self.reloads,
            Gauge(
                "kubegate_webhook_in_flight",
                "Reviews being answered.",
                (),
                lambda: [((), float(self.in_flight))],
                "living",
            ),
            Gauge(
                "kubegate_webhook_certificate_expiration_seconds",
                "When the serving certificate ends, in seconds since 1970.",
                (),
                lambda: [((), self.certificate_ends)],
            ),
            *process_gauges(),
        ]

    def text(self) -> str:
        """The exposition format 0.0.4."""
        return exposition(self.all)
