"""How fast pods may be driven away from nodes that are not ready, zone by zone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum

from msgspec import Struct, field

from kubegate.api import Object

_RATE, _SLOW_RATE = 0.1, 0.01  # nodes in a second
_LARGE = 50  # a zone of fewer nodes is left alone while most of them are not ready
_PARTIAL_SHARE = 0.55


class Zone(Enum):
    """How much of a zone is out of order."""

    INITIAL = "initial"
    NORMAL = "normal"
    PARTIAL = "partial"
    FULL = "full"


class _State(Struct):
    zone: Zone = Zone.INITIAL
    rate: float = _RATE
    next: float = 0.0  # no node before this moment of the monotonic clock
    waiting: dict[str, None] = field(default_factory=dict)


class Zones:
    def __init__(self) -> None:
        self._states: dict[str, _State] = {}

    @staticmethod
    def of(node: Object) -> str:
        labels = node["metadata"].get("labels") or {}
        found = []
        for part in ("region", "zone"):
            name = labels.get(f"topology.kubernetes.io/{part}")
            found.append(name or labels.get(f"failure-domain.beta.kubernetes.io/{part}") or "")
        return "/".join(found)

    def waiting(self, node: Object) -> None:
        """This node is to be tainted when it is its turn."""
        self._states.setdefault(self.of(node), _State()).waiting[node["metadata"]["name"]] = None

    def forget(self, node: Object) -> None:
        for state in self._states.values():
            state.waiting.pop(node["metadata"]["name"], None)

    def due(self, now: float) -> list[str]:
        """The nodes whose turn it is; they wait no more."""
        found = []
        for state in self._states.values():
            if state.waiting and state.rate and state.next <= now:
                name = next(iter(state.waiting))
                del state.waiting[name]
                state.next = now + 1 / state.rate
                found.append(name)
        return found

    def next_due(self) -> float | None:
        """When `due` has something again."""
        return min((state.next for state in self._states.values() if state.waiting and state.rate), default=None)

    def look(self, ready_in: Mapping[str, Sequence[bool]]) -> Zone | None:
        """Whether each node is ready, by zone: sets how fast each zone goes.

        FULL where from now on no node anywhere is ready, NORMAL where that is over, None in all other cases.
        """
        found = {name: _measured(ready) for name, ready in ready_in.items()}
        for name in [name for name in self._states if name not in found]:
            del self._states[name]
        for name in found:
            self._states.setdefault(name, _State())
        none = all(zone is Zone.FULL for zone in found.values())
        none_before = all(state.zone is Zone.FULL for state in self._states.values())
        if none and none_before:
            return None
        for name, state in self._states.items():
            if none:
                state.zone, state.rate = Zone.FULL, 0.0
            elif none_before or state.zone is not found[name]:
                state.zone, state.rate = found[name], _rate(found[name], len(ready_in[name]))
        if none:
            return Zone.FULL
        return Zone.NORMAL if none_before else None


def _measured(ready: Sequence[bool]) -> Zone:
    bad = ready.count(False)
    if bad == len(ready):
        return Zone.FULL
    return Zone.PARTIAL if bad > 2 and bad / len(ready) >= _PARTIAL_SHARE else Zone.NORMAL


def _rate(zone: Zone, size: int) -> float:
    if zone is not Zone.PARTIAL:
        return _RATE
    return _SLOW_RATE if size > _LARGE else 0.0
