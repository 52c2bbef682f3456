"""Requests for resources: which operation a path and method mean, its options, and its answer as bytes.

Follows k8s.io/apiserver/pkg/endpoints: installer (which paths exist) and handlers (what each does).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import orjson
from msgspec import Struct

from kubegate.api import Object, codec, field, metadata, negotiate, status
from kubegate.api.clock import Clock
from kubegate.api.managedfields.zero import zero
from kubegate.api.requestinfo import RequestInfo, truth
from kubegate.api.resources import Resource, Subresource
from kubegate.api.schema import schema_for
from kubegate.registry import Context, conversion, wire
from kubegate.registry.generic import Registry
from kubegate.registry.managed import schema_of
from kubegate.server import accept, bodies, connect, explain, lists, responses, watch
from kubegate.server.accept import Accepted
from kubegate.server.aggregation import RemoteApis
from kubegate.server.call import SHORT_PATH, Call
from kubegate.server.components import Components
from kubegate.server.metrics import Metrics, request_labels
from kubegate.server.responses import Response
from kubegate.server.routing import method_not_allowed, no_such_resource
from kubegate.storage.cache import Entry
from kubegate.transport.metrics import Labels

# What clients of old resources are told with every answer.
_DEPRECATED = {
    ("", "v1", "componentstatuses"): "v1 ComponentStatus is deprecated in v1.19+",
    ("", "v1", "endpoints"): "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
}
_GZIP_FROM = 128 * 1024
_WRITES = {"create": "CreateOptions", "update": "UpdateOptions", "patch": "PatchOptions"}


class Rest:
    """Answers every resource request.

    A watch that asks for no timeout ends after one to two times `min_watch_seconds`.
    """

    def __init__(
        self,
        registry: Registry,
        clock: Clock,
        metrics: Metrics,
        min_watch_seconds: float,
        remote: RemoteApis,
        components: Components,
    ) -> None:
        self._registry, self._clock, self._metrics = registry, clock, metrics
        self._remote, self._components = remote, components
        self._min_watch_seconds = min_watch_seconds
        # clients ask for the same paths again and again
        self._route = lru_cache(4096)(self._find_route)
        registry.resources.on_change(self._route.cache_clear)

    async def handle(self, call: Call) -> Response:
        find = self._route if len(call.path) < SHORT_PATH else self._find_route
        route = find(call.info, call.method)
        if route is None:
            return self._remote.answer(call.info.group, call.info.version) or responses.not_found_page()
        if route.warning:
            call.trace.warn(route.warning)
            call.trace.annotate("k8s.io/deprecated", "true")
        call.labels = route.labels
        response: Response = await route.operation(self, call, route.resource)
        return response

    def _find_route(self, info: RequestInfo, method: str) -> Route | None:
        """None where nobody serves the path (kube-apiserver's outermost 404, in plain text). Raises 404 and 405."""
        resource = self._registry.resources.get(info.group, info.version, info.resource)
        if resource is None:
            if self._registry.resources.has_built_in(info.group) and not info.path.startswith("//"):
                raise no_such_resource()
            return None
        operation = _operation(resource, info, method)
        if operation is None or info.path.startswith("//"):
            return None
        if resource.group_resource == "componentstatuses":
            operation = Rest.component if operation is Rest.get else Rest.components
        warning = _DEPRECATED.get((info.group, info.version, info.resource), "")
        if resource.custom is not None:
            warning = resource.custom.deprecation_warning
        return Route(resource, operation, warning, request_labels(info))

    # ------------------------------------------------------------------ reading
    async def get(self, call: Call, resource: Resource) -> Response:
        info = call.info
        accepted = accept.one(call, resource)
        asked = call.parameter("resourceVersion") if call.query else ""
        if not asked:
            await self._registry.cache.fresh()
        elif asked != "0":
            await lists.wait_for(self._registry, lists.read_version(asked, resource))
        entry = self._registry.entry(resource, _namespace(call, resource), info.name)
        if accepted.plain and self._registry.is_as_asked(resource, [entry]):
            return Response(200, entry.data)
        stored = entry.object()
        obj = await self._registry.as_requested(resource, stored)
        return self._object(call, resource, obj, accepted, stored=stored)

    async def list(self, call: Call, resource: Resource) -> Response:
        accepted = accept.many(call, resource)
        options = lists.options(call)
        if options.watch or call.info.verb == "watch":
            if "watch" not in resource.verbs:
                raise status.method_not_supported(resource.group, resource.resource, "watch")
            return self._watch(call, resource, options)
        page = await lists.read(self._registry, resource, _namespace(call, resource), options)
        if accepted.plain and self._registry.is_as_asked(resource, page.entries):
            body = lists.body(resource, page)
        else:
            body = await self._converted_list(call, resource, page, accepted)
        response = Response(200, body, accepted.content_type)
        return await _compressed(call, response)

    async def _converted_list(self, call: Call, resource: Resource, page: lists.Page, accepted: Accepted) -> bytes:
        stored: Sequence[Object] = [entry.object() for entry in page.entries]
        objects = stored
        if not self._registry.is_as_asked(resource, page.entries):
            objects = await self._registry.converted(resource, objects, resource.api_version)
        if accepted.transform == "Table":
            return accepted.encode(self._table(call, resource, objects, page.metadata, accepted, stored))
        if accepted.transform:
            items = [metadata.partial(obj, accepted.version) for obj in objects]
            if accepted.transform == "PartialObjectMetadata":
                raise negotiate.wrong_list(accepted.transform, True, _go_type(resource, of_list=True))
            head = {"kind": "PartialObjectMetadataList", "apiVersion": f"meta.k8s.io/{accepted.version}"}
            return accepted.encode({**head, "metadata": page.metadata, "items": items})
        items = list(objects) if resource.custom is not None else [_without_kind(obj) for obj in objects]
        head = {"kind": resource.list_kind, "apiVersion": resource.api_version}
        return accepted.encode({**head, "metadata": lists.metadata_of(resource, page), "items": items})

    async def component(self, call: Call, resource: Resource) -> Response:
        accepted = accept.one(call, resource)
        return self._object(call, resource, self._components.named(call.info.name), accepted)

    async def components(self, call: Call, resource: Resource) -> Response:
        accepted = accept.many(call, resource)
        options = lists.options(call)
        if options.watch:
            raise status.method_not_supported(resource.group, resource.resource, "watch")
        entries = []
        for found in self._components.all():
            name = found["metadata"]["name"]
            fields = {"metadata.name": name, "metadata.namespace": ""}
            entries.append(Entry(name, 0, 0, orjson.dumps(found), {}, fields))
        matches = lists.matcher(self._registry, resource, options, "")
        page = lists.Page([entry for entry in entries if matches is None or matches(entry)], {})
        return Response(200, await self._converted_list(call, resource, page, accepted), accepted.content_type)

    def _watch(self, call: Call, resource: Resource, options: lists.ListOptions) -> Response:
        info = call.info
        name = info.name or options.fields.exact("metadata.name") or ""
        matches = lists.matcher(self._registry, resource, options, name if info.name else "")
        after = lists.watch_start(options, self._registry.cache.revision)
        accepted = accept.stream(call, resource)
        if accepted.transform == "Table":
            self._included(call)
        seconds = options.timeout_seconds
        if not seconds:
            seconds = self._min_watch_seconds * (1 + random.random())
        prefix = self._registry.keys.prefix(resource.group_resource, _namespace(call, resource))
        request = watch.WatchRequest(
            prefix=prefix,
            empty=lambda: _empty(resource),
            after=after,
            seconds=seconds,
            matches=matches,
            settle=lists.settler(resource),
            line=watch.json_line if accepted.media_type == negotiate.JSON else watch.protobuf_line,
            convert=self._watch_convert(resource),
            render=self._watch_render(call, resource, accepted),
            bookmarks=options.bookmarks,
            initial_bookmark=options.send_initial_events and options.bookmarks,
            fresh_as=lists.version(options.resource_version) if options.send_initial_events else 0,
        )
        labels = (resource.group, resource.version, resource.resource)

        def sent(count: int) -> None:
            self._metrics.watch_events.add(labels, count)

        stream = watch.stream(self._registry.cache, request, self._clock, sent)
        content_type = accepted.content_type
        if accepted.media_type != negotiate.JSON:
            content_type += b";stream=watch"
        return Response(200, content_type=content_type, stream=stream)

    def _watch_convert(self, resource: Resource) -> watch.Convert | None:
        """What asks the webhook that makes stored objects what this watcher asked for; None where there is none."""
        if not conversion.by_webhook(resource):
            return None
        prefix = wire.prefix(resource.kind, resource.api_version)

        async def convert(data: bytes) -> bytes:
            if data.startswith(prefix):
                return data
            return orjson.dumps(await self._registry.converted_once(resource, orjson.loads(data)))

        return convert

    def _watch_render(self, call: Call, resource: Resource, accepted: Accepted) -> watch.Render | None:
        """How a stored object becomes what this watcher asked for; None where the bytes may go as they are."""
        same_version = resource.api_version == resource.storage_api_version
        if (same_version or conversion.by_webhook(resource)) and not accepted.transform:
            return None if accepted.media_type == negotiate.JSON else lambda data: data
        first = True

        def render(data: bytes) -> bytes:
            nonlocal first
            stored = obj = orjson.loads(data)
            if obj["apiVersion"] != resource.api_version:
                obj = conversion.convert(obj, obj["apiVersion"], resource.api_version, resource)
            if accepted.transform == "Table":
                meta = {"resourceVersion": obj["metadata"]["resourceVersion"]}
                found = self._table(call, resource, [obj], meta, accepted, [stored], columns=first)
                first = False
                return orjson.dumps(found)
            return orjson.dumps(metadata.partial(obj, accepted.version) if accepted.transform else obj)

        return render

    # ------------------------------------------------------------------ writing
    async def create(self, call: Call, resource: Resource) -> Response:
        accepted = accept.one(call, resource, tables=resource.persistent)
        context = self._context(call, "create")
        obj = bodies.decode(call, await call.read(), resource, context)
        if not resource.persistent:
            obj.setdefault("metadata", {})
            created = await self._registry.connect(resource, _namespace(call, resource), "", "", obj, context)
            if "explain" in call.query and resource.group_resource == explain.RESOURCE:
                created = explain.annotated(created, self._registry)
        else:
            namespace = _namespace(call, resource)
            created = await self._registry.create(resource, namespace, obj, context, complete=True)
        return self._object(call, resource, created, accepted, 201)

    async def update(self, call: Call, resource: Resource) -> Response:
        info = call.info
        accepted = accept.one(call, resource)
        context = self._context(call, "update")
        obj = bodies.decode(call, await call.read(), resource, context)
        written = await self._registry.update(
            resource, _namespace(call, resource), info.name, obj, context, info.subresource, complete=True
        )
        return self._object(call, resource, written.object, accepted, 201 if written.created else 200)

    async def patch(self, call: Call, resource: Resource) -> Response:
        info = call.info
        media_type = _patch_type(call, resource)
        accepted = accept.one(call, resource)
        context = self._context(call, "patch", apply=media_type == accept.APPLY)
        body = await call.read()
        if media_type == accept.APPLY:
            if info.subresource:  # who is not there is missed first
                self._registry.entry(resource, _namespace(call, resource), info.name)
            applied = bodies.decode_apply(body)
            written = await self._registry.apply(
                resource,
                _namespace(call, resource),
                info.name,
                applied.value,
                context,
                force=_forces(call),
                subresource=info.subresource,
                merged_well=lambda: bodies.check_applied(applied, context),
            )
        else:
            written = await self._registry.patch(
                resource,
                _namespace(call, resource),
                info.name,
                self._patcher(media_type, body, resource, context),
                context,
                info.subresource,
            )
        return self._object(call, resource, written.object, accepted, 201 if written.created else 200)

    def _patcher(
        self, media_type: str, body: bytes, resource: Resource, context: Context, subresource: Subresource | None = None
    ) -> Callable[[Object], Object]:
        """`subresource`: of a kind of its own, which is what the patch is for."""
        from kubegate.api import patch, strategic

        strict = context.field_validation != "Ignore"
        schema = schema_of(resource)
        if subresource is not None:
            schema = schema_for(subresource.group, subresource.version, subresource.kind)

        def make(current: Object) -> Object:
            if media_type == accept.JSON_PATCH:
                return patch.json_patch(current, body, strict=strict)
            if media_type == accept.MERGE_PATCH:
                return patch.merge_patch(current, body, strict=strict)
            return strategic.strategic_merge_patch(current, body, schema)

        def apply_patch(current: Object) -> Object:
            return bodies.patched(make(current), bodies.Patch(media_type, body), subresource or resource, context)

        return apply_patch

    # ------------------------------------------------------------------ deleting
    async def delete(self, call: Call, resource: Resource) -> Response:
        info = call.info
        accepted = accept.one(call, resource)
        options = bodies.delete_options(call, await call.read())
        context = self._context(call, "delete", options=options)
        deleted = await self._registry.delete(resource, _namespace(call, resource), info.name, options, context)
        code = 202 if not deleted.gone and options.get("orphanDependents") is False else 200
        rules = self._registry.rules_of(resource)
        if deleted.gone and not rules.returns_deleted:
            from kubegate.registry.deletion import deleted_status

            return Response(code, accepted.encode(deleted_status(resource, deleted.object)), accepted.content_type)
        return self._object(call, resource, deleted.object, accepted, code)

    async def delete_collection(self, call: Call, resource: Resource) -> Response:
        accepted = accept.many(call, resource)
        options = lists.options(call)
        deletes = bodies.delete_options(call, await call.read())
        context = self._context(call, "delete", options=deletes)
        page = await lists.read(self._registry, resource, _namespace(call, resource), options)
        await self._registry.delete_collection(resource, page.entries, deletes, context)
        # told as kube-apiserver tells it: the list that was read, also of what somebody else deleted meanwhile
        return Response(200, await self._converted_list(call, resource, page, accepted), accepted.content_type)

    # ------------------------------------------------------------------ subresources
    async def subresource_get(self, call: Call, resource: Resource) -> Response:
        info = call.info
        if info.subresource == "scale":
            from kubegate.registry import scaleview

            accepted = accept.one(call, resource)
            obj = await self._registry.get(resource, _namespace(call, resource), info.name)
            return self._object(call, scaleview.SCALES, scaleview.read(resource, obj), accepted)
        return await self.get(call, resource)

    async def subresource_create(self, call: Call, resource: Resource) -> Response:
        info = call.info
        accepted = accept.one(call, resource, tables=False)
        context = self._context(call, "create")
        target = resource.subresources[info.subresource]
        obj = bodies.decode_as(call, await call.read(), target.group, target.version, target.kind, context)
        answer = await self._registry.connect(
            resource, _namespace(call, resource), info.name, info.subresource, obj, context
        )
        return Response(201, accepted.encode(answer), accepted.content_type)

    async def subresource_update(self, call: Call, resource: Resource) -> Response:
        if call.info.subresource == "scale":
            return await self._scale(call, resource)
        return await self.update(call, resource)

    async def subresource_patch(self, call: Call, resource: Resource) -> Response:
        if call.info.subresource == "scale":
            return await self._scale(call, resource)
        return await self.patch(call, resource)

    async def _scale(self, call: Call, resource: Resource) -> Response:
        """PUT and PATCH of a Scale: a write of the replicas of the object that is scaled."""
        from kubegate.registry import scale, scaleview

        info = call.info
        accepted = accept.one(call, resource)
        if call.method == "PUT":
            context = self._context(call, "update")
            body = await call.read()
            sent = bodies.decode_as(call, body, "autoscaling", "v1", "Scale", context)
            self._registry.check_place(resource, _namespace(call, resource), info.name, sent)
            nameless = resource.custom is not None and not bodies.names_itself(call, body)
            change = scale.ScaleChange(lambda current: sent, nameless=nameless)
        else:
            media_type = _patch_type(call, resource)
            context = self._context(call, "patch", apply=media_type == accept.APPLY)
            body = await call.read()
            if media_type == accept.APPLY:
                self._registry.entry(resource, _namespace(call, resource), info.name)
                applied = bodies.decode_apply(body)
                checked = lambda: bodies.check_applied(applied, context)  # noqa: E731
                change = scale.applier(resource, applied.value, context, _forces(call), checked)
            else:
                target = resource.subresources[info.subresource]
                change = scale.ScaleChange(self._patcher(media_type, body, resource, context, target))
        written = await scale.write(self._registry, resource, _namespace(call, resource), info.name, change, context)
        return self._object(call, scaleview.SCALES, written, accepted)

    async def connect(self, call: Call, resource: Resource) -> Response:
        """exec, attach, log, portforward, proxy."""
        return await connect.connect(self._registry, call, resource, Context(call.user, call.trace))

    # ------------------------------------------------------------------ what they share
    def _context(self, call: Call, verb: str, *, apply: bool = False, options: Object | None = None) -> Context:
        """The write's options, checked. Raises 422 for what they may not be."""
        if options is not None:
            kind = {"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"}
            return Context(call.user, call.trace, bool(options.get("dryRun")), options={**kind, **options})
        kind_name = _WRITES[verb]
        agent_name = _manager_of(call.header("user-agent"))
        if not call.query and not apply:
            return Context(
                call.user, call.trace, False, agent_name, options={"kind": kind_name, "apiVersion": "meta.k8s.io/v1"}
            )
        found: Object = {}
        errors = []
        if "force" in call.query and verb == "patch" and not apply:
            errors.append(field.forbidden("force", "may not be specified for non-apply patch"))
        if apply and not call.parameter("fieldManager"):
            errors.append(field.required("fieldManager", "is required for apply patch"))
        dry_run = call.query.get("dryRun", [])
        if dry_run:
            found["dryRun"] = dry_run
            if any(value != "All" for value in dry_run):
                errors.append(field.not_supported("dryRun", dry_run, ("All",)))
        manager = call.parameter("fieldManager")
        if manager:
            found["fieldManager"] = manager
            errors += metadata.validate_field_manager(manager, "fieldManager")
        validation = call.parameter("fieldValidation")
        if validation:
            found["fieldValidation"] = validation
            if validation not in ("Ignore", "Warn", "Strict"):
                errors.append(field.not_supported("fieldValidation", validation, ("", "Ignore", "Strict", "Warn")))
        if "force" in call.query and apply:
            found["force"] = truth(call.parameter("force"))
        if errors:
            raise status.invalid("meta.k8s.io", kind_name, "", errors)
        return Context(
            user=call.user,
            trace=call.trace,
            dry_run=bool(dry_run),
            field_manager=manager or agent_name,
            field_validation=validation or "Warn",
            options={"kind": kind_name, "apiVersion": "meta.k8s.io/v1", **found},
        )

    def _table(
        self,
        call: Call,
        resource: Resource,
        objects: Sequence[Object],
        list_metadata: Object,
        accepted: Accepted,
        stored: Sequence[Object],
        *,
        columns: bool = True,
    ) -> Object:
        """`stored`: the objects in the version in which they are stored, from which built-in kinds make their cells."""
        from kubegate.api import tables  # loaded when somebody asks for one

        printed = None if resource.custom is not None else stored
        include = self._included(call)
        now, version = self._clock.now(), accepted.version
        return tables.table(
            resource,
            objects,
            list_metadata,
            include=include,
            now=now,
            columns=columns,
            version=version,
            printed=printed,
        )

    def _included(self, call: Call) -> str:
        """How much of each object goes with its row. Raises 400."""
        from kubegate.api import tables

        return tables.include_object(call.parameter("includeObject"))

    def _object(
        self,
        call: Call,
        resource: Resource,
        obj: Object,
        accepted: Accepted,
        code: int = 200,
        *,
        stored: Object | None = None,
    ) -> Response:
        if accepted.transform == "Table":
            if stored is None:
                stored = obj
                if resource.custom is None and resource.storage_api_version:  # a Scale is not stored
                    stored = conversion.convert(obj, resource.api_version, resource.storage_api_version, resource)
            version = obj["metadata"].get("resourceVersion")
            meta = {"resourceVersion": version} if version else {}  # nothing is stored by a dry run
            obj = self._table(call, resource, [obj], meta, accepted, [stored])
        elif accepted.transform:
            if accepted.transform == "PartialObjectMetadataList":
                if resource.custom is not None:  # of whose type in Go lists are as well
                    raise status.StatusError(500, "", "content is not a list")
                raise negotiate.wrong_list(accepted.transform, False, _go_type(resource))
            obj = metadata.partial(obj, accepted.version)
        return Response(code, accepted.encode(obj), accepted.content_type)


Operation = Callable[[Rest, Call, Resource], Any]


class Route(Struct, frozen=True):
    """What a path and a method mean; `warning` is what clients of an old resource are told ("" for nothing)."""

    resource: Resource
    operation: Operation
    warning: str
    labels: Labels


_COLLECTION = {
    "GET": ("list", Rest.list),
    "POST": ("create", Rest.create),
    "DELETE": ("deletecollection", Rest.delete_collection),
}
_ITEM = {
    "GET": ("get", Rest.get),
    "PUT": ("update", Rest.update),
    "PATCH": ("patch", Rest.patch),
    "DELETE": ("delete", Rest.delete),
}
_SUBRESOURCE = {
    "GET": ("get", Rest.subresource_get),
    "POST": ("create", Rest.subresource_create),
    "PUT": ("update", Rest.subresource_update),
    "PATCH": ("patch", Rest.subresource_patch),
}
_CONNECT = {
    method: (verb, Rest.connect)
    for method, verb in (
        ("GET", "get"),
        ("POST", "create"),
        ("PUT", "update"),
        ("PATCH", "patch"),
        ("DELETE", "delete"),
    )
}


def _operation(resource: Resource, info: RequestInfo, method: str) -> Operation | None:
    """The operation that a path and a method mean. Raises 404 and 405 as kube-apiserver's routes do.

    None where a custom resource has no such path: the answer is kube-apiserver's outermost 404, in plain text.
    """
    namespaced = bool(info.namespace) and resource.resource != "namespaces"
    if resource.resource == "namespaces" and _nested_namespaces(info.path):
        raise no_such_resource()
    named = len(info.parts) > 1  # a field selector may name an object too, for authorization alone
    misplaced = (resource.namespaced and not namespaced and named) or (not resource.namespaced and namespaced)
    if resource.custom is not None:
        return _custom_operation(resource, info, method, misplaced)
    if misplaced or (info.verb == "proxy"):
        raise no_such_resource()
    if info.verb_in_path:
        if info.subresource or "watch" not in resource.verbs:
            raise no_such_resource()
        if method != "GET":
            raise method_not_allowed()
    if info.subresource:
        sub = resource.subresources.get(info.subresource)
        if sub is None or (len(info.parts) > 3 and info.subresource != "proxy"):
            raise no_such_resource()
        table, verbs = _CONNECT if info.subresource in connect.SUBRESOURCES else _SUBRESOURCE, sub.verbs
    elif named:
        if info.verb == "watch":
            return Rest.list
        table, verbs = _ITEM, resource.verbs
        if not verbs & {"get", "update", "patch", "delete"}:
            raise no_such_resource()
    else:
        table, verbs = _COLLECTION, resource.verbs
        if resource.namespaced and not namespaced:
            verbs = verbs & {"list"}  # without a namespace there are lists alone
            if not verbs:
                raise no_such_resource()
    found = table.get(method)
    if found is None or found[0] not in verbs:
        raise method_not_allowed()
    return found[1]


def _go_type(resource: Resource, *, of_list: bool = False) -> str:
    """What kube-apiserver has an object of this resource in, or a list of them."""
    if resource.custom is not None:
        return "unstructured.UnstructuredList" if of_list else "unstructured.Unstructured"
    return codec.go_type(resource.group, resource.list_kind if of_list else resource.kind)


def _custom_operation(resource: Resource, info: RequestInfo, method: str, misplaced: bool) -> Operation | None:
    everywhere = info.verb in ("list", "watch")  # what may be asked of all namespaces together
    if misplaced or (resource.namespaced and not info.namespace and not everywhere):
        return None
    if info.subresource:
        if info.subresource not in resource.subresources:
            raise status.not_found(resource.group, resource.resource, info.name)
        found = _SUBRESOURCE.get(method)
        if found is None or found[0] not in resource.subresources[info.subresource].verbs:
            raise status.method_not_supported(resource.group, resource.resource, info.verb)
        return found[1]
    if info.verb == "watch":
        return Rest.list
    collection = {"list": Rest.list, "create": Rest.create, "deletecollection": Rest.delete_collection}
    item: dict[str, Operation] = {"get": Rest.get, "update": Rest.update, "patch": Rest.patch, "delete": Rest.delete}
    operation = collection.get(info.verb) or item.get(info.verb)
    if operation is None:
        raise status.method_not_supported(resource.group, resource.resource, info.verb)
    if info.verb in item and not info.name:
        return _unnamed
    return operation


async def _unnamed(rest: Rest, call: Call, resource: Resource) -> Response:
    """What is for one object, asked of them all. Raises 400, and 415 where it is a patch of no known form."""
    if call.info.verb == "patch":
        _patch_type(call, resource)
    raise status.bad_request("name must be provided")


def _patch_type(call: Call, resource: Resource) -> str:
    accepted = accept.CUSTOM_PATCHES if resource.custom is not None else accept.PATCHES
    routed = resource.custom is None
    return negotiate.check_patch_type(call.header("content-type") or None, accepted, routed=routed)


@lru_cache(256)
def _manager_of(user_agent: str) -> str:
    """The field manager of a client that names none: its user agent up to the first slash."""
    return "".join(char for char in user_agent.partition("/")[0] if char.isprintable())[:128]


def _namespace(call: Call, resource: Resource) -> str:
    """Where the object is kept: a Namespace's own path names a namespace too."""
    return call.info.namespace if resource.namespaced else ""


def _nested_namespaces(path: str) -> bool:
    """Whether `/namespaces/A/namespaces…` is asked for, which is nowhere."""
    segments = path.strip("/").split("/")
    return len(segments) > 4 and segments[2] == "namespaces" and segments[4] == "namespaces"


def _empty(resource: Resource) -> Object:
    """An object in which nothing is set, as Go writes one."""
    schema = schema_of(resource)
    made = zero(schema) if schema is not None and resource.custom is None else {}
    return {"kind": resource.kind, "apiVersion": resource.api_version, **made}


def _forces(call: Call) -> bool:
    return "force" in call.query and truth(call.parameter("force"))


def _without_kind(obj: Object) -> Object:
    return {key: value for key, value in obj.items() if key not in ("kind", "apiVersion")}


def _takes_gzip(accepted: str) -> bool:
    """As kube-apiserver reads Accept-Encoding: plain `gzip` among what is named, and no qualities."""
    return any(name.strip() == "gzip" for name in accepted.split(","))


async def _compressed(call: Call, response: Response) -> Response:
    """Large answers are compressed for those who take gzip; off the event loop, for it takes its time."""
    if len(response.body) < _GZIP_FROM or not _takes_gzip(call.header("accept-encoding")):
        return response
    import gzip  # most answers are short

    body = response.body
    response.body = await asyncio.to_thread(gzip.compress, body, 1)
    response.headers.append((b"content-encoding", b"gzip"))
    response.headers.append((b"vary", b"Accept-Encoding"))
    return response
