"""A clock, a reader and questions for tests of authorizers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kubegate.authentication import UserInfo
from kubegate.authorization import Attributes
from kubegate.storage import ObjectEvent

Object = dict[str, Any]


class FakeClock:
    def __init__(self) -> None:
        self.time = 1000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


class FakeReader:
    """`storage.Reader` over a dict; `put` and `remove` tell the subscribers."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.listeners: dict[str, list[Callable[..., None]]] = {}

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        return self.objects.get((resource, namespace, name))

    def list(self, resource: str, namespace: str = "") -> Sequence[Object]:
        return [o for k, o in self.objects.items() if k[0] == resource and namespace in ("", k[1])]

    def subscribe(self, resource: str, on_event: Callable[..., None]) -> Callable[[], None]:
        for obj in self.list(resource):
            on_event(ObjectEvent.ADDED, obj, None)
        self.listeners.setdefault(resource, []).append(on_event)
        return lambda: self.listeners[resource].remove(on_event)

    def put(self, resource: str, obj: Object) -> None:
        key = (resource, obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        previous = self.objects.get(key)
        self.objects[key] = obj
        for listener in self.listeners.get(resource, []):
            listener(ObjectEvent.MODIFIED if previous else ObjectEvent.ADDED, obj, previous)

    def remove(self, resource: str, namespace: str, name: str) -> None:
        obj = self.objects.pop((resource, namespace, name))
        for listener in self.listeners.get(resource, []):
            listener(ObjectEvent.DELETED, obj, obj)


def user(name: str = "alice", *groups: str) -> UserInfo:
    return UserInfo(name, "", groups)


def ask(
    verb: str, resource: str, *, who: UserInfo | None = None, namespace: str = "", name: str = "", **more: Any
) -> Attributes:
    """`pods`, `pods/log`, `deployments.apps/scale`."""
    resource, _, subresource = resource.partition("/")
    resource, _, group = resource.partition(".")
    return Attributes(
        user=who or user(),
        verb=verb,
        api_group=group,
        api_version="v1",
        resource=resource,
        subresource=subresource,
        namespace=namespace,
        name=name,
        **more,
    )


def ask_path(verb: str, path: str, who: UserInfo | None = None) -> Attributes:
    return Attributes(who or user(), verb, False, path=path)
