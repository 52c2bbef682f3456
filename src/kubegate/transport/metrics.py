"""Counters, gauges and histograms in Prometheus' text form.

They are plain dicts that the event loop alone writes to; label values come from closed sets, so that no client can
make series without end.
"""

from __future__ import annotations

import os
import resource
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import orjson

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
    """Asked for its samples when somebody reads the metrics.

    `of`, where several processes serve together: what this one says ("own"), or the sum of those that live, or of all
    that ever lived.
    """

    kind = "gauge"

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str],
        read: Callable[[], Iterable[Sample]],
        of: Literal["own", "living", "all"] = "own",
    ) -> None:
        self.name, self.text, self.labels, self.read, self.of = name, text, tuple(labels), read, of

    def lines(self) -> Iterable[str]:
        for labels, value in self.read():
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
        Gauge("process_resident_memory_bytes", "Resident memory.", (), lambda: [((), resident_memory())], "living"),
        Gauge("process_cpu_seconds_total", "CPU time, user and system.", (), lambda: [((), _cpu())], "all"),
    ]


class Shared:
    """The metrics of several processes that serve together, in a folder with a file for each: any tells the sum.

    `name` is the process's, and that of the one that takes its place when it died: what that one counted stays, so that
    counters never go back.
    """

    def __init__(self, folder: Path, name: str = "") -> None:
        self._folder, self._own = folder, folder / (name or str(os.getpid()))
        self._before: list[bytes] = [self._own.read_bytes()] if self._own.exists() else []
        self._written = b""

    def publish(self, metrics: Sequence[Metric]) -> None:
        """Write what was counted here, where it is something else than before."""
        data = snapshot(together(metrics, self._before, others_live=False))
        if data != self._written:
            temporary = self._own.with_suffix(".new")
            temporary.write_bytes(data)
            temporary.replace(self._own)
            self._written = data

    def text(self, metrics: Sequence[Metric]) -> str:
        """The exposition of the sum: what was counted here as it is now, the others' as they last published it."""
        own = together(metrics, self._before, others_live=False)
        others = (path for path in self._folder.iterdir() if path != self._own and not path.suffix)
        return exposition(together(own, [path.read_bytes() for path in others]))


def snapshot(metrics: Iterable[Metric]) -> bytes:
    """What another process needs to tell the sum."""
    counted = {m.name: list(m.values.items()) for m in metrics if not isinstance(m, Gauge)}
    gauges = {m.name: list(m.read()) for m in metrics if isinstance(m, Gauge) and m.of != "own"}
    return orjson.dumps({"pid": os.getpid(), "counted": counted, "gauges": gauges})


def together(metrics: Sequence[Metric], snapshots: Iterable[bytes], *, others_live: bool = True) -> list[Metric]:
    """The sum of `metrics` and what other processes' snapshots say of the same; not `others_live`: they are gone."""
    others = [orjson.loads(each) for each in snapshots]
    return [_sum(metric, others, others_live) for metric in metrics]


def _sum(metric: Metric, others: Sequence[dict[str, Any]], others_live: bool) -> Metric:
    if isinstance(metric, Gauge):
        return _sum_of_gauges(metric, others, others_live)
    if isinstance(metric, Counter):
        total = Counter(metric.name, metric.text, metric.labels)
        total.values = dict(metric.values)
        for other in others:
            for labels, value in other["counted"].get(metric.name, ()):
                total.add(tuple(labels), value)
        return total
    rows = Histogram(metric.name, metric.text, metric.labels, metric.buckets)
    rows.values = {labels: list(row) for labels, row in metric.values.items()}
    for other in others:
        for labels, row in other["counted"].get(metric.name, ()):
            known = rows.values.setdefault(tuple(labels), [0.0] * len(row))
            rows.values[tuple(labels)] = [a + b for a, b in zip(known, row, strict=True)]
    return rows


def _sum_of_gauges(metric: Gauge, others: Sequence[dict[str, Any]], others_live: bool) -> Gauge:
    if metric.of == "own":
        return metric
    values = Counter(metric.name, metric.text, metric.labels)
    for labels, value in metric.read():
        values.add(labels, value)
    for other in others:
        if metric.of == "all" or (others_live and _lives(other["pid"])):
            for labels, value in other["gauges"].get(metric.name, ()):
                values.add(tuple(labels), value)
    return Gauge(metric.name, metric.text, metric.labels, lambda: values.values.items(), metric.of)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


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
