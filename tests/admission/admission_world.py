"""A small world for plugins: objects in memory behind the reader and the writer, and time that moves when told to."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubegate.admission import Attributes, GroupVersionKind, GroupVersionResource, Operation
from kubegate.admission.build import build
from kubegate.admission.chain import Chain
from kubegate.admission.config import AdmissionOptions
from kubegate.admission.dependencies import Dependencies
from kubegate.api import Object
from kubegate.api.resources import Resources
from kubegate.api.status import MODIFIED, StatusError, already_exists, conflict, not_found
from kubegate.authentication import UserInfo
from kubegate.authorization import NO_OPINION, Decision, Verdict
from kubegate.authorization import Attributes as Question
from kubegate.storage import ObjectEvent

RESOURCES = Resources.built_in()
ADMIN = UserInfo("kubernetes-admin", groups=("system:masters", "system:authenticated"))


class Clock:
    """Starts at 2026; sleeping moves it."""

    def __init__(self) -> None:
        self.seconds = 1_767_225_600.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds


class Objects:
    """A storage.Reader and an admission Writer over one dictionary. `late` objects are seen by the writer alone."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str, str], Object] = {}
        self.late: dict[tuple[str, str, str], Object] = {}
        self.revision = 0
        self.writes = 0
        self.listeners: list[tuple[str, Callable[..., None]]] = []

    def put(self, resource: str, object: Object) -> Object:
        metadata = object["metadata"]
        key = (resource, metadata.get("namespace", ""), metadata["name"])
        previous = self.found.get(key)
        self.revision += 1
        stored = copy.deepcopy(object)
        stored["metadata"]["resourceVersion"] = str(self.revision)
        self.found[key] = stored
        for wanted, listener in self.listeners:
            if wanted == resource:
                listener(ObjectEvent.MODIFIED if previous else ObjectEvent.ADDED, stored, previous)
        return stored

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        return self.found.get((resource, namespace, name))

    def list(self, resource: str, namespace: str = "") -> Sequence[Object]:
        return [o for (r, ns, _), o in self.found.items() if r == resource and namespace in ("", ns)]

    def subscribe(self, resource: str, on_event: Callable[..., None]) -> Callable[[], None]:
        for object in self.list(resource):
            on_event(ObjectEvent.ADDED, object, None)
        entry = (resource, on_event)
        self.listeners.append(entry)
        return lambda: self.listeners.remove(entry)


class StoreWriter:
    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def get(self, resource: str, namespace: str, name: str) -> Object | None:
        return self._objects.late.get((resource, namespace, name)) or self._objects.get(resource, namespace, name)

    async def create(self, resource: str, namespace: str, object: Object) -> Object:
        if self._objects.get(resource, namespace, object["metadata"]["name"]) is not None:
            raise already_exists("", resource, object["metadata"]["name"])
        return self._objects.put(resource, object)

    async def update_status(self, resource: str, namespace: str, name: str, object: Object) -> Object:
        stored = self._objects.get(resource, namespace, name)
        if stored is None:
            raise not_found("", resource, name)
        if stored["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"]:
            raise conflict("", resource, name, MODIFIED)
        self._objects.writes += 1
        return self._objects.put(resource, {**stored, "status": object["status"]})


@dataclass
class World:
    """What a chain is built from, and ways to send objects through it."""

    objects: Objects = field(default_factory=Objects)
    clock: Clock = field(default_factory=Clock)
    allowed: set[tuple[str, str, str, str]] = field(default_factory=set)
    asked: list[Question] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.namespace("ns")
        self.objects.put("serviceaccounts", {"metadata": {"name": "default", "namespace": "ns"}})

    def namespace(self, name: str, phase: str = "Active", **metadata: Any) -> Object:
        return self.objects.put("namespaces", {"metadata": {"name": name, **metadata}, "status": {"phase": phase}})

    async def authorize(self, question: Question) -> Decision:
        """Allowed is what is in `allowed`: (user, verb, resource, name)."""
        self.asked.append(question)
        if (question.user.name, question.verb, question.resource, question.name) in self.allowed:
            return Decision(Verdict.ALLOW)
        return NO_OPINION

    def dependencies(self, **configurations: Object) -> Dependencies:
        return Dependencies(
            reader=self.objects,
            authorize=self.authorize,
            writer=StoreWriter(self.objects),
            clock=self.clock,
            resources=RESOURCES,
            configurations=configurations,
        )

    def chain(self, *plugins: str, **configurations: Object) -> Chain:
        """A chain of these plugins alone (all that are on by default where none is named)."""
        from kubegate.admission.config import PLUGINS

        disable = tuple(name for name in PLUGINS if name not in plugins) if plugins else ()
        return build(AdmissionOptions(enable=plugins, disable=disable), self.dependencies(**configurations))


def attributes(
    resource: str,
    object: Object | None,
    old: Object | None = None,
    *,
    operation: Operation | None = None,
    subresource: str = "",
    user: UserInfo = ADMIN,
    name: str | None = None,
    namespace: str | None = None,
    dry_run: bool = False,
    kind: str = "",
) -> Attributes:
    """Attributes as the registry makes them; the operation follows from which objects there are."""
    found = RESOURCES.by_group_resource(resource)
    assert found is not None, resource
    if operation is None:
        operation = Operation.DELETE if object is None else Operation.UPDATE if old else Operation.CREATE
    metadata = (object or old or {}).get("metadata") or {}
    return Attributes(
        operation=operation,
        kind=GroupVersionKind(found.group, found.version, kind or found.kind),
        resource=GroupVersionResource(found.group, found.version, found.resource),
        subresource=subresource,
        namespace=("ns" if found.namespaced else "") if namespace is None else namespace,
        name=metadata.get("name", "") if name is None else name,
        object=copy.deepcopy(object),
        old_object=copy.deepcopy(old),
        options={},
        user=user,
        dry_run=dry_run,
    )


async def run(chain: Chain, asked: Attributes) -> Object:
    """Both passes; the object that would be stored. Raises StatusError."""
    await chain.admit(asked)
    await chain.validate(asked)
    return asked.object or {}


async def refusal(chain: Chain, asked: Attributes) -> str:
    """The text with which the chain refuses."""
    try:
        await run(chain, asked)
    except StatusError as error:
        return error.message
    raise AssertionError("was not refused")


def pod(name: str = "p", **spec: Any) -> Object:
    """A pod with one container, as it is after defaulting, without a token."""
    metadata = spec.pop("metadata", {})
    body = {"containers": [{"name": "c", "image": "i"}], "automountServiceAccountToken": False, **spec}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "ns", **metadata},
        "spec": body,
    }
