"""Who set which field: metadata.managedFields, and server-side apply.

Follows k8s.io/apimachinery/pkg/util/managedfields over sigs.k8s.io/structured-merge-diff. `create` and `update` are for
every write but apply, `apply` for apply. All are called before admission, as kube-apiserver does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from msgspec import Struct

from kubegate.api import Object, clone, gojson
from kubegate.api.managedfields import added, entries, sets, typed
from kubegate.api.managedfields.entries import APPLY, UPDATE, Managed, Manager, Owned
from kubegate.api.managedfields.resets import NOTHING, ResetFields, reset_fields
from kubegate.api.managedfields.sets import FieldSet, Path
from kubegate.api.managedfields.zero import zero
from kubegate.api.schema import ANY, Schema
from kubegate.api.status import StatusError, bad_request

__all__ = ["LAST_APPLIED", "ResetFields", "Write", "apply", "create", "reset_fields", "restore_times", "update"]

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_BEFORE_FIRST_APPLY = "before-first-apply"
_MAX_ANNOTATIONS = 256 * 1024

# What nobody owns: it names the object, or is the server's.
_UNTRACKED = sets.of(
    ("f:apiVersion",),
    ("f:kind",),
    ("f:metadata",),
    *(
        ("f:metadata", f"f:{name}")
        for name in (
            "name",
            "namespace",
            "creationTimestamp",
            "selfLink",
            "uid",
            "clusterName",
            "generation",
            "managedFields",
            "resourceVersion",
        )
    ),
)
_UNTRACKED_METADATA = frozenset(
    element.removeprefix("f:") for element in _UNTRACKED["f:metadata"] if element.startswith("f:")
)
_SERVER_FIELDS = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink")


class Write(Struct, frozen=True):
    """Who writes what: the manager's name, the version of the object, the subresource, when, and the kind's schema.

    Fields in `reset_fields` are not counted, because the write does not keep them.
    """

    manager: str
    api_version: str
    subresource: str
    time: str
    schema: Schema | None
    reset_fields: ResetFields = NOTHING


def create(new: Object, write: Write) -> Object:
    """`new` with the managedFields that a create leaves: its maker owns what not every empty object of the kind has.

    Where `new` brings managedFields of its own they are heeded, as in an `update`. Nothing is changed in place.
    """
    if new["metadata"].get("managedFields") is not None:
        return update(None, new, write)
    reset = write.reset_fields
    try:
        fields = reset.counted(_fields_of_new(write.schema or ANY, new)) if reset.owned else None
    except typed.NotTyped:
        fields = None
    if not fields:
        return _with_entries(new, [])
    name = write.manager or entries.UNKNOWN
    entry = entries.written(name, UPDATE, write.api_version, write.subresource, write.time, fields)
    return _with_entries(new, [entry])


def update(live: Object | None, new: Object, write: Write) -> Object:
    """`new` with the managedFields that an update or patch of `live` leaves.

    What the manager changed it owns from now on, others do not. Where `new` brings managedFields of its own they take
    the place of live's; `[{}]` clears them. Entries keep their time where nothing changed. Nothing is changed in place.
    """
    schema, reset = write.schema or ANY, write.reset_fields
    managed, as_live = _starting_point(live, new, write.subresource)
    if live is not None and not managed:
        # Once they are gone, the fields of an object are tracked from the next apply on.
        return _with_entries(new, [])
    try:
        if reset.kept is not None:  # what else was sent goes unchecked, and need not fit the schema
            typed.validate(schema, new, duplicates=True)
        changed, removed = _compare(schema, live, new)
    except typed.NotTyped:
        return _with_entries(new, [])
    if changed is None and removed is None and as_live and live is not None:
        return _with_entries(new, live["metadata"].get("managedFields") or [])
    everything = changed or {}, removed or {}
    changed, removed = map(reset.counted, everything)
    elsewhere = (changed, removed) if reset.everywhere else everything
    who = entries.manager(write.manager, UPDATE, write.api_version, write.subresource) if reset.owned else None
    managed = _after_update(managed, who, changed, removed, write.api_version, write.time, elsewhere)
    return _with_entries(new, entries.encode(entries.capped(managed)))


def apply(
    live: Object | None,
    applied: Object,
    write: Write,
    *,
    force: bool,
    kind: str = "",
    default: Callable[[Object], None] | None = None,
) -> Object:
    """What an apply of the configuration `applied` makes of `live` (None: it makes a new object).

    Fields that the manager applied before and no longer does are removed, unless others own them. `default` is given
    the merged object to fill in. Raises StatusError: 409 with the conflicting managers as causes unless `force`; 400
    where version or kind are others or `applied` brings managedFields; 500 (as kube-apiserver does) where it does not
    fit the schema. Nothing is changed in place.
    """
    _check_applied(applied, write.api_version, kind)
    applying = _Applying(write)
    schema, who = applying.schema, applying.who
    base = _without_entries(live) if live is not None else {}
    managed = _decode_live(live)
    if live is not None and not managed:
        managed = applying.unmanaged(base)
    try:
        merged, managed = applying.apply(base, applied, managed, force)
    except _Conflicts as conflicts:
        remaining = conflicts.paths
        if write.manager == "kubectl" and live is not None:
            remaining = _not_from_last_applied(schema, base, write.api_version, remaining)
        if remaining:
            raise _conflict_error(remaining) from None
        merged, managed = applying.apply(base, applied, managed, force=True)
    if merged is not None:
        owned = managed.get(who)
        if owned is not None:
            managed[who] = Owned(owned.fields, owned.api_version, write.time)
        result = clone(merged) if default is None else _defaulted(merged, applied, schema, default)
    else:
        result = base
    if write.manager == "kubectl" and _last_applied(result):
        result = _with_last_applied(result, applied)
    return _with_entries(result, entries.encode(managed))


def _defaulted(merged: Object, applied: Object, schema: Schema, default: Callable[[Object], None]) -> Object:
    from kubegate.api.normalize import TypeMismatch, defaulted

    try:
        return defaulted(merged, schema, default)
    except TypeMismatch as error:
        text = f"unable to convert unstructured object to {_kind_text(applied)}: {error.conversion}"
        raise StatusError(
            500, "", f"failed to convert new object ({_named(applied)}) to proper version: {text}"
        ) from None


def restore_times(new: Object, live: Object) -> Object:
    """`new` with the managedFields of `live` where the two differ in nothing but times in them.

    A write that is undone on its way to the store must not count as a change, unless its time gave the entries another
    order.
    """
    ours, theirs = new["metadata"].get("managedFields"), live["metadata"].get("managedFields")
    if ours == theirs or not ours or not theirs or len(ours) != len(theirs):
        return new
    if [_timeless(entry) for entry in ours] != [_timeless(entry) for entry in theirs]:
        return new
    if _without_entries(new) != _without_entries(live):
        return new
    return _with_entries(new, theirs)


def _timeless(entry: Object) -> Object:
    return {name: value for name, value in entry.items() if name != "time"}


# ------------------------------------------------------------------ updates
def wrong(found: Any) -> str:
    """What is wrong with managedFields as somebody sent them, "" where they can be read."""
    try:
        entries.decode(found, trusted=False)
    except ValueError as error:
        return str(error)
    return ""


def _fields_of_new(schema: Schema, new: Object) -> FieldSet:
    """What `new` has that an empty object of the kind has not. Raises NotTyped."""
    found = added.of_object(schema, new)
    metadata = new["metadata"]
    if metadata.keys() <= _UNTRACKED_METADATA:
        return found
    tracked = {name: value for name, value in metadata.items() if name not in _UNTRACKED_METADATA}
    paths = added.of_value(typed.field_of(schema, "metadata"), tracked)
    found = {**found, "f:metadata": {element: below for element, below in paths.items() if element != "."}}
    return {element: found[element] for element in sorted(found)}


def _starting_point(live: Object | None, new: Object, subresource: str) -> tuple[Managed, bool]:
    """The entries to go on from, and whether they are those of `live`."""
    theirs = (live or {}).get("metadata", {}).get("managedFields") or []
    ours = new["metadata"].get("managedFields")
    if not subresource and ours is not None and ours != theirs:
        if entries.is_reset(ours):
            return {}, False
        try:
            managed = entries.decode(ours, trusted=False)
        except ValueError:
            managed = {}
        if managed:
            return managed, False
    return _decode_live(live), True


def _decode_live(live: Object | None) -> Managed:
    try:
        return entries.decode((live or {}).get("metadata", {}).get("managedFields"), trusted=True)
    except (KeyError, TypeError, AttributeError):
        return {}


def _compare(schema: Schema, live: Object | None, new: Object) -> tuple[FieldSet | None, FieldSet | None]:
    """What changed and what was removed at the top. On a create, from what an empty object of the kind has."""
    before = zero(schema) if live is None else live
    meta = before.get("metadata") or {}
    ours = {k: v for k, v in new["metadata"].items() if k not in _SERVER_FIELDS}
    theirs = {k: v for k, v in meta.items() if k not in _SERVER_FIELDS}
    changed, removed = typed.compare(schema, {**before, "metadata": theirs}, {**new, "metadata": ours})
    if live is None:
        # Only what is new matters: nothing was there that could have been removed.
        removed = None
    return changed, removed


def _after_update(
    managed: Managed,
    who: Manager | None,
    changed: FieldSet,
    removed: FieldSet,
    api_version: str,
    time: str,
    elsewhere: tuple[FieldSet, FieldSet],
) -> Managed:
    """`elsewhere`: what changed and what was removed for those who own fields in other versions."""
    after: Managed = {}
    for other, owned in managed.items():
        taken, gone = (changed, removed) if owned.api_version == api_version else elsewhere
        fields = sets.difference(sets.difference(owned.fields, taken), gone)
        if fields:
            after[other] = entries.owning(owned, fields)
    mine = sets.difference(changed, _UNTRACKED)
    if mine and who is not None:
        before = after.get(who)
        fields = sets.in_order(sets.union(before.fields, mine) if before is not None else mine)
        after[who] = Owned(fields, api_version, time)
    return after


# ------------------------------------------------------------------ apply
class _Conflicts(Exception):
    def __init__(self, paths: list[tuple[Manager, Path]]) -> None:
        super().__init__("conflicts")
        self.paths = paths


class _Applying:
    """One apply: what stays the same between the first attempt and a forced second one."""

    def __init__(self, write: Write) -> None:
        self.schema, self.reset_fields = write.schema or ANY, write.reset_fields
        self.time, self.api_version = write.time, write.api_version
        self.who = entries.manager(write.manager, APPLY, write.api_version, write.subresource)

    def unmanaged(self, live: Object) -> Managed:
        """Entries for an object whose fields were not tracked: whoever set them came before the first apply."""
        try:
            changed, _ = _compare(self.schema, None, live)
        except typed.NotTyped as error:
            raise StatusError(500, "", f"failed to create manager for existing fields: {error}") from None
        before = entries.manager(_BEFORE_FIRST_APPLY, UPDATE, self.api_version, self.who.subresource)
        counted = self.reset_fields.counted(changed or {})
        return _after_update({}, before, counted, {}, self.api_version, self.time, ({}, {}))

    def apply(self, live: Object, applied: Object, managed: Managed, force: bool) -> tuple[Object | None, Managed]:
        """The merged object (None where it is `live`) and the new entries. Raises _Conflicts, StatusError 500."""
        schema, who = self.schema, self.who
        try:
            typed.validate(schema, applied)
            fields = typed.field_set(schema, applied)
        except typed.NotTyped as error:
            raise StatusError(500, "", f"failed to create typed patch object ({_named(applied)}): {error}") from None
        try:
            merged = typed.merge(schema, live, applied)
        except typed.NotTyped as error:
            raise StatusError(500, "", f"failed to create typed live object ({_named(live)}): {error}") from None
        last = managed.get(who)
        managed = dict(managed)
        managed[who] = Owned(self.reset_fields.counted(fields), self.api_version, last.time if last else None)
        if last is not None and last.fields:
            merged = self.prune(merged, managed, last.fields)
        changed, removed = typed.compare(schema, live, merged)
        everything = changed or {}, removed or {}
        here = self.reset_fields.counted(everything[0]), self.reset_fields.counted(everything[1])
        elsewhere = here if self.reset_fields.everywhere else everything
        after: Managed = {}
        conflicts: list[tuple[Manager, Path]] = []
        for other, owned in managed.items():
            if other == who:
                after[who] = owned
                continue
            changed, removed = here if owned.api_version == self.api_version else elsewhere
            taken = sets.intersection(owned.fields, changed)
            if taken:
                conflicts += [(other, path) for path in sets.members(taken)]
            rest = sets.difference(sets.difference(owned.fields, changed), removed)
            if rest:
                after[other] = entries.owning(owned, rest)
        if conflicts and not force:
            raise _Conflicts(sorted(conflicts, key=lambda conflict: _identifier(conflict[0])))
        mine = sets.difference(after[who].fields, _UNTRACKED)
        if mine:
            after[who] = entries.owning(after[who], sets.in_order(mine))
        else:
            del after[who]
        return (None if merged == live and live else merged), after

    def prune(self, merged: Object, managed: Managed, last: FieldSet) -> Object:
        """Take away what this manager applied last time and nobody claims now."""
        schema = self.schema
        last = typed.with_named_fields(schema, last)
        everything = typed.with_named_fields(schema, typed.field_set(schema, merged))
        claimed: FieldSet = {}
        for owned in managed.values():
            claimed = sets.union(claimed, owned.fields)
        claimed = typed.with_named_fields(schema, claimed)
        pruned = typed.remove(schema, merged, last) or {}
        left = typed.with_named_fields(schema, typed.field_set(schema, pruned))
        unclaimed = sets.difference(everything, sets.union(left, claimed))
        pruned = typed.remove(schema, merged, unclaimed) or {}
        left = typed.with_named_fields(schema, typed.field_set(schema, pruned))
        # What went along with it, without having been applied by this manager, stays.
        gone = sets.intersection(sets.difference(everything, left), last)
        found: Object = typed.remove(schema, merged, gone) or {}
        return found


def _identifier(who: Manager) -> bytes:
    """The text that Kubernetes knows a manager by, which gives conflicts their order."""
    said = {"manager": who.name, "operation": who.operation, "apiVersion": who.api_version}
    said["subresource"] = who.subresource
    return orjson.dumps({name: value for name, value in said.items() if value})


def _check_applied(applied: Object, api_version: str, kind: str) -> None:
    found_version, found_kind = applied.get("apiVersion") or "", applied.get("kind") or ""
    if found_version != api_version or (kind and found_kind != kind):
        group, slash, version = str(found_version).rpartition("/")
        shown = f"{group}/{version}" if slash else f"/{version}"
        raise bad_request(f"invalid object type: {shown}, Kind={found_kind}")
    metadata = applied.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("managedFields"), list):
        raise bad_request("metadata.managedFields must be nil")


def _named(obj: Object) -> str:
    """An object as error texts name it: `NAMESPACE/NAME; GROUP/VERSION, Kind=KIND`."""
    meta = obj.get("metadata")
    namespace, name = (meta.get(field, "") if isinstance(meta, dict) else "" for field in ("namespace", "name"))
    where = f"{namespace if isinstance(namespace, str) else ''}/{name if isinstance(name, str) else ''}"
    return f"{where}; {_kind_text(obj)}"


def _kind_text(obj: Object) -> str:
    version = obj.get("apiVersion") or ""
    shown = version if "/" in version else f"/{version}"
    return f"{shown}, Kind={obj.get('kind', '')}"


def _conflict_error(conflicts: list[tuple[Manager, Path]]) -> StatusError:
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f"conflict with {_manager_text(who)}",
            "field": sets.path_text(path),
        }
        for who, path in conflicts
    ]
    if len(conflicts) == 1:
        text = f"Apply failed with 1 conflict: {causes[0]['message']}: {causes[0]['field']}"
        return StatusError(409, "Conflict", text, {"causes": causes})
    lines = []
    previous = None
    for (who, _), cause in zip(conflicts, causes, strict=True):
        if who != previous:
            lines.append(f"conflicts with {_manager_text(who)}:")
        previous = who
        lines.append(f"- {cause['field']}")
    text = f"Apply failed with {len(conflicts)} conflicts: " + "\n".join(lines)
    return StatusError(409, "Conflict", text, {"causes": causes})


def _manager_text(who: Manager) -> str:
    text = orjson.dumps(who.name).decode()
    if who.subresource:
        text += f" with subresource {orjson.dumps(who.subresource).decode()}"
    return f"{text} using {who.api_version}" if who.operation == UPDATE else text


# ------------------------------------------------------------------ kubectl's client-side apply
def _last_applied(obj: Object) -> str:
    found = ((obj.get("metadata") or {}).get("annotations") or {}).get(LAST_APPLIED)
    return found if isinstance(found, str) else ""


def _not_from_last_applied(
    schema: Schema, live: Object, api_version: str, conflicts: list[tuple[Manager, Path]]
) -> list[tuple[Manager, Path]]:
    """The conflicts that are not about what `kubectl apply` had set from the client's side and nobody changed since."""
    try:
        last = orjson.loads(_last_applied(live))
        if not isinstance(last, dict) or last.get("apiVersion") != api_version:
            return conflicts
        typed.validate(schema, last)
        allowed = typed.field_set(schema, last)
        changed, removed = typed.compare(schema, last, live)
    except (orjson.JSONDecodeError, typed.NotTyped):
        return conflicts
    allowed = sets.difference(sets.difference(allowed, changed or {}), removed or {})
    return [(who, path) for who, path in conflicts if not sets.has(allowed, path)]


def _with_last_applied(obj: Object, applied: Object) -> Object:
    """Keep the annotation of `kubectl apply` true where the object has one, for those who go back to it."""
    config = clone(applied)
    annotations = (config.get("metadata") or {}).get("annotations")
    if annotations:
        annotations.pop(LAST_APPLIED, None)
    meta = dict(obj["metadata"])
    kept = dict(meta.get("annotations") or {})
    kept[LAST_APPLIED] = gojson.sorted_text(config) + "\n"
    if sum(len(key.encode()) + len(str(value).encode()) for key, value in kept.items()) > _MAX_ANNOTATIONS:
        del kept[LAST_APPLIED]
    meta["annotations"] = kept
    return {**obj, "metadata": meta}


# ------------------------------------------------------------------ entries in objects
def _without_entries(obj: Object) -> Object:
    meta = {k: v for k, v in obj["metadata"].items() if k != "managedFields"}
    return {**obj, "metadata": meta}


def _with_entries(obj: Object, found: list[dict[str, Any]]) -> Object:
    meta = dict(obj.get("metadata") or {})
    if found:
        meta["managedFields"] = found
    else:
        meta.pop("managedFields", None)
    return {**obj, "metadata": meta}
