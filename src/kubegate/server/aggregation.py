"""What APIServices say that other API servers serve: told in discovery, and not to be had here.

Follows k8s.io/kube-aggregator/pkg/apiserver, for which nothing behind an APIService is available.
"""

from __future__ import annotations

from collections.abc import Callable

from kubegate.api import Object
from kubegate.api.resources import version_priority
from kubegate.server import responses
from kubegate.server.responses import Response
from kubegate.storage import ObjectEvent, Reader

_SERVICES = "apiservices.apiregistration.k8s.io"


class RemoteApis:
    """The groups and versions of APIServices that name a service."""

    def __init__(self) -> None:
        self._specs: dict[str, Object] = {}
        self._listeners: list[Callable[[], None]] = []

    def follow(self, reader: Reader) -> Callable[[], None]:
        """Know them from now on; returns what ends that."""
        return reader.subscribe(_SERVICES, self._changed)

    def on_change(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    def _changed(self, event: ObjectEvent, obj: Object, previous: Object | None) -> None:
        name, spec = obj["metadata"]["name"], obj["spec"]
        before = self._specs.pop(name, None)
        if event is not ObjectEvent.DELETED and spec.get("service") is not None and spec.get("group"):
            self._specs[name] = spec
        if self._specs.get(name) != before:
            for listener in self._listeners:
                listener()

    def groups(self) -> dict[str, int]:
        """Each group's priority."""
        found: dict[str, int] = {}
        for spec in self._specs.values():
            found[spec["group"]] = max(found.get(spec["group"], 0), spec["groupPriorityMinimum"])
        return found

    def versions(self, group: str) -> list[str]:
        """The preferred one first."""
        specs = [spec for spec in self._specs.values() if spec["group"] == group]
        order = sorted(specs, key=lambda s: (s["versionPriority"], version_priority(s["version"])), reverse=True)
        return [spec["version"] for spec in order]

    def answer(self, group: str, version: str) -> Response | None:
        """What is said of all paths of a group and version that another server serves; None of what none does."""
        if f"{version}.{group}" not in self._specs:
            return None
        return responses.text("service unavailable\n", 503)
