"""Lists: their options, which objects they hold, and their continuation.

Follows metav1.ListOptions as kube-apiserver reads and checks them, and the watch cache's rules for resourceVersion.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
from msgspec import Struct
from msgspec.structs import replace

from kubegate.api import codec, field, gojson, selectors, status
from kubegate.api.requestinfo import truth
from kubegate.api.resources import Resource
from kubegate.api.selectors import FieldSelector, LabelSelector
from kubegate.registry import conversion, wire
from kubegate.registry.generic import Registry
from kubegate.server.call import Call
from kubegate.storage import Compacted, FutureRevision
from kubegate.storage.cache import CacheEvent, Entry

Matches = Callable[[Entry], bool]
_EVERYTHING = LabelSelector(())
_ANY_FIELDS = FieldSelector(())
_WAIT_SECONDS = 3.0


class ListOptions(Struct, frozen=True):
    labels: LabelSelector = _EVERYTHING
    fields: FieldSelector = _ANY_FIELDS
    limit: int = 0
    continue_: str = ""
    resource_version: str = ""
    match: str = ""
    timeout_seconds: float = 0.0
    watch: bool = False
    bookmarks: bool = False
    send_initial_events: bool = False
    send_initial_events_given: bool = False


_DEFAULT = ListOptions()


class Page(Struct, frozen=True):
    """Entries in order, and the list's metadata (resourceVersion, continue, remainingItemCount)."""

    entries: Sequence[Entry]
    metadata: dict[str, Any]


def number(text: str) -> int:
    """An int64 in a query. Raises 400 with Go's text."""
    digits = text[1:] if text[:1] in ("-", "+") else text
    if not (digits.isascii() and digits.isdigit()):
        raise status.bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    # Python refuses to read numbers of thousands of digits.
    if len(digits.lstrip("0")) > 19 or not -(2**63) <= int(text) < 2**63:
        raise status.bad_request(f'strconv.ParseInt: parsing "{text}": value out of range')
    return int(text)


def options(call: Call) -> ListOptions:
    """Raises 400 and 422 as kube-apiserver does."""
    if not call.query:
        return _DEFAULT
    query = call.query
    try:
        labels = selectors.parse_labels(call.parameter("labelSelector"))
        fields = selectors.parse_fields(call.parameter("fieldSelector"))
    except selectors.SelectorError as error:
        raise status.bad_request(str(error)) from error
    found = ListOptions(
        labels=labels,
        fields=fields,
        limit=max(number(call.parameter("limit")), 0) if "limit" in query else 0,
        continue_=call.parameter("continue"),
        resource_version=call.parameter("resourceVersion"),
        match=call.parameter("resourceVersionMatch"),
        timeout_seconds=float(max(number(call.parameter("timeoutSeconds")), 0)) if "timeoutSeconds" in query else 0.0,
        watch="watch" in query and truth(call.parameter("watch")),
        bookmarks="allowWatchBookmarks" in query and truth(call.parameter("allowWatchBookmarks")),
        send_initial_events="sendInitialEvents" in query and truth(call.parameter("sendInitialEvents")),
        send_initial_events_given="sendInitialEvents" in query,
    )
    _check(found, found.watch or call.info.verb == "watch")
    if found.watch and not found.match and found.resource_version in ("", "0") and not found.send_initial_events_given:
        return replace(found, send_initial_events=True)  # who watches from the beginning is told where it ends
    return found


def _check(found: ListOptions, watching: bool) -> None:
    errors = []
    match, version = found.match, found.resource_version
    if watching:
        if found.send_initial_events_given and match != "NotOlderThan":
            detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            errors.append(field.forbidden("resourceVersionMatch", detail))
        if match and not found.send_initial_events_given:
            detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            errors.append(field.forbidden("resourceVersionMatch", detail))
        if match and match != "NotOlderThan":
            errors.append(field.not_supported("resourceVersionMatch", match, ("NotOlderThan",)))
        if match and found.continue_:
            detail = "resourceVersionMatch is forbidden when continue is provided"
            errors.append(field.forbidden("resourceVersionMatch", detail))
    else:
        if found.send_initial_events_given:
            errors.append(field.forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"))
        if match:
            if not version:
                detail = "resourceVersionMatch is forbidden unless resourceVersion is provided"
                errors.append(field.forbidden("resourceVersionMatch", detail))
            if found.continue_:
                detail = "resourceVersionMatch is forbidden when continue is provided"
                errors.append(field.forbidden("resourceVersionMatch", detail))
            if match not in ("Exact", "NotOlderThan"):
                errors.append(field.not_supported("resourceVersionMatch", match, ("Exact", "NotOlderThan", "")))
            elif match == "Exact" and version == "0":
                detail = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
                errors.append(field.forbidden("resourceVersionMatch", detail))
    if errors:
        raise status.invalid("meta.k8s.io", "ListOptions", "", errors)


def version(text: str) -> int:
    """A resourceVersion as a number; 0 for none. Raises 500 without a reason, as kube-apiserver does."""
    if not text:
        return 0
    wrong = ""
    if not (text.isascii() and text.isdigit()):
        wrong = "invalid syntax"
    elif len(text.lstrip("0")) > 20 or int(text) >= 2**64:
        wrong = "value out of range"
    if wrong:
        shown = field.quoted(text)
        raise status.StatusError(
            500, "", f"resourceVersion: Invalid value: {shown}: strconv.ParseUint: parsing {shown}: {wrong}"
        )
    return int(text)


def read_version(text: str, resource: Resource) -> int:
    """The same for a get. Events, which are in no watch cache, are read as lists are."""
    uncached = resource.kind == "Event" and resource.custom is None
    return list_version(text) if uncached else version(text)


def list_version(text: str) -> int:
    """The same for a list, which answers 400 to what is none."""
    try:
        return version(text)
    except status.StatusError as error:
        raise status.bad_request(f"invalid resource version: {error.message}") from None


async def wait_for(registry: Registry, wanted: int) -> None:
    """Until what is read is at least as new as `wanted` (0: as what was written last). Raises 504."""
    if not wanted:
        await registry.cache.fresh()
        return
    try:
        await registry.cache.wait_for(wanted, _WAIT_SECONDS)
    except FutureRevision as error:
        raise status.too_large_resource_version(wanted, error.current) from error


def watch_start(found: ListOptions, current: int) -> int | None:
    """The revision after which a watch begins; None to begin with all that is there."""
    start = version(found.resource_version)
    if found.send_initial_events or start == 0:
        return None if found.send_initial_events or not found.send_initial_events_given else current
    return start


def matcher(registry: Registry, resource: Resource, found: ListOptions, name: str) -> Matches | None:
    """What keeps entries that the selectors want; None where all are wanted. Raises 400 for unknown field labels."""
    labels = None if found.labels.empty else found.labels
    fields = None if found.fields.empty else found.fields
    if fields is not None:
        own = registry.rules_of(resource).field_labels
        known = {"metadata.name", "metadata.namespace", *own}
        if not resource.namespaced and (own or resource.custom is not None):
            known.remove("metadata.namespace")
        unknown = fields.unknown(known)  # type: ignore[arg-type]
        if unknown is not None:
            if resource.custom is None and not own:
                only = '"metadata.name", "metadata.namespace"'
                raise status.bad_request(f'"{unknown}" is not a known field selector: only {only}')
            if resource.kind == "Job" and resource.custom is None:
                raise status.bad_request(f'field label "{unknown}" not supported for batchv1.Job')
            raise status.bad_request(f"field label not supported: {unknown}")
    if labels is None and fields is None and not name:
        return None
    custom = resource.custom is not None and fields is not None

    def matches(entry: Entry) -> bool:
        if labels is not None and not labels.matches(entry.labels):
            return False
        if name and entry.fields["metadata.name"] != name:
            return False
        return fields is None or fields.matches(_fields(registry, resource, entry) if custom else entry.fields)

    return matches


def _fields(registry: Registry, resource: Resource, entry: Entry) -> Mapping[str, str]:
    """The selectable fields of a custom resource, which its definition may have changed since it was stored."""
    rules = registry.rules_of(resource)
    if rules.fields is None:
        return entry.fields
    obj = registry.settled(resource, entry).object()
    if not conversion.by_webhook(resource):
        obj = conversion.convert(obj, obj["apiVersion"], resource.api_version, resource)
    return {**entry.fields, **rules.fields(obj)}


def settler(resource: Resource) -> Callable[[CacheEvent], CacheEvent] | None:
    """What a watcher of custom resources is told in place of a change; None for all other kinds."""
    if resource.custom is None:
        return None
    from kubegate.registry.apiextensions.settled import settled_event

    return lambda event: settled_event(event, resource)


async def read(registry: Registry, resource: Resource, namespace: str, found: ListOptions) -> Page:
    """The page that the options ask for. Raises 410 for what is too old, 504 for what is not there yet."""
    page = await _read(registry, resource, namespace, found)
    if resource.custom is None:
        return page
    return Page([registry.settled(resource, entry) for entry in page.entries], page.metadata)


async def _read(registry: Registry, resource: Resource, namespace: str, found: ListOptions) -> Page:
    cache = registry.cache
    prefix = registry.keys.prefix(resource.group_resource, namespace)
    matches = matcher(registry, resource, found, "")
    wanted = list_version(found.resource_version)
    exact = found.match == "Exact" or (found.limit > 0 and not found.match)  # a limit alone has meant it of old
    if found.continue_ or (exact and wanted):
        return await _read_at(registry, prefix, found, matches, wanted)
    if wanted or found.resource_version != "0":
        await wait_for(registry, wanted)
    limit = found.limit if found.resource_version != "0" else 0
    revision = cache.revision
    if not limit:
        name = found.fields.exact("metadata.name")
        if name and bool(namespace) is resource.namespaced:
            entry = cache.get(registry.keys.key(resource.group_resource, namespace, name))
            entries: Sequence[Entry] = found.labels.select([entry]) if entry is not None else ()
        else:
            entries = cache.select(prefix, found.labels, found.labels.select)
        if matches is not None and not found.fields.empty:
            entries = [entry for entry in entries if matches(entry)]
        return Page(entries, {"resourceVersion": str(revision)})
    kept: list[Entry] = []
    after, remaining = "", 0
    while True:
        entries, remaining = cache.range(
            prefix, after=after, limit=max(limit - len(kept), 1) if matches is None else 500
        )
        for position, entry in enumerate(entries):
            if matches is None or matches(entry):
                kept.append(entry)
            after = entry.key
            if len(kept) == limit:
                remaining += len(entries) - position - 1
                break
        if len(kept) == limit or not remaining:
            break
    return Page(kept, _page_metadata(revision, prefix, after, remaining, matches is None))


def _page_metadata(revision: int, prefix: str, after: str, remaining: int, countable: bool) -> dict[str, Any]:
    meta: dict[str, Any] = {"resourceVersion": str(revision)}
    if remaining:
        token = {"v": "meta.k8s.io/v1", "rv": revision, "start": after.removeprefix(prefix) + "\0"}
        meta["continue"] = base64.urlsafe_b64encode(orjson.dumps(token)).rstrip(b"=").decode()
        if countable:
            meta["remainingItemCount"] = remaining
    return meta


async def _read_at(registry: Registry, prefix: str, found: ListOptions, matches: Matches | None, wanted: int) -> Page:
    """A list as it was at a revision: the next page of an older list, or an exact resourceVersion."""
    after = ""
    if found.continue_:
        if found.resource_version and found.resource_version != "0":
            raise status.bad_request("specifying resource version is not allowed when using continue")
        wanted, start = _continue_token(found.continue_)
        after = prefix + start
    kept: list[Entry] = []
    decode = registry.extensions["codec"]
    while True:
        limit = found.limit and max(found.limit - len(kept), 1)
        try:
            page = await registry.store.range(prefix, after=after, limit=limit, revision=max(wanted, 0))
        except Compacted as error:
            if found.continue_:
                raise _expired_token(prefix, after) from error
            raise status.expired("The resourceVersion for the provided list is too old.") from error
        except FutureRevision as error:
            raise status.too_large_resource_version(wanted, error.current) from error
        if wanted <= 0:
            wanted = page.revision
        for item in page.items:
            data, labels, fields = decode(item.key, item.value, item.mod_revision)
            entry = Entry(item.key, item.mod_revision, item.create_revision, data, labels, fields)
            if matches is None or matches(entry):
                kept.append(entry)
            after = item.key
        if not page.remaining or (found.limit and len(kept) >= found.limit):
            return Page(kept, _page_metadata(wanted, prefix, after, page.remaining, matches is None))


_BAD_TOKEN = "invalid continue token: continue key is not valid"


def _continue_token(text: str) -> tuple[int, str]:
    """(revision, the key after which to go on, without the prefix). Raises 400."""
    stray = re.search(r"[^A-Za-z0-9_-]", text)
    if stray is not None or len(text) % 4 == 1:
        position = stray.start() if stray is not None else len(text) - 1
        raise status.bad_request(f"{_BAD_TOKEN}: illegal base64 data at input byte {position}")
    try:
        token = codec.decode_json(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except codec.DecodeError as error:
        raise status.bad_request(f"{_BAD_TOKEN}: {error}") from None
    if not isinstance(token, dict):
        wrong = gojson.cannot_unmarshal(token, "Go value of type storage.continueToken")
        raise status.bad_request(f"{_BAD_TOKEN}: {wrong}")
    for name, kind, go in (("v", str, "string"), ("rv", int, "int64"), ("start", str, "string")):
        value = token.get(name)
        if value is not None and type(value) is not kind:
            wrong = gojson.cannot_unmarshal(value, f"Go struct field continueToken.{name} of type {go}")
            raise status.bad_request(f"{_BAD_TOKEN}: {wrong}")
    revision, start = token.get("rv") or 0, token.get("start") or ""
    if token.get("v") != "meta.k8s.io/v1":
        raise status.bad_request(f"{_BAD_TOKEN}: server does not recognize this encoded version {token.get('v') or ''}")
    if revision == 0:
        raise status.bad_request(f"{_BAD_TOKEN}: incorrect encoded start resourceVersion (version meta.k8s.io/v1)")
    if not start:
        raise status.bad_request(f"{_BAD_TOKEN}: encoded start key empty (version meta.k8s.io/v1)")
    if any(part in ("", ".", "..") for part in start.removeprefix("/").split("/")):
        raise status.bad_request(f"{_BAD_TOKEN}: {start}")
    return revision, start.removesuffix("\0")


def _expired_token(prefix: str, after: str) -> status.StatusError:
    """410 with a token to go on with, inconsistently, from the same key at the latest revision."""
    token = {"v": "meta.k8s.io/v1", "rv": -1, "start": after.removeprefix(prefix) + "\0"}
    error = status.expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list "
        "without the continue parameter, or use the continue token in this response to retrieve the remainder of the "
        "results. Continuing with the provided token results in an inconsistent list - objects that were created, "
        "modified, or deleted between the time the first chunk was returned and now may show up in the list."
    )
    text = base64.urlsafe_b64encode(orjson.dumps(token)).rstrip(b"=").decode()
    error.list_metadata = {"continue": text}
    return error


def metadata_of(resource: Resource, page: Page) -> dict[str, Any]:
    """The list's metadata; those kept without a Go type are told even an empty continuation."""
    return page.metadata if resource.custom is None else {"continue": "", **page.metadata}


def body(resource: Resource, page: Page) -> bytes:
    """The list's bytes, put together from its items' bytes as they are."""
    items = [entry.data for entry in page.entries]
    prefix = None if resource.custom is not None else wire.prefix(resource.kind, resource.api_version)
    return wire.list_body(resource.list_kind, resource.api_version, metadata_of(resource, page), items, prefix)
