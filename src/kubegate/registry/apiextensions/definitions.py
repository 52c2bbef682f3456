"""What follows from definitions: the resources that are served, the names that are accepted, and the end of objects.

`watch_definitions` keeps the served resources true. `Definitions` is the part that writes: it accepts names and
establishes definitions, and empties those that are deleted. Follows the controllers in k8s.io/apiextensions-apiserver.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from kubegate.api import Object, clone, field
from kubegate.api.clock import Clock
from kubegate.api.resources import Resource, Resources
from kubegate.api.status import StatusError
from kubegate.registry.apiextensions.customresourcedefinitions import (
    CLEANUP_FINALIZER,
    approval_of,
    is_protected,
    set_condition,
)
from kubegate.registry.apiextensions.customresources import condition, resources_of
from kubegate.registry.internal import Internal
from kubegate.storage import ObjectEvent, Reader

log = logging.getLogger(__name__)

RESOURCE = "customresourcedefinitions.apiextensions.k8s.io"
_RETRY_SECONDS = 0.2


# ------------------------------------------------------------------ served resources
def watch_definitions(reader: Reader, resources: Resources) -> Callable[[], None]:
    """Serve what the definitions say, now and after each change. Returns a function that ends this."""
    served: dict[str, list[Resource]] = {}
    said: dict[str, Any] = {}

    def changed(event: ObjectEvent, definition: Object, _: Object | None) -> None:
        name = definition["metadata"]["name"]
        gone = event is ObjectEvent.DELETED
        content = None if gone else _content(definition)
        if said.get(name) == content:
            return
        new: list[Resource] = []
        if gone:
            said.pop(name, None)
        else:
            said[name] = content
            try:
                new = resources_of(definition)
            except Exception:
                log.exception("definition %s cannot be served", name)
        kept = {(resource.group, resource.version, resource.resource) for resource in new}
        for old in served.pop(name, []):
            if (old.group, old.version, old.resource) not in kept:
                resources.remove(old.group, old.resource, old.version)
        if new:
            served[name] = new
            resources.add(*new)

    return reader.subscribe(RESOURCE, changed)


def _content(definition: Object) -> Any:
    """What serving depends on."""
    status = definition.get("status") or {}
    conditions = [(found["type"], found["status"]) for found in status.get("conditions") or ()]
    return definition["spec"], status.get("acceptedNames"), conditions


# ------------------------------------------------------------------ names and conditions
def accepted_names(definition: Object, others: list[Object]) -> tuple[Object, tuple[str, str, str]]:
    """The names that a definition gets, and its NamesAccepted condition (status, reason, message).

    `others` are the other definitions of the same group.
    """
    wanted = definition["spec"]["names"]
    current = (definition.get("status") or {}).get("acceptedNames") or {}
    used_resources: set[str] = set()
    used_kinds: set[str] = set()
    for other in others:
        names = (other.get("status") or {}).get("acceptedNames") or {}
        used_resources |= {names.get("plural", ""), names.get("singular", ""), *(names.get("shortNames") or ())}
        used_kinds |= {names.get("kind", ""), names.get("listKind", "")}
    used_resources.discard("")
    used_kinds.discard("")
    accepted = {"plural": "", "kind": "", **current}
    verdict = ("True", "NoConflicts", "no conflicts found")
    checks = (
        ("plural", "PluralConflict", used_resources),
        ("singular", "SingularConflict", used_resources),
        ("shortNames", "ShortNamesConflict", used_resources),
        ("kind", "KindConflict", used_kinds),
        ("listKind", "ListKindConflict", used_kinds),
    )
    for name, reason, used in checks:
        found = wanted.get(name)
        if found == current.get(name):
            continue
        ours = current.get(name) or []
        fresh = [found] if isinstance(found, str) else [short for short in found or () if short not in ours]
        taken = [f"{field.quoted(value)} is already in use" for value in fresh if value in used]
        if taken:
            text = taken[0] if len(taken) == 1 else f"[{', '.join(taken)}]"
            verdict = ("False", reason, text)
        elif found:
            accepted[name] = found
        else:
            accepted.pop(name, None)
    if wanted.get("categories"):
        accepted["categories"] = wanted["categories"]
    else:
        accepted.pop("categories", None)
    return accepted, verdict


def with_status(definition: Object, others: list[Object], now: float) -> Object:
    """The definition with the names and conditions that it should have."""
    new = clone(definition)
    status = new.setdefault("status", {})
    names, verdict = accepted_names(definition, others)
    status["acceptedNames"] = names
    new["status"] = status
    set_condition(new, "NamesAccepted", *verdict, now)
    if verdict[0] == "True" and not condition(new, "Established"):
        set_condition(new, "Established", "True", "InitialNamesAccepted", "the initial names have been accepted", now)
    elif not any(found["type"] == "Established" for found in new["status"]["conditions"]):
        set_condition(new, "Established", "False", "NotAccepted", "not all names are accepted", now)
    if is_protected(definition["spec"]["group"]):
        _set_approval(new, now)
    return new


def _set_approval(definition: Object, now: float) -> None:
    state, reason = approval_of(definition)
    value, why = {
        "approved": ("True", "ApprovedAnnotation"),
        "bypassed": ("False", "UnapprovedAnnotation"),
        "missing": ("False", "MissingAnnotation"),
        "invalid": ("False", "InvalidAnnotation"),
    }[state]
    set_condition(definition, "KubernetesAPIApprovalPolicyConformant", value, why, reason, now)


# ------------------------------------------------------------------ the part that writes
class Definitions:
    """Accepts names, establishes, empties. One for each process; `run` until cancelled."""

    def __init__(self, internal: Internal, clock: Clock) -> None:
        self._internal, self._clock = internal, clock
        self._reader = internal.registry.reader
        self._waiting: dict[str, None] = {}
        self._wake = asyncio.Event()

    async def run(self) -> None:
        end = self._reader.subscribe(RESOURCE, self._changed)
        try:
            async with asyncio.TaskGroup() as retries:
                while True:
                    await self._wake.wait()
                    self._wake.clear()
                    for name in list(self._waiting):
                        self._waiting.pop(name, None)
                        if not await self._sync(name):
                            retries.create_task(self._again(name))
        finally:
            end()

    def _changed(self, event: ObjectEvent, definition: Object, previous: Object | None) -> None:
        group = definition["spec"]["group"]
        if event is ObjectEvent.DELETED or _names_differ(definition, previous):
            # Names became free, or were taken: the others of the group may get what they want now.
            for other in self._reader.list(RESOURCE):
                if other["spec"]["group"] == group:
                    self._add(other["metadata"]["name"])
        if event is not ObjectEvent.DELETED:
            self._add(definition["metadata"]["name"])

    def _add(self, name: str) -> None:
        self._waiting[name] = None
        self._wake.set()

    async def _sync(self, name: str) -> bool:
        """Make one definition as it should be; False where it must be tried again."""
        definition = self._reader.get(RESOURCE, "", name)
        if definition is None:
            return True
        try:
            if "deletionTimestamp" in definition["metadata"]:
                return await self._empty(definition)
            await self._accept(definition)
        except StatusError as error:
            return error.reason == "NotFound"
        except Exception:
            log.exception("definition %s", name)
            return False
        return True

    async def _again(self, name: str) -> None:
        await self._clock.sleep(_RETRY_SECONDS)
        self._add(name)

    async def _accept(self, definition: Object) -> None:
        name, group = definition["metadata"]["name"], definition["spec"]["group"]
        others = [
            other
            for other in self._reader.list(RESOURCE)
            if other["spec"]["group"] == group and other["metadata"]["name"] != name
        ]
        new = with_status(definition, others, self._clock.now())
        if new["status"] != definition.get("status"):
            await self._internal.update_status(RESOURCE, "", name, new)

    async def _empty(self, definition: Object) -> bool:
        """Delete the objects of a definition that is going, then let it go; False while objects are left."""
        name = definition["metadata"]["name"]
        if CLEANUP_FINALIZER not in (definition["metadata"].get("finalizers") or ()):
            return True
        stored = f"{definition['status']['acceptedNames'].get('plural')}.{definition['spec']['group']}"
        if condition(definition, "Established") and self._internal.registry.resources.by_group_resource(stored):
            objects = self._reader.list(stored)
            if objects:
                await self._say(
                    definition, "True", "InstanceDeletionInProgress", "CustomResource deletion is in progress"
                )
            for obj in objects:
                if "deletionTimestamp" not in obj["metadata"]:
                    await self._delete(stored, obj)
            if self._reader.list(stored):
                return False
        current = await self._internal.get(RESOURCE, "", name)
        if current is not None:
            current = clone(current)
            kept = [found for found in current["metadata"]["finalizers"] if found != CLEANUP_FINALIZER]
            current["metadata"]["finalizers"] = kept
            said = ("Terminating", "False", "InstanceDeletionCompleted", "removed all instances")
            set_condition(current, *said, self._clock.now())
            # Through the status, which is let go even where the definition could no longer be written.
            await self._internal.update_status(RESOURCE, "", name, current)
        return True

    async def _delete(self, stored: str, obj: Object) -> None:
        meta = obj["metadata"]
        try:
            await self._internal.delete(stored, meta.get("namespace", ""), meta["name"])
        except StatusError as error:
            if error.reason != "NotFound":
                raise

    async def _say(self, definition: Object, value: str, reason: str, message: str) -> None:
        name = definition["metadata"]["name"]
        current = await self._internal.get(RESOURCE, "", name)
        if current is None:
            return
        new = clone(current)
        set_condition(new, "Terminating", value, reason, message, self._clock.now())
        if new["status"] != current["status"]:
            await self._internal.update_status(RESOURCE, "", name, new)


def _names_differ(definition: Object, previous: Object | None) -> bool:
    before = ((previous or {}).get("status") or {}).get("acceptedNames")
    after = (definition.get("status") or {}).get("acceptedNames")
    return previous is not None and before != after
