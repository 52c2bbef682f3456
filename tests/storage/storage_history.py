"""Whether what clients were told could have happened one operation after the other, each between its begin and end.

Every write that succeeded has a revision, and the store's log says what was written in the order of revisions. So
there is but one order to check, and the check is complete: no search is needed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson


@dataclass(slots=True)
class Operation:
    """`revision` of a write that succeeded or of what a read or a refused write found; None: the outcome is unknown."""

    id: int
    op: str
    key: str
    start: float
    expected: int = 0
    end: float = float("inf")
    revision: int | None = None
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """One entry of the store's log. `number` is that of the value; None: a deletion."""

    revision: int
    key: str
    number: int | None


def read(path: Path) -> tuple[list[Operation], list[Written], list[str]]:
    """Operations, what the watch brought and errors, from a worker's output; its last line may be cut off."""
    operations: dict[int, Operation] = {}
    seen: list[Written] = []
    errors: list[str] = []
    data = path.read_bytes() if path.exists() else b""
    for text in data[: data.rfind(b"\n") + 1].splitlines():
        line = orjson.loads(text)
        if "op" in line:
            operations[line["id"]] = Operation(**line)
        elif "id" in line and "end" in line:
            operation = operations[line["id"]]
            operation.end = line["end"]
            operation.refused = "conflict" in line
            operation.revision = line["conflict"] if operation.refused else line["revision"]
        elif "seen" in line:
            seen += [Written(*entry) for entry in line["seen"]]
        elif "crashed" in line:
            errors.append(line["crashed"])
    return list(operations.values()), seen, errors


def faults(operations: Iterable[Operation], log: Sequence[Written]) -> list[str]:
    """Why the operations on a store with this log are not linearizable; empty where they are."""
    found: list[str] = []
    operations = list(operations)
    by_revision = {entry.revision: entry for entry in log}
    by_id = {operation.id: operation for operation in operations}
    history: dict[str, list[int]] = defaultdict(list)
    for entry in log:
        before = history[entry.key][-1] if history[entry.key] else 0
        exists = before and by_revision[before].number is not None
        if entry.number is None:
            if not exists:
                found.append(f"revision {entry.revision} deleted {entry.key}, which did not exist")
        else:
            writer = by_id.get(entry.number)
            if writer is None or writer.key != entry.key or writer.op != "put":
                found.append(f"revision {entry.revision} wrote {entry.number} to {entry.key}: nobody asked for that")
            elif writer.refused or writer.revision not in (None, entry.revision):
                found.append(f"revision {entry.revision} wrote {entry.number}, whose writer was told otherwise")
            elif writer.expected != (before if exists else 0):
                found.append(f"revision {entry.revision} was to follow {writer.expected} and followed {before}")
        history[entry.key].append(entry.revision)
    numbers = [entry.number for entry in log if entry.number is not None]
    if len(set(numbers)) != len(numbers):
        found.append("a value was written twice")

    for operation in operations:
        if operation.revision and operation.op != "get" and not operation.refused:
            written = by_revision.get(operation.revision)
            number = operation.id if operation.op == "put" else None
            if written is None or (written.key, written.number) != (operation.key, number):
                found.append(f"{operation} was acknowledged, and the log has {written}")
        if operation.refused and operation.revision == operation.expected and operation.op == "put":
            found.append(f"{operation} was refused although its expectation held")

    # Time: at every moment there is a revision up to which everything was acknowledged or shown to somebody. Whatever
    # begins later must be later (a write) or must not show an older state (a read).
    finished = sorted((operation.end, operation.revision) for operation in operations if operation.revision)
    ends = [end for end, _ in finished]
    highest: list[int] = []
    for _, revision in finished:
        highest.append(max(revision, highest[-1] if highest else 0))
    begins = {entry.revision: by_id[entry.number].start for entry in log if entry.number in by_id}
    for operation in operations:
        if operation.revision is None:
            continue
        index = bisect_left(ends, operation.start)
        floor = highest[index - 1] if index else 0
        if operation.op != "get" and not operation.refused:
            if operation.revision <= floor:
                found.append(f"{operation} began after revision {floor} was known")
            continue
        revisions = history[operation.key]
        if operation.revision:
            place = bisect_left(revisions, operation.revision)
            if place == len(revisions) or revisions[place] != operation.revision:
                found.append(f"{operation} saw a revision that {operation.key} never had")
                continue
            after = revisions[place + 1] if place + 1 < len(revisions) else None
            if begins.get(operation.revision, 0) > operation.end:
                found.append(f"{operation} saw what was not yet asked for")
            if after is not None and after <= floor:
                found.append(f"{operation} saw an old state: revision {floor} was known before it began")
        else:
            # Absent: at some revision not before `floor` the key must not have existed.
            place = bisect_left(revisions, floor + 1)
            absent = place == 0 or by_revision[revisions[place - 1]].number is None
            if not absent and all(by_revision[later].number is not None for later in revisions[place:]):
                found.append(f"{operation} did not see {operation.key}, which was there all the time")
    return found
