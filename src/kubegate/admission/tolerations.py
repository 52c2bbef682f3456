"""Tolerations: which one covers which, and joining two lists. Follows k8s.io/kubernetes/pkg/util/tolerations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from kubegate.api import Object

_ANY_KEY = None


def merge(first: Sequence[Object], second: Sequence[Object]) -> list[Object]:
    """Both lists in order, without those that another one covers; of equal ones the first stays."""
    together = [*first, *second]
    before, after = _Wide(), _Wide()
    covered_later = []
    for toleration in reversed(together):
        covered_later.append(after.cover(toleration, others=True))
        after.add(toleration)
    merged = []
    for toleration, later in zip(together, reversed(covered_later), strict=True):
        if not later and not before.cover(toleration):
            merged.append(toleration)
        before.add(toleration)
    return merged


def allowed(tolerations: Iterable[Object], whitelist: Sequence[Object]) -> bool:
    """Whether every toleration is covered by one of the list; an empty list allows all."""
    wide = _Wide()
    for entry in whitelist:
        wide.add(entry)
    return not whitelist or all(map(wide.cover, tolerations))


class _Wide:
    """Tolerations, looked up by what they cover (see `covers`): a pod may have tens of thousands.

    Of those for the same key, value and effect it is the two that last longest that decide.
    """

    def __init__(self) -> None:
        self._equal: set[_Identity] = set()
        self._longest: dict[_Identity, list[tuple[float, _Identity]]] = {}

    def add(self, toleration: Object) -> None:
        identity = _identity(toleration)
        self._equal.add(identity)
        key, operator, value, effect = (toleration.get(name) or "" for name in ("key", "operator", "value", "effect"))
        if operator == "Exists":
            reach: _Identity = (key or _ANY_KEY, effect)
        elif operator in ("", "Equal"):
            reach = (key, effect, value)
        else:
            return
        seconds = toleration.get("tolerationSeconds") if effect == "NoExecute" else None
        known = self._longest.setdefault(reach, [])
        known.append((math.inf if seconds is None else seconds, identity))
        if len(known) > 2:
            known.sort(key=lambda entry: entry[0], reverse=True)
            known[:] = [known[0], next((entry for entry in known if entry[1] != known[0][1]), known[1])]

    def cover(self, toleration: Object, *, others: bool = False) -> bool:
        """Whether one covers it; with `others`, one that is not equal to it."""
        identity = _identity(toleration)
        if not others and identity in self._equal:
            return True
        seconds = toleration.get("tolerationSeconds")
        needed = math.inf if seconds is None else seconds
        return any(
            longest >= needed and not (others and found == identity)
            for reach in _reaches(toleration)
            for longest, found in self._longest.get(reach, ())
        )


_Identity = tuple[object, ...]


def _identity(toleration: Object) -> _Identity:
    return tuple(sorted(_kept(toleration).items()))


def _reaches(toleration: Object) -> Iterator[_Identity]:
    """What covers it is for one of these."""
    key, value, effect = (toleration.get(name) or "" for name in ("key", "value", "effect"))
    for effects in {effect, ""}:
        yield _ANY_KEY, effects
        yield key, effects
        if toleration.get("operator") == "Equal":
            yield key, effects, value


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
