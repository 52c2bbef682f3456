"""What admission plugins may use of the world."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from msgspec import Struct, field

from kubegate import authorization
from kubegate.admission import GroupVersionKind
from kubegate.admission.config import AdmissionOptions
from kubegate.admission.quota import Reservations
from kubegate.api import Object
from kubegate.api.clock import Clock, SystemClock
from kubegate.api.resources import Resources
from kubegate.api.schema import Schema, schema_for
from kubegate.storage import Reader

Authorize = Callable[[authorization.Attributes], Awaitable[authorization.Decision]]


class Writer(Protocol):
    """The few things that plugins do to the store, as kube-apiserver's loopback client does them.

    They ask no authorizer, being done as a member of system:masters, but go all of the registry's way: defaulting,
    admission (other plugins, policies, webhooks), validation. `registry.internal.Internal` does them. `resource` is a
    GroupResource's text, as for `storage.Reader`; objects are in the storage version.
    """

    async def get(self, resource: str, namespace: str, name: str) -> Object | None:
        """The object as it is in the store now (linearizable), for when a cache may be behind another process."""
        ...

    async def create(self, resource: str, namespace: str, object: Object) -> Object:
        """Store a new object. Raises StatusError AlreadyExists, or what its validation says."""
        ...

    async def update_status(self, resource: str, namespace: str, name: str, object: Object) -> Object:
        """Write `status` of `object` if the stored one still has its metadata.resourceVersion; give the stored result.

        Raises StatusError Conflict where it was changed meanwhile, NotFound where it is gone.
        """
        ...


class Objects(Protocol):
    """What the object model above admission knows of objects' kinds, for those who let others change them."""

    def decode(self, kind: GroupVersionKind, object: Object, *, strict: bool = False) -> Object:
        """What kube-apiserver keeps of this JSON: fields that the kind does not have are dropped, or are an error.

        `kind` is what the object is where it does not say otherwise; it may have become another built-in kind.
        Raises ValueError with Go's text (`json: cannot unmarshal …`) for a field of the wrong type.
        """
        ...

    def default(self, kind: GroupVersionKind, object: Object) -> None:
        """Fill in, in place, what the API's defaulting fills in. Idempotent."""
        ...

    def defaulted(self, kind: GroupVersionKind, object: Object) -> Object:
        """The same for an object that was put together, not decoded. Raises ValueError where a value does not fit."""
        ...

    def complete(self, kind: GroupVersionKind, object: Object) -> Object:
        """The object as kube-apiserver writes it: with the empty values that Go does not leave out."""
        ...

    async def convert(self, object: Object, kind: GroupVersionKind) -> Object:
        """The object in another version of its kind (or another group that the same objects are served in).

        Raises ValueError where there is no such conversion, StatusError where its webhook fails.
        """
        ...

    def schema(self, kind: GroupVersionKind) -> Schema | None:
        """The schema of a kind, None where it has none (or there is no such kind)."""
        ...


class AsTheyAre:
    """Objects of whose kinds nothing is known but the schemas of the built-in ones."""

    def decode(self, kind: GroupVersionKind, object: Object, *, strict: bool = False) -> Object:
        return {**object, "kind": object.get("kind") or kind.kind, "apiVersion": kind.api_version}

    def default(self, kind: GroupVersionKind, object: Object) -> None:
        pass

    def defaulted(self, kind: GroupVersionKind, object: Object) -> Object:
        return object

    def complete(self, kind: GroupVersionKind, object: Object) -> Object:
        return object

    async def convert(self, object: Object, kind: GroupVersionKind) -> Object:
        if object.get("apiVersion") == kind.api_version:
            return object
        raise ValueError(f"unable to convert {object.get('apiVersion')} to {kind.api_version}")

    def schema(self, kind: GroupVersionKind) -> Schema | None:
        return schema_for(kind.group, kind.version, kind.kind)


class Dependencies(Struct, frozen=True):
    """Given to every plugin's factory.

    `resources` are those served now; `reservations` is shared with the controller that counts what quotas have used
    (None: nobody counts). `services` (--service-resolver) are addresses to call instead of asking the API, by
    `NAME.NAMESPACE.svc`. `processes` share what is allowed in a time. `options` and `configurations` (by plugin name,
    what the file named by --admission-control-config-file says of it) are filled in by `build`.
    """

    reader: Reader
    authorize: Authorize
    writer: Writer
    clock: Clock = field(default_factory=SystemClock)
    resources: Resources = field(default_factory=Resources.built_in)
    randomness: random.Random = field(default_factory=random.SystemRandom)
    reservations: Reservations | None = None
    objects: Objects = field(default_factory=AsTheyAre)
    services: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    processes: int = 1
    options: AdmissionOptions = field(default_factory=AdmissionOptions)
    configurations: Mapping[str, Object] = field(default_factory=dict)

    def configuration(self, plugin: str) -> Object:
        """What the configuration file says of a plugin; empty where it says nothing."""
        return self.configurations.get(plugin) or {}
