"""May the object be so: the chain of plugins between authorization and the store.

A plugin has `handles` (operations), and one or both of `admit` (may change the object) and `validate` (may not).
Refusing is raising StatusError. Follows k8s.io/apiserver/pkg/admission; the order is in `chain`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Protocol

from msgspec import Struct, field

from kubegate.api.trace import Trace
from kubegate.authentication import UserInfo


class Operation(StrEnum):
    CREATE = "CREATE"
    UPDATE = "UPDATE"
    DELETE = "DELETE"
    CONNECT = "CONNECT"


class GroupVersionKind(Struct, frozen=True):
    group: str
    version: str
    kind: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


class GroupVersionResource(Struct, frozen=True):
    group: str
    version: str
    resource: str

    @property
    def group_resource(self) -> str:
        """`pods`, `deployments.apps`: as `storage.Reader` names it."""
        return f"{self.resource}.{self.group}" if self.group else self.resource


class Attributes(Struct):
    """One object on its way to the store. `object` is the new object (None on DELETE), a dict of the request's
    version with apiVersion and kind, which `admit` may change in place or replace; `old_object` the stored one
    (None on CREATE), never to be changed. `options` is the CreateOptions (…) object as webhooks are sent it.
    `user_agent` and other HTTP things are not here: admission knows objects, not requests.

    `reinvoke` is set by a plugin of the mutating pass that changed the object and wants those before it to look
    once more; the chain then runs the pass a second time with `reinvoking` true. `state` is what plugins remember
    between their turns in one request, by plugin name.
    """

    operation: Operation
    kind: GroupVersionKind
    resource: GroupVersionResource
    subresource: str
    namespace: str
    name: str
    object: dict[str, Any] | None
    old_object: dict[str, Any] | None
    options: Mapping[str, Any]
    user: UserInfo
    dry_run: bool = False
    trace: Trace = field(default_factory=Trace)
    reinvoking: bool = False
    reinvoke: bool = False
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def group_resource(self) -> str:
        return self.resource.group_resource


class Plugin(Protocol):
    """`name` as in --enable-admission-plugins; `handles` the operations it wants to see.

    It has `async admit(attributes)`, which may change the object, or `async validate(attributes)`, or both.

    `resources` are those it wants to see (`pods`, `pods/status`, `pods/*` for all subresources, `deployments.apps`),
    None for all: the chain asks it for no others. `changes` tells the chain to look what `admit` did to the object and
    put it on the trace; a plugin that writes its own changes there leaves it off. A plugin that holds connections has
    `async close()` as well, one with often nothing to do `idle(attributes)`: it is not asked then.
    """

    name: str
    handles: frozenset[Operation]
    resources: frozenset[str] | None
    changes: bool
