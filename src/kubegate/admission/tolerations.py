"""Tolerations: which one covers which, and joining two lists. Follows k8s.io/kubernetes/pkg/util/tolerations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kubegate.api import Object


def merge(first: Sequence[Object], second: Sequence[Object]) -> list[Object]:
    """Both lists in order, without those that another one covers; of equal ones the first stays."""
    together = [*first, *second]
    merged: list[Object] = []
    for position, toleration in enumerate(together):
        if any(covers(other, toleration) for other in merged):
            continue
        later = together[position + 1 :]
        if any(not _same(other, toleration) and covers(other, toleration) for other in later):
            continue
        merged.append(toleration)
    return merged


def allowed(tolerations: Iterable[Object], whitelist: Sequence[Object]) -> bool:
    """Whether every toleration is covered by one of the list; an empty list allows all."""
    return not whitelist or all(any(covers(entry, toleration) for entry in whitelist) for toleration in tolerations)


def covers(wide: Object, narrow: Object) -> bool:
    """Whether `wide` tolerates all that `narrow` does."""
    if _same(wide, narrow):
        return True
    any_key = not wide.get("key") and wide.get("operator") == "Exists"
    if narrow.get("key", "") != wide.get("key", "") and not any_key:
        return False
    if wide.get("effect") and narrow.get("effect", "") != wide["effect"]:
        return False
    seconds = wide.get("tolerationSeconds")
    if wide.get("effect") == "NoExecute" and seconds is not None:
        given = narrow.get("tolerationSeconds")
        if given is None or given > seconds:
            return False
    if wide.get("operator") in (None, "", "Equal"):
        return narrow.get("operator") == "Equal" and narrow.get("value", "") == wide.get("value", "")
    return wide.get("operator") == "Exists"


def _same(left: Object, right: Object) -> bool:
    """Equal as Go sees it: an empty field is a missing one (but for seconds, where 0 means at once)."""
    return _kept(left) == _kept(right)


def _kept(toleration: Object) -> Object:
    return {name: value for name, value in toleration.items() if value not in (None, "")}
