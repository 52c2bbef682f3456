"""Counters, gauges and histograms in Prometheus' text form.

They are plain dicts that the event loop alone writes to; label values come from closed sets, so that no client can
make series without end.
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


def process_gauges() -> list[Metric]:
    """What this process uses."""
    return [
        Gauge("process_resident_memory_bytes", "Resident memory.", (), lambda: [((), resident_memory())]),
        Gauge("process_cpu_seconds_total", "CPU time, user and system.", (), lambda: [((), _cpu())]),
    ]


def exposition(metrics: Iterable[Metric]) -> str:
    """The exposition format 0.0.4."""
    lines = []
    for metric in metrics:
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
