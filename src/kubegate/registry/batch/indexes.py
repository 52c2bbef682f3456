"""Indexes of an Indexed Job as text: `1,3-5,7`."""

from __future__ import annotations

from kubegate.api.field import quoted


class BadIndexes(Exception):
    """Text that is no list of indexes; the message is kube-apiserver's."""


def parse(text: str, completions: int) -> int:
    """How many indexes there are. Raises BadIndexes."""
    total, last = 0, -1
    for interval in text.split(",") if text else ():
        first, end = _interval(interval, completions)
        if last >= first:
            raise BadIndexes(f"non-increasing order, previous: {last}, current: {first}")
        total += end - first + 1
        last = end
    return total


def overlap(completed: str, failed: str, completions: int) -> int | None:
    """The first index that is in both, in the order in which kube-apiserver looks. Bad intervals are passed over."""
    for left in _intervals(completed, completions):
        for right in _intervals(failed, completions):
            if left[0] <= right[1] and right[0] <= left[1]:
                return max(left[0], right[0])
    return None


def _intervals(text: str, completions: int) -> list[tuple[int, int]]:
    found = []
    for interval in text.split(",") if text else ():
        try:
            found.append(_interval(interval, completions))
        except BadIndexes:
            continue
    return found


def _interval(text: str, completions: int) -> tuple[int, int]:
    limits = text.split("-")
    if len(limits) > 2:
        raise BadIndexes(
            f"the fragment {quoted(text)} violates the requirement that an index interval can have at most two parts "
            "separated by '-'"
        )
    first = _index(limits[0], completions)
    if len(limits) == 1:
        return first, first
    end = _index(limits[1], completions)
    if first >= end:
        raise BadIndexes(f"non-increasing order, previous: {first}, current: {end}")
    return first, end


def _index(text: str, completions: int) -> int:
    if not (text.isascii() and text.isdigit()):
        raise BadIndexes(f"cannot convert string to integer for index: {quoted(text)}")
    if int(text) >= completions:
        raise BadIndexes(f"too large index: {quoted(text)}")
    return int(text)
