"""What may be stored: the generic REST operations, and one module for each resource with rules of its own.

`generic.Registry` does create, get, update, patch, apply, delete and deletecollection for every resource; lists and
watches read the watch cache (`server/lists.py`, `server/watch.py`). What is particular to one resource is a `Rules`
value in a module named after it (`registry/core/pods.py`), found through `rules.MODULES`. Knows nothing of HTTP.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from kubegate.api import Object
from kubegate.api.clock import Clock
from kubegate.api.field import FieldError
from kubegate.api.resources import Resource
from kubegate.api.trace import Trace
from kubegate.authentication import UserInfo
from kubegate.storage import Reader

if TYPE_CHECKING:
    from kubegate.registry.generic import Registry


class Context(Struct):
    """Who asks for a change and how; travels with it from the request to the store.

    `field_manager` is the manager's name for managedFields (the fieldManager parameter, else the user agent up to
    its first slash); `field_validation` Strict, Warn or Ignore; `options` the CreateOptions (UpdateOptions,
    PatchOptions, DeleteOptions) as webhooks are sent them.
    """

    user: UserInfo
    trace: Trace = field(default_factory=Trace)
    dry_run: bool = False
    field_manager: str = ""
    field_validation: str = "Warn"
    options: Mapping[str, Any] = field(default_factory=dict)


class Scope(Struct, frozen=True):
    """What a resource's rules may look at beside the object: the resource as requested, who asks, and the world.

    `registry` is for the few rules that write elsewhere (a Service's addresses, an eviction). `named` is the name in
    the address of a PUT or apply that creates the object. Whoever takes something for the object before it is stored
    adds to `undo` how it is given back.
    """

    resource: Resource
    subresource: str
    context: Context
    reader: Reader
    clock: Clock
    registry: Registry
    named: str = ""
    undo: list[Callable[[], None]] = field(default_factory=list)

    def give_back(self) -> None:
        """The write was refused."""
        for undo in self.undo:
            undo()


Change = Callable[[Object, Object | None, Scope], None]
"""Change the new object in place; the second is the stored one (None on create)."""
Check = Callable[[Object, Object | None, Scope], list[FieldError]]
"""What is wrong with the new object, given the stored one (None on create)."""
Guard = Callable[[Object, Object | None, Scope], Awaitable[None]]
"""Raises StatusError where this user may not write the new object over the stored one (None on create)."""
Connect = Callable[[str, str, Object, Scope], Awaitable[Object]]
"""namespace, name, body -> answer: a subresource, or a resource that is not stored, to which one may POST."""


class Rules(Struct, frozen=True):
    """What is particular to one resource (kube-apiserver's strategy). All functions are optional.

    The order on a write is the real one: `default` after decoding (of the version requested, before admission) ->
    mutating admission -> `guard` -> `prepare` -> metadata and schema validation -> `validate` -> validating admission
    -> store.

    default:   fill in what the API's defaulting fills in. Gets the object alone; also used for objects in a
               pod template and the like. Must be idempotent.
    guard:     may the user write this object at all (escalation)? After mutating admission, before `prepare`; raises
               StatusError.
    prepare:   PrepareForCreate / PrepareForUpdate: drop or restore what this request may not set (status on a
               plain update, spec on a status update is done generically), count generation (generic, see
               `generation`), fill in what is allocated.
    validate:  field errors in kube-apiserver's words and order; metadata is checked generically before.
    warnings:  texts for Warning headers.
    fields:    field selector values beside metadata.name and metadata.namespace: {"spec.nodeName": "a"}.
    field_labels: the names of those values, which field selectors may use; others are refused.
    name:      how names are checked: a key of `metadata.NAME_CHECKS` (subdomain, label, service, dns1035, path), or a
               function to error texts.
    status:    whether there is a status that plain writes may not touch.
    generation: whether metadata.generation counts changes of anything but metadata and status.
    create_on_update: whether PUT and apply may create.
    unconditional_update: whether PUT without resourceVersion is taken.
    returns_deleted: whether DELETE answers with the object that is gone instead of a Status.
    orphans:   whether what such an object owns stays where a DELETE does not say what is to become of it.
    delete_warning: what is told to those who do not say.
    owns_nothing: whether no object of this kind has dependents, whatever a DELETE says of them.
    undeletable: names that a DELETE of one object may not have, and why.
    graceful:  for deletes: seconds of grace for this object and these DeleteOptions (0: at once, though a watcher
               still sees it marked first).
    deleting:  what else changes when the object is marked to go (a Namespace's phase).
    held:      whether something besides metadata.finalizers and grace keeps a deleted object (a Namespace's own
               finalizers).
    subresources: rules of subresources that are stored as part of the object (`status`, `approval`, …), where they
               differ from the generic ones. Of one that does something on POST (see `connect`), `prepare` is given
               the object that it belongs to as the stored one, before validating admission. So is that of a resource
               which is not stored; it may raise StatusError.
    connect:   subresources that do something else on POST (`eviction`, `token`, `binding`); "" for the resource itself
               where it is not stored (reviews).
    """

    default: Callable[[Object], None] | None = None
    guard: Guard | None = None
    prepare: Change | None = None
    validate: Check | None = None
    warnings: Callable[[Object, Object | None], list[str]] | None = None
    fields: Callable[[Object], dict[str, str]] | None = None
    field_labels: tuple[str, ...] = ()
    name: str | Callable[[str, bool], list[str]] = "subdomain"
    status: bool = False
    generation: bool = False
    create_on_update: bool = False
    unconditional_update: bool = True
    returns_deleted: bool = False
    orphans: bool = False
    delete_warning: str = ""
    owns_nothing: bool = False
    undeletable: Mapping[str, str] = field(default_factory=dict)
    graceful: Callable[[Object, Mapping[str, Any]], int] | None = None
    deleting: Callable[[Object], None] | None = None
    held: Callable[[Object], bool] | None = None
    subresources: Mapping[str, Rules] = field(default_factory=dict)
    connect: Mapping[str, Connect] = field(default_factory=dict)
