"""What admission itself costs: both passes of the chain, for objects that no webhook and no policy wants.

The aim is under 50 µs for an object that no plugin wants.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bench.harness import Figure
from kubegate.admission import Attributes, GroupVersionKind, GroupVersionResource, Operation
from kubegate.admission.build import build
from kubegate.admission.chain import Chain
from kubegate.admission.config import AdmissionOptions
from kubegate.admission.dependencies import Dependencies
from kubegate.api import Object
from kubegate.authentication import UserInfo
from kubegate.authorization import NO_OPINION, Decision
from kubegate.authorization import Attributes as Question

CONFIG_MAP: Object = {"metadata": {"name": "a", "namespace": "ns", "uid": "u"}, "data": {"k": "v" * 1000}}
POD: Object = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
    "spec": {"containers": [{"name": "c", "image": "i"}]},
}
WATCHED = {"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted"}
HARD = {"count/configmaps": "1000000000"}


def run(quick: bool = False) -> Iterator[Figure]:
    """Shorter rounds where `quick`."""
    least = 0.2 if quick else 1.0
    cases: tuple[tuple[str, str, Object, dict[str, str], dict[str, str]], ...] = (
        ("a config map", "configmaps", CONFIG_MAP, {}, {}),
        ("a pod", "pods", POD, {}, {}),
        ("a pod, Pod Security enforced and warned of", "pods", POD, WATCHED, {}),
        ("a config map, counted by a quota", "configmaps", CONFIG_MAP, {}, HARD),
    )
    for name, resource, obj, labels, hard in cases:
        chain = build(AdmissionOptions(), World(labels, hard).dependencies())
        seconds = asyncio.run(seconds_each(chain, lambda: attributes(resource, obj), least))  # noqa: B023
        yield Figure(f"admission of {name}, default plugins", seconds * 1e6, "µs")


async def seconds_each(chain: Chain, make: Callable[[], Attributes], least: float) -> float:
    """For one object, without what it takes to make its attributes."""
    count, spent = 0, 0.0
    until = time.perf_counter() + least
    while time.perf_counter() < until:
        asked = make()
        start = time.perf_counter()
        await chain.admit(asked)
        await chain.validate(asked)
        spent += time.perf_counter() - start
        count += 1
    return spent / count


def attributes(resource: str, obj: Object) -> Attributes:
    kind = {"configmaps": "ConfigMap", "pods": "Pod"}[resource]
    return Attributes(
        operation=Operation.CREATE,
        kind=GroupVersionKind("", "v1", kind),
        resource=GroupVersionResource("", "v1", resource),
        subresource="",
        namespace="ns",
        name=obj["metadata"]["name"],
        object=copy.deepcopy(obj),
        old_object=None,
        options={},
        user=UserInfo("admin", groups=("system:masters",)),
    )


class World:
    """One namespace with its service account, as reader and writer of the plugins."""

    def __init__(self, labels: dict[str, str], hard: dict[str, str]) -> None:
        self._objects: dict[tuple[str, str, str], Object] = {
            ("namespaces", "", "ns"): {"metadata": {"name": "ns", "labels": labels}, "status": {"phase": "Active"}},
            ("serviceaccounts", "ns", "default"): {"metadata": {"name": "default", "namespace": "ns"}},
        }
        if hard:
            metadata = {"name": "q", "namespace": "ns", "uid": "1", "resourceVersion": "1"}
            status = {"hard": hard, "used": dict.fromkeys(hard, "0")}
            self._objects["resourcequotas", "ns", "q"] = {
                "metadata": metadata,
                "spec": {"hard": hard},
                "status": status,
            }

    def dependencies(self) -> Dependencies:
        return Dependencies(reader=self, authorize=self.authorize, writer=Writer(self._objects))

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        return self._objects.get((resource, namespace, name))

    def list(self, resource: str, namespace: str = "") -> Sequence[Object]:
        return [obj for key, obj in self._objects.items() if key[:2] == (resource, namespace)]

    def subscribe(self, resource: str, on_event: Callable[..., Any]) -> Callable[[], None]:
        return lambda: None

    async def authorize(self, question: Question) -> Decision:
        return NO_OPINION


class Writer:
    def __init__(self, objects: dict[tuple[str, str, str], Object]) -> None:
        self._objects = objects

    async def get(self, resource: str, namespace: str, name: str) -> Object | None:
        return self._objects.get((resource, namespace, name))

    async def create(self, resource: str, namespace: str, object: Object) -> Object:
        return object

    async def update_status(self, resource: str, namespace: str, name: str, object: Object) -> Object:
        revision = str(int(object["metadata"]["resourceVersion"]) + 1)
        stored = {**object, "metadata": {**object["metadata"], "resourceVersion": revision}}
        self._objects[resource, namespace, name] = stored
        return stored
