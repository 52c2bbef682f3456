"""Metrics in Prometheus' text form, under kube-apiserver's names where the thing measured is the same.

Counters and histograms are plain dicts that the event loop alone writes to; label values come from closed sets, so
that no client can make series without end.
"""

from __future__ import annotations

import resource
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

Labels = tuple[str, ...]
Sample = tuple[Labels, float]


class Counter:
    """`add(labels)`: one more. Labels are given in the order of their names."""

    kind = "counter"

    def __init__(self, name: str, text: str, labels: Sequence[str] = ()) -> None:
        self.name, self.text, self.labels = name, text, tuple(labels)
        self.values: dict[Labels, float] = {}

    def add(self, labels: Labels = (), amount: float = 1.0) -> None:
        self.values[labels] = self.values.get(labels, 0.0) + amount

    def lines(self) -> Iterable[str]:
        for labels, value in sorted(self.values.items()):
            yield f"{self.name}{_shown(self.labels, labels)} {_number(value)}"


class Gauge:
    """Asked for its samples when somebody reads the metrics."""

    kind = "gauge"

    def __init__(self, name: str, text: str, labels: Sequence[str], read: Callable[[], Iterable[Sample]]) -> None:
        self.name, self.text, self.labels, self._read = name, text, tuple(labels), read

    def lines(self) -> Iterable[str]:
        for labels, value in self._read():
            yield f"{self.name}{_shown(self.labels, labels)} {_number(value)}"


class Histogram:
    """`observe(labels, seconds)`; buckets are upper bounds in seconds."""

    kind = "histogram"

    def __init__(self, name: str, text: str, labels: Sequence[str], buckets: Sequence[float]) -> None:
        self.name, self.text, self.labels, self.buckets = name, text, tuple(labels), tuple(buckets)
        self.values: dict[Labels, list[float]] = {}

    def observe(self, labels: Labels, value: float) -> None:
        row = self.values.get(labels)
        if row is None:
            row = self.values[labels] = [0.0] * (len(self.buckets) + 2)
        row[bisect_left(self.buckets, value)] += 1
        row[-1] += value

    def lines(self) -> Iterable[str]:
        names = (*self.labels, "le")
        for labels, row in sorted(self.values.items()):
            total = 0.0
            for bound, count in zip((*map(_number, self.buckets), "+Inf"), row[:-1], strict=True):
                total += count
                yield f"{self.name}_bucket{_shown(names, (*labels, bound))} {_number(total)}"
            yield f"{self.name}_sum{_shown(self.labels, labels)} {_number(row[-1])}"
            yield f"{self.name}_count{_shown(self.labels, labels)} {_number(total)}"


Metric = Counter | Gauge | Histogram
_REQUEST = ("verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component")
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """All metrics of one server process."""

    def __init__(self) -> None:
        self.requests = Counter(
            "apiserver_request_total", "Requests by verb, resource and answer.", (*_REQUEST, "code")
        )
        self.durations = Histogram(
            "apiserver_request_duration_seconds", "Time to answer, watches left out.", _REQUEST, _SECONDS
        )
        self.authenticated = Counter(
            "authenticated_user_requests", "Authenticated requests by the method that knew the user.", ("username",)
        )
        self.attempts = Counter("authentication_attempts", "Attempts to authenticate by result.", ("result",))
        self.decisions = Counter(
            "apiserver_authorization_decisions_total", "Final decisions by authorizer.", ("type", "name", "decision")
        )
        self.rejected = Counter(
            "apiserver_flowcontrol_rejected_requests_total", "Requests refused to keep bounds.", ("reason",)
        )
        self.watch_events = Counter("apiserver_watch_events_total", "Events sent.", ("group", "version", "resource"))
        self._all: list[Metric] = [
            self.requests,
            self.durations,
            self.authenticated,
            self.attempts,
            self.decisions,
            self.rejected,
            self.watch_events,
            Gauge("process_resident_memory_bytes", "Resident memory.", (), lambda: [((), resident_memory())]),
            Gauge("process_cpu_seconds_total", "CPU time, user and system.", (), lambda: [((), _cpu())]),
        ]

    def add(self, metric: Metric) -> None:
        self._all.append(metric)

    def answered(self, labels: Labels, code: int, seconds: float | None) -> None:
        """One request is done; `seconds` None for watches, whose length says nothing."""
        self.requests.add((*labels, str(code)))
        if seconds is not None:
            self.durations.observe(labels, seconds)

    def text(self) -> str:
        """The exposition format 0.0.4."""
        lines = []
        for metric in self._all:
            lines.append(f"# HELP {metric.name} {metric.text}")
            lines.append(f"# TYPE {metric.name} {metric.kind}")
            lines.extend(metric.lines())
        return "\n".join(lines) + "\n"


def resident_memory() -> float:
    """Bytes of resident memory now."""
    try:
        with open("/proc/self/statm") as file:
            return float(int(file.read().split()[1]) * resource.getpagesize())
    except OSError:
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _shown(names: Sequence[str], values: Sequence[str]) -> str:
    if not names:
        return ""
    pairs = (f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))
    return "{" + ",".join(pairs) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
