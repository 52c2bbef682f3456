"""The generic REST operations: create, get, update, patch, apply, delete and deletecollection, for every resource.

What is particular to one resource comes from its `Rules`; lists and watches are in `server`. The order of a write is
kube-apiserver's: decode and default -> managedFields -> mutating admission -> prepare -> metadata, schema and own
validation -> validating admission -> the store, guarded by the revision. Follows
k8s.io/apiserver/pkg/registry/generic/registry.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from random import SystemRandom
from typing import Any, Protocol

import orjson
from msgspec import Struct
from msgspec.structs import replace

from kubegate import authorization
from kubegate.admission import Attributes, GroupVersionKind, GroupVersionResource, Operation
from kubegate.api import Object, clone, field, managedfields, metadata, normalize, schemacheck, status, structural
from kubegate.api.clock import Clock, rfc3339
from kubegate.api.field import FieldError
from kubegate.api.names import path_segment_name
from kubegate.api.resources import Resource, Resources
from kubegate.api.trace import Stage
from kubegate.authorization import Authorizer, RuleResolver
from kubegate.authorization.texts import forbidden_error
from kubegate.registry import Context, Rules, Scope, conversion, deletion, wire
from kubegate.registry.canonical import Defaulted
from kubegate.registry.keys import Keys
from kubegate.registry.managed import Manager, schema_of
from kubegate.registry.reader import CacheReader
from kubegate.registry.rules import rules_for
from kubegate.registry.scaleview import ScaleView
from kubegate.storage import RevisionConflict, Store
from kubegate.storage.cache import Entry, WatchCache

# How often a write is tried again when others were faster.
_ATTEMPTS = 32
_NAMESPACES = GroupVersionResource("", "v1", "namespaces")
_NAME_ATTEMPTS = 8


class AdmissionChain(Protocol):
    """What the registry asks of admission: `admission.chain.Chain`."""

    async def admit(self, attributes: Attributes) -> None: ...

    async def validate(self, attributes: Attributes) -> None: ...


class Conversions(Protocol):
    """Who calls the webhooks that convert custom resources: `apiextensions.conversion.WebhookConversions`."""

    async def convert(self, objects: Sequence[Object], api_version: str, resource: Resource) -> list[Object]: ...

    async def convert_once(self, obj: Object, api_version: str, resource: Resource) -> Object: ...

    async def close(self) -> None: ...


class Written(Struct, frozen=True):
    """What a write left: the object as the client sees it, and whether it was made by this write."""

    object: Object
    created: bool = False


class Deleted(Struct, frozen=True):
    """What a delete left: the object, and whether it is gone or only marked to go."""

    object: Object
    gone: bool


Transform = Callable[[Object | None], Awaitable[Object]]
"""The stored object (None where there is none) in the requested version -> the new one."""


class Registry:
    """Everything that may be asked of stored objects, by whoever has been authorized.

    `authorizer`, `rules` and `admission` are given after construction, because they read through this registry.
    """

    authorizer: Authorizer
    rules: RuleResolver
    admission: AdmissionChain

    def __init__(self, store: Store, cache: WatchCache, resources: Resources, keys: Keys, clock: Clock) -> None:
        self.store, self.cache, self.resources, self.keys, self.clock = store, cache, resources, keys, clock
        self.reader = CacheReader(cache, keys)
        self.random = SystemRandom()
        self.managed = Manager(clock)
        self.largest = status.LARGEST_OBJECT
        self.conversions: Conversions | None = None
        self.extensions: dict[str, Any] = {}
        """What rules of single resources share (allocators, signers), by name; set where the server is put together."""

    # ------------------------------------------------------------------ reading
    def entry(self, resource: Resource, namespace: str, name: str) -> Entry:
        """The stored bytes, in the storage version. Raises 404."""
        found = self.cache.get(self.keys.key(resource.group_resource, namespace, name))
        if found is None:
            _check_parameter(name)
            raise status.not_found(resource.group, resource.resource, name)
        return self.settled(resource, found)

    def settled(self, resource: Resource, entry: Entry) -> Entry:
        """The entry as it is read today: a custom resource that was stored under an older definition gets today's
        defaults and loses what today's schema does not know. All else is the entry itself.
        """
        if resource.custom is None:
            return entry
        from kubegate.registry.apiextensions.settled import settled

        return settled(entry, resource)

    def is_as_asked(self, resource: Resource, entries: Sequence[Entry]) -> bool:
        """Whether these entries' bytes are in the version of `resource`."""
        if resource.api_version != resource.storage_api_version:
            return False
        if not conversion.by_webhook(resource):
            return True
        prefix = wire.prefix(resource.kind, resource.api_version)
        return all(entry.data.startswith(prefix) for entry in entries)

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """The object in the requested version. Raises 404, and 500 where a conversion webhook fails."""
        return await self.as_requested(resource, self.entry(resource, namespace, name).object())

    async def as_requested(self, resource: Resource, obj: Object) -> Object:
        """A stored object in the version of `resource`; its kind and apiVersion are always there."""
        if obj.get("apiVersion") == resource.api_version:
            return obj
        [found] = await self.converted(resource, [obj], resource.api_version)
        return found

    async def as_stored(self, resource: Resource, obj: Object) -> Object:
        if resource.api_version == resource.storage_api_version:
            return obj
        [found] = await self.converted(resource, [obj], resource.storage_api_version)
        if resource.custom is not None:
            structural.default(found, resource.custom.versions[resource.storage_version])
        return found

    async def converted(self, resource: Resource, objects: Sequence[Object], api_version: str) -> list[Object]:
        """Objects of one resource in another version: by their definition's webhook where it has one.

        Raises StatusError 500 where that fails, KeyError where there is no such conversion.
        """
        if conversion.by_webhook(resource):
            if self.conversions is None:
                raise status.StatusError(500, "", f"nobody calls the conversion webhook of {resource.group_resource}")
            return await self.conversions.convert(objects, api_version, resource)
        return [conversion.convert(obj, obj["apiVersion"], api_version, resource) for obj in objects]

    async def converted_once(self, resource: Resource, obj: Object) -> Object:
        """A stored object in the version of `resource`, its webhook asked once for all who watch. Not to be changed."""
        if self.conversions is None:
            return await self.as_requested(resource, obj)
        return await self.conversions.convert_once(obj, resource.api_version, resource)

    # ------------------------------------------------------------------ creating
    async def create(
        self, resource: Resource, namespace: str, obj: Object, context: Context, *, complete: bool = False
    ) -> Object:
        """Store a new object. `obj` is decoded and may be changed; `complete`: see `default`.

        Raises StatusError (409, 422, 403, 500).
        """
        self._check_namespace(resource, namespace, obj)
        self.default(resource, obj, complete=complete)
        meta: Object = obj.setdefault("metadata", {})
        generated = bool(meta.get("generateName")) and not meta.get("name")
        for attempt in range(_NAME_ATTEMPTS):
            candidate = clone(obj) if generated else obj
            try:
                return await self._create_once(resource, namespace, candidate, context)
            except status.StatusError as error:
                if not (generated and error.reason == "AlreadyExists" and attempt + 1 < _NAME_ATTEMPTS):
                    raise
        raise AssertionError("unreachable")

    async def _create_once(
        self, resource: Resource, namespace: str, obj: Object, context: Context, *, named: str = ""
    ) -> Object:
        """`named`: what a PUT or an apply calls it, which has managedFields already and may not create unasked."""
        scope = self.scope(resource, "", context)
        if named:
            scope = replace(scope, named=named)
        try:
            return await self._create_scoped(scope, namespace, obj)
        except (status.StatusError, RevisionConflict):
            scope.give_back()
            raise

    async def _create_scoped(self, scope: Scope, namespace: str, obj: Object) -> Object:
        resource, context, named = scope.resource, scope.context, scope.named
        rules = self.rules_of(resource)
        meta = obj["metadata"]
        if resource.namespaced:
            meta["namespace"] = namespace
        metadata.wipe_system_fields(meta)
        if not named:
            _dedup_owners(meta, context, "")
            obj = self.managed.created(resource, obj, context)
        attributes = self.attributes(
            Operation.CREATE, resource, "", namespace, meta.get("name", ""), context, obj, None
        )
        await self.admission.admit(attributes)
        assert attributes.object is not None
        patched = attributes.object is not obj
        if patched:
            _keep_valid_owners(attributes.object, obj, context)
        obj = attributes.object
        _dedup_owners(obj["metadata"], context, _AFTER_ADMISSION)
        self._place(resource, namespace, obj)
        if rules.guard is not None:
            await rules.guard(obj, None, scope)
        meta = obj["metadata"]
        meta.pop("selfLink", None)
        meta["uid"] = metadata.new_uid()
        meta["creationTimestamp"] = rfc3339(self.clock.now())
        if meta.get("generateName") and not meta.get("name"):
            meta["name"] = metadata.generate_name(meta["generateName"], self.random.randrange)
        if rules.status:
            obj.pop("status", None)
        if rules.generation:
            meta["generation"] = 1
        elif not meta.get("generation"):  # who does not count generations keeps what clients say
            meta.pop("generation", None)
        if rules.prepare is not None:
            rules.prepare(obj, None, scope)
        errors = metadata.validate_create(meta, resource.namespaced, rules.name)
        errors += self._check(resource, rules, obj, None, scope)
        if errors:
            raise _invalid(resource, meta.get("name", ""), errors, context)
        if rules.warnings is not None:
            for text in rules.warnings(obj, None):
                context.trace.warn(text)
        if named:
            await self.check_create(resource, namespace, named, context)
        name = meta["name"]
        # a name that admission changed stays unknown to it
        attributes.object, attributes.name = obj, attributes.name or name
        await self.admission.validate(attributes)
        _check_parameter(name)
        _as_read_back(resource, obj, patched)
        if not context.dry_run and meta.get("resourceVersion") not in (None, "", "0"):
            raise status.StatusError(500, "", "resourceVersion should not be set on objects to be created")
        key = self.keys.key(resource.group_resource, namespace, name)
        existing = self.cache.get(key)
        if existing is not None:
            raise self._exists(resource, name, existing)
        stored = await self.as_stored(resource, obj)
        if context.dry_run:
            return obj
        try:
            with context.trace.stage("store"):
                revision = await self.cache.put(key, self._encoded(stored), 0, ttl=self._ttl(resource))
        except RevisionConflict as conflict:
            raise self._exists(resource, name, self.cache.get(key)) from conflict
        return await self._served(resource, stored, revision)

    def _encoded(self, stored: Object) -> bytes:
        """What is stored. Raises 413: many patches, each of which may be sent, must not make an object without end."""
        data = wire.encode(stored)
        if len(data) > self.largest:
            raise status.too_large(self.largest)
        return data

    def _exists(self, resource: Resource, name: str, existing: Entry | None) -> status.StatusError:
        error = status.already_exists(resource.group, resource.resource, name)
        if existing is not None and "deletionTimestamp" in existing.object()["metadata"]:
            error.message = f"object is being deleted: {error.message}"
        return error

    # ------------------------------------------------------------------ updating
    async def update(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        obj: Object,
        context: Context,
        subresource: str = "",
        *,
        complete: bool = False,
    ) -> Written:
        """PUT: the whole object replaces the stored one, which must be at obj's resourceVersion where it names one.

        `complete`: see `default`.
        """
        self.default(resource, obj, complete=complete)
        self.check_place(resource, namespace, name, obj)
        _dedup_owners(obj["metadata"], context, "")
        sent = orjson.dumps(obj)

        async def transform(current: Object | None) -> Object:
            fresh: Object = orjson.loads(sent)
            if current is None:
                return self.managed.created(resource, fresh, context, subresource)
            return self.managed.updated(resource, current, fresh, context, subresource)

        return await self.write(resource, namespace, name, transform, context, subresource)

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        apply_patch: Callable[[Object], Object],
        context: Context,
        subresource: str = "",
    ) -> Written:
        """PATCH: `apply_patch` makes the new object of the current one (a copy that it may change)."""

        async def transform(current: Object | None) -> Object:
            if current is None:
                raise status.not_found(resource.group, resource.resource, name)
            patched = apply_patch(clone(current))
            self.default(resource, patched)
            patched.setdefault("metadata", {})
            patched = self.managed.updated(resource, current, patched, context, subresource)
            self.check_place(resource, namespace, name, patched)
            return patched

        return await self.write(
            resource,
            namespace,
            name,
            transform,
            context,
            subresource,
            may_create=False,
            patching=True,
        )

    async def apply(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        applied: Object,
        context: Context,
        *,
        force: bool,
        subresource: str = "",
        merged_well: Callable[[], None] = lambda: None,
    ) -> Written:
        """Server-side apply. Raises 409 with the conflicting managers as causes.

        `merged_well` is called when there was no conflict: for complaints that come after those of the apply itself.
        """

        default = self._default_of(resource)

        async def transform(current: Object | None) -> Object:
            if current is None and subresource:
                raise status.not_found(resource.group, resource.resource, name)
            merged = self.managed.applied(resource, current, clone(applied), context, subresource, force, default)
            merged_well()
            default(merged)
            if resource.custom is not None:
                merged["metadata"] = {k: v for k, v in merged["metadata"].items() if v not in (None, "", [], {})}
            if current is None and (uid := merged["metadata"].get("uid")):
                text = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                raise status.conflict(resource.group, resource.resource, name, text)
            self.check_place(resource, namespace, name, merged)
            return merged

        return await self.write(
            resource, namespace, name, transform, context, subresource, may_create=not subresource, patching=True
        )

    async def write(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        transform: Transform,
        context: Context,
        subresource: str = "",
        *,
        may_create: bool | None = None,
        patching: bool = False,
    ) -> Written:
        """Read, transform, admit, check, compare-and-set; again while others were faster.

        A whole object that names a uid is for that object alone. `patching`: a uid is then a field like others, which
        cannot be changed.
        """
        key = self.keys.key(resource.group_resource, namespace, name)
        rules = self.rules_of(resource)
        if may_create is None:
            may_create = rules.create_on_update and not subresource
        for _ in range(_ATTEMPTS):
            await self.cache.fresh()
            entry = self.cache.get(key)
            if entry is None:
                _check_parameter(name)
                if not may_create:
                    raise status.not_found(resource.group, resource.resource, name)
                obj = await transform(None)
                return Written(await self._create_from_update(resource, namespace, name, obj, context), created=True)
            current = await self.as_requested(resource, self.settled(resource, entry).object())
            obj = await transform(current)
            wanted_uid = obj["metadata"].get("uid")
            if wanted_uid and wanted_uid != current["metadata"].get("uid") and not patching:
                raise self._uid_conflict(resource, key, name, wanted_uid, current["metadata"].get("uid", ""))
            scope = self.scope(resource, subresource, context)
            try:
                return await self._update_once(scope, namespace, name, obj, key, current, entry, rules)
            except RevisionConflict:
                scope.give_back()
            except status.StatusError:
                scope.give_back()
                raise
        raise status.conflict(resource.group, resource.resource, name, status.MODIFIED)

    async def _create_from_update(
        self, resource: Resource, namespace: str, name: str, obj: Object, context: Context
    ) -> Object:
        if obj["metadata"].get("uid"):
            key = self.keys.key(resource.group_resource, namespace, name)
            raise self._uid_conflict(resource, key, name, obj["metadata"]["uid"], "")
        obj["metadata"].pop("resourceVersion", None)
        context = replace(context, options=_as_create_options(context.options))
        return await self._create_once(resource, namespace, obj, context, named=name)

    async def check_create(self, resource: Resource, namespace: str, name: str, context: Context) -> None:
        """For what creates by another verb: who may update or patch may not therefore create. Raises 403."""
        attributes = authorization.Attributes(
            user=context.user,
            verb="create",
            api_group=resource.group,
            api_version=resource.version,
            resource=resource.resource,
            namespace=namespace,
            name=name,
        )
        decision = await self.authorizer.authorize(attributes)
        if decision.allowed:
            return
        if decision.error:
            raise status.internal(decision.error)
        raise forbidden_error(attributes, decision)

    def _uid_conflict(self, resource: Resource, key: str, name: str, wanted: str, found: str) -> status.StatusError:
        text = (
            f"StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: "
            f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}"
        )
        return status.conflict(resource.group, resource.resource, name, text)

    async def _update_once(
        self,
        scope: Scope,
        namespace: str,
        name: str,
        obj: Object,
        key: str,
        current: Object,
        entry: Entry,
        rules: Rules,
    ) -> Written:
        resource, subresource, context = scope.resource, scope.subresource, scope.context
        viewed = ScaleView(resource) if subresource == "scale" else None
        attributes = self.attributes(Operation.UPDATE, resource, subresource, namespace, name, context, obj, current)
        if viewed is not None:
            attributes = viewed.attributes(attributes)
        before = attributes.object
        await self.admission.admit(attributes)
        assert attributes.object is not None
        patched = attributes.object is not before
        if patched and viewed is None:
            _keep_valid_owners(attributes.object, obj, context)
        obj = attributes.object if viewed is None else viewed.taken_over(obj, attributes.object)
        _dedup_owners(obj["metadata"], context, _AFTER_ADMISSION)
        if rules.guard is not None and not subresource:
            await rules.guard(obj, current, scope)
        self._check_version(resource, name, obj, entry.revision, rules)
        self._place(resource, namespace, obj)
        obj = self._prepare_update(obj, current, subresource, rules)
        sub_rules = rules.subresources.get(subresource) if subresource else rules
        if sub_rules is not None and sub_rules.guard is not None:
            await sub_rules.guard(obj, current, scope)
        if sub_rules is not None and sub_rules.prepare is not None:
            sub_rules.prepare(obj, current, scope)
        self._count_generation(rules, obj, current)
        # The generic layer checks it as if it were new and as a change, the latter is checked again by each kind's own
        # rules: clients are told all of it as causes.
        changed = metadata.validate_update(obj["metadata"], current["metadata"])
        errors = metadata.validate_create(obj["metadata"], resource.namespaced, "path") + changed + changed
        errors += self._check(resource, sub_rules or Rules(), obj, current, scope)
        if errors:
            raise _invalid(resource, obj["metadata"].get("name", ""), errors, context)
        if sub_rules is not None and sub_rules.warnings is not None:
            for text in sub_rules.warnings(obj, current):
                context.trace.warn(text)
        attributes.object = obj if viewed is None else viewed.of(obj)
        await self.admission.validate(attributes)
        _as_read_back(resource, obj, patched)
        if deletion.may_be_removed(obj, rules):
            return await self._remove_by_update(resource, key, obj, entry, context)
        obj = managedfields.restore_times(obj, current)
        if obj == current:  # nothing but the time in managedFields had changed, and that was put back
            return Written(current)
        stored = await self.as_stored(resource, obj)
        if context.dry_run:
            return Written(await self._served(resource, stored, entry.revision))
        with context.trace.stage("store"):
            revision = await self.cache.put(key, self._encoded(stored), entry.revision, ttl=self._ttl(resource))
        return Written(await self._served(resource, stored, revision))

    async def _remove_by_update(
        self, resource: Resource, key: str, obj: Object, entry: Entry, context: Context
    ) -> Written:
        """The update took the last finalizer: the object ends, and is answered as it would have been."""
        if context.dry_run:
            return Written(await self._served(resource, await self.as_stored(resource, obj), entry.revision))
        with context.trace.stage("store"):
            revision = await self.cache.delete(key, entry.revision)
        return Written(await self._served(resource, await self.as_stored(resource, obj), revision))

    def _check_version(self, resource: Resource, name: str, obj: Object, current: int, rules: Rules) -> None:
        """Raises 409 where the object names another resourceVersion than that of what it changes.

        What is patched or scaled names the one that was read: where others were faster it is made anew of what they
        left, and a whole object that a client sent is refused then.
        """
        text = obj["metadata"].get("resourceVersion", "")
        if text in ("", "0"):
            if not rules.unconditional_update:
                error = field.invalid("metadata.resourceVersion", 0, "must be specified for an update")
                raise status.invalid(resource.group, resource.resource, name, [error])
            return
        if not (text.isascii() and text.isdigit()):
            raise status.StatusError(500, "", f'strconv.ParseUint: parsing "{text}": invalid syntax')
        if text.lstrip("0") != str(current):
            raise status.conflict(resource.group, resource.resource, name, status.MODIFIED)

    def _prepare_update(self, obj: Object, current: Object, subresource: str, rules: Rules) -> Object:
        """Restore what an update may not touch."""
        meta, old = obj["metadata"], current["metadata"]
        for name in ("creationTimestamp", "generation"):
            if name in old:
                meta[name] = old[name]
            else:
                meta.pop(name, None)
        meta["uid"] = meta.get("uid") or old.get("uid", "")
        # Only those of an object that is being deleted are kept; that others begin to be is refused.
        if "deletionTimestamp" in old:
            meta["deletionTimestamp"] = old["deletionTimestamp"]
            if meta.get("deletionGracePeriodSeconds") is None and "deletionGracePeriodSeconds" in old:
                meta["deletionGracePeriodSeconds"] = old["deletionGracePeriodSeconds"]
        meta.pop("selfLink", None)
        meta["resourceVersion"] = old["resourceVersion"]
        if subresource == "status":
            kept = clone({k: v for k, v in current.items() if k not in ("status", "metadata")})
            kept["metadata"] = meta
            if "status" in obj:
                kept["status"] = obj["status"]
            return kept
        if rules.status and not subresource:
            obj.pop("status", None)
            if "status" in current:
                obj["status"] = current["status"]
        return obj

    def _count_generation(self, rules: Rules, obj: Object, current: Object) -> None:
        if not rules.generation:
            return
        for name in obj.keys() | current.keys():
            if name not in ("metadata", "status") and obj.get(name) != current.get(name):
                obj["metadata"]["generation"] = current["metadata"].get("generation", 0) + 1
                return

    # ------------------------------------------------------------------ deleting
    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        options: Object,
        context: Context,
        *,
        named: bool = True,
        admit: bool = True,
    ) -> Deleted:
        """Delete, or mark to go where grace or finalizers hold it. Raises 404, 409, 422, 403.

        Admission hears of a name only where the request has one (`named`), as with kube-apiserver, and nothing of a
        delete that is part of another request (`admit` False).
        """
        deletion.check_options(options)
        key = self.keys.key(resource.group_resource, namespace, name)
        rules = self.rules_of(resource)
        if named and name in rules.undeletable:
            raise status.forbidden(resource.group, resource.resource, name, rules.undeletable[name])
        if named:
            _warn_of_orphans(rules, options, context)
        admitted = not admit
        for _ in range(_ATTEMPTS):
            await self.cache.fresh()
            entry = self.cache.get(key)
            if entry is None:
                _check_parameter(name)
                raise status.not_found(resource.group, resource.resource, name)
            obj = await self.as_requested(resource, self.settled(resource, entry).object())
            deletion.check_preconditions(resource, obj, options)
            if not admitted:
                asked = name if named else ""
                attributes = self.attributes(Operation.DELETE, resource, "", namespace, asked, context, None, obj)
                await self.admission.admit(attributes)
                await self.admission.validate(attributes)
                admitted = True
            try:
                return await self._delete_once(resource, key, entry, obj, rules, options, context)
            except RevisionConflict:
                continue
        raise status.conflict(resource.group, resource.resource, name, status.MODIFIED)

    async def _delete_once(
        self,
        resource: Resource,
        key: str,
        entry: Entry,
        obj: Object,
        rules: Rules,
        options: Object,
        context: Context,
    ) -> Deleted:
        marked = deletion.marked(obj, rules, options, self.clock.now())
        if marked is obj:
            return Deleted(obj, gone=False)
        if marked is None:
            last = deletion.last_form(obj, rules, self.clock.now())
            at = entry.revision
            if not context.dry_run:
                with context.trace.stage("store"):
                    if last is not None:
                        at = await self.cache.put(key, wire.encode(await self.as_stored(resource, last)), at)
                    await self.cache.delete(key, at)
            return Deleted(obj if last is None else await self._served(resource, last, at), gone=True)
        stored = await self.as_stored(resource, marked)
        revision = entry.revision
        if not context.dry_run:
            with context.trace.stage("store"):
                revision = await self.cache.put(key, wire.encode(stored), entry.revision)
        return Deleted(await self._served(resource, stored, revision), gone=False)

    async def delete_collection(
        self, resource: Resource, entries: Sequence[Entry], options: Object, context: Context
    ) -> None:
        """Delete each of `entries`; those that are gone meanwhile are passed over."""
        deletion.check_options(options)
        _warn_of_orphans(self.rules_of(resource), options, context)
        for entry in entries:
            meta = entry.object()["metadata"]
            try:
                await self.delete(resource, meta.get("namespace", ""), meta["name"], options, context, named=False)
            except status.StatusError as error:
                if error.reason != "NotFound":
                    raise

    # ------------------------------------------------------------------ connecting
    async def connect(
        self, resource: Resource, namespace: str, name: str, subresource: str, obj: Object, context: Context
    ) -> Object:
        """POST to a subresource that does something (`eviction`, `token`), or to a resource that is not stored."""
        rules = self.rules_of(resource)
        handler = rules.connect.get(subresource)
        if handler is None:
            raise status.method_not_supported(resource.group, resource.resource, "create")
        target = resource.subresources.get(subresource)
        self._check_namespace(resource, namespace, obj)
        meta = obj.setdefault("metadata", {})
        if subresource not in ("binding", "token"):  # which name the uid of their pod or account that way
            metadata.wipe_system_fields(meta)
        if resource.namespaced and namespace:
            meta["namespace"] = namespace
        else:
            meta.pop("namespace", None)
        attributes = self.attributes(Operation.CREATE, resource, subresource, namespace, name, context, obj, None)
        if target is not None:
            attributes.kind = GroupVersionKind(target.group, target.version, target.kind)
        await self.admission.admit(attributes)
        assert attributes.object is not None
        scope = self.scope(resource, subresource, context)
        own = rules.subresources.get(subresource) if subresource else rules
        if own is not None and own.prepare is not None:
            stored = self.reader.get(resource.group_resource, namespace, name) if subresource else None
            own.prepare(attributes.object, stored, scope)
        await self.admission.validate(attributes)
        return await handler(namespace, name, attributes.object, scope)

    # ------------------------------------------------------------------ what all of them share
    def rules_of(self, resource: Resource) -> Rules:
        if resource.custom is not None:
            from kubegate.registry.apiextensions.customresources import rules_of

            return rules_of(resource)
        return rules_for(resource.group_resource)

    def scope(self, resource: Resource, subresource: str, context: Context) -> Scope:
        return Scope(resource, subresource, context, self.reader, self.clock, self)

    def default(self, resource: Resource, obj: Object, *, complete: bool = False) -> None:
        """Fill in what the API's defaulting fills in. Idempotent.

        `complete`: where the resource is a built-in one, decoding has brought it into the form of `normalize.complete`.
        """
        obj.setdefault("kind", resource.kind)
        obj.setdefault("apiVersion", resource.api_version)
        default = self.rules_of(resource).default
        if complete and isinstance(default, Defaulted) and default.is_of(resource):
            if default.own is not None:
                default.own(obj)
        elif default is not None:
            default(obj)
        elif resource.custom is None and not complete:
            schema = schema_of(resource)
            if schema is not None:
                completed = normalize.complete(obj, schema)
                obj.clear()
                obj.update(completed)

    def _default_of(self, resource: Resource) -> Callable[[Object], None]:
        """What fills in an applied object. A null in a custom resource stays, to be refused: it is not decoded anew."""

        def default(obj: Object) -> None:
            if resource.custom is None:
                self.default(resource, obj)
            else:
                structural.default(obj, resource.custom.structural, keep_nulls=True)

        return default

    def attributes(
        self,
        operation: Operation,
        resource: Resource,
        subresource: str,
        namespace: str,
        name: str,
        context: Context,
        obj: Object | None,
        old: Object | None,
    ) -> Attributes:
        kind, name_of_resource = _names_of(resource.group, resource.version, resource.kind, resource.resource)
        if name_of_resource == _NAMESPACES:
            # to admission, a namespace is in itself
            namespace = name
        return Attributes(
            operation,
            kind,
            name_of_resource,
            subresource,
            namespace,
            name,
            obj,
            old,
            context.options,
            context.user,
            context.dry_run,
            context.trace,
        )

    def _check(
        self, resource: Resource, rules: Rules, obj: Object, old: Object | None, scope: Scope
    ) -> list[FieldError]:
        if rules.validate is not None:
            return rules.validate(obj, old, scope)
        schema = None if resource.custom is not None else schema_of(resource)
        return schemacheck.check(obj, schema) if schema is not None else []

    def _check_namespace(self, resource: Resource, namespace: str, obj: Object) -> None:
        found = (obj.get("metadata") or {}).get("namespace", "")
        if resource.namespaced and found and found != namespace:
            raise status.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )

    def _place(self, resource: Resource, namespace: str, obj: Object) -> None:
        """Put in the namespace where it is not told. Raises 400 for another."""
        self._check_namespace(resource, namespace, obj)
        meta = obj.setdefault("metadata", {})
        if resource.namespaced:
            meta["namespace"] = namespace
        else:
            meta.pop("namespace", None)

    def check_place(self, resource: Resource, namespace: str, name: str, obj: Object) -> None:
        """That an object is of the namespace and the name asked for; the namespace is put in where it is not told.

        Raises 400.
        """
        self._place(resource, namespace, obj)
        found = obj["metadata"].get("name", "")
        if not found:
            raise status.bad_request(
                f"the name of the object ({name} based on URL) was undeterminable: name must be provided"
            )
        if found != name:
            raise status.bad_request(f"the name of the object ({found}) does not match the name on the URL ({name})")

    def _ttl(self, resource: Resource) -> int:
        """Events live for --event-ttl."""
        if resource.kind == "Event" and resource.custom is None:
            return int(self.extensions.get("event_ttl", 3600))
        return 0

    async def _served(self, resource: Resource, stored: Object, revision: int) -> Object:
        obj = await self.as_requested(resource, stored)
        served = dict(obj)
        served["metadata"] = {**obj["metadata"], "resourceVersion": str(revision)}
        return served


@lru_cache(4096)
def _names_of(group: str, version: str, kind: str, resource: str) -> tuple[GroupVersionKind, GroupVersionResource]:
    return GroupVersionKind(group, version, kind), GroupVersionResource(group, version, resource)


_AFTER_ADMISSION = " after mutating admission happens"


def _dedup_owners(meta: Object, context: Context, when: str) -> None:
    """Each owner is kept once, and who sent it again is warned."""
    if "ownerReferences" in meta and (again := metadata.dedup_owners(meta)):
        context.trace.warn(
            f".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, "
            "and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: "
            + ", ".join(again)
        )


def _keep_valid_owners(patched: Object, before: Object, context: Context) -> None:
    """Of managedFields that admission made into what nobody can read it keeps those from before; clients are warned."""
    owners = patched["metadata"].get("managedFields")
    if owners == before["metadata"].get("managedFields"):
        return
    error = managedfields.wrong(owners)
    if not error:
        return
    patched["metadata"]["managedFields"] = before["metadata"].get("managedFields") or []
    context.trace.warn(
        ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating "
        f"admission controller; please fix your requests: {error}"
    )


def _check_parameter(name: str) -> None:
    """No object can have a name that fits in no path. Raises 400."""
    problems = path_segment_name(name)
    if problems:
        raise status.bad_request(f"Name parameter invalid: {field.quoted(name)}: {';'.join(problems)}")


def _invalid(resource: Resource, name: str, errors: Sequence[FieldError], context: Context) -> status.StatusError:
    """422, by the kind in which the object is kept (events.k8s.io's are core Events)."""
    group = resource.group if resource.custom is not None else resource.storage_group
    error = status.invalid(group, resource.kind, name, errors)
    context.trace.stages.append(Stage("validation", "deny", reason=error.message))
    return error


# Lists that are always written, and that become null on their way through the store when they are empty.
_NULL_WHEN_EMPTY = {
    "clusterroles.rbac.authorization.k8s.io": ("rules",),
    "roles.rbac.authorization.k8s.io": ("rules",),
    "endpointslices.discovery.k8s.io": ("endpoints", "ports"),
}


def _as_read_back(resource: Resource, obj: Object, patched: bool) -> None:
    """What the store gives back is not all that it was given. `patched`: admission made it another object."""
    if patched and resource.custom is not None:
        structural.prune(obj, resource.custom.structural)
    for name in _NULL_WHEN_EMPTY.get(resource.group_resource, ()):
        if obj.get(name) == []:
            obj[name] = None
    _in_order(resource, obj)


def _in_order(resource: Resource, obj: Object) -> None:
    """Names in maps are told in order. Those within specs came so; metadata and data others may have added to."""
    if resource.custom is not None:
        ordered = orjson.loads(orjson.dumps(obj, option=orjson.OPT_SORT_KEYS))
        obj.clear()
        obj.update(ordered)
        return
    meta = obj["metadata"]
    for name in ("labels", "annotations"):
        if found := meta.get(name):
            meta[name] = normalize.by_name(found)
    if not resource.group and (found := obj.get("data")):
        obj["data"] = normalize.by_name(found)


def _warn_of_orphans(rules: Rules, options: Object, context: Context) -> None:
    if rules.delete_warning and not deletion.says_what_of_dependents(options):
        context.trace.warn(rules.delete_warning)


def _as_create_options(options: Any) -> dict[str, Any]:
    """An update that creates is admitted as a create."""
    kept = {name: value for name, value in options.items() if name != "force"}
    return {**kept, "kind": "CreateOptions"} if options else {}
