"""ObjectMeta: what may be said in it on create and update, names made from a prefix, and metadata without the object.

Follows k8s.io/apimachinery/pkg/api/validation (objectmeta.go) and k8s.io/apiserver/pkg/storage/names.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from kubegate.api import Object
from kubegate.api import field as fields
from kubegate.api.field import FieldError, child, forbidden, index, invalid, required, too_long
from kubegate.api.names import (
    is_dns1035_label,
    is_dns1123_label,
    is_dns1123_subdomain,
    is_qualified_name,
    path_segment_name,
)
from kubegate.api.selectors import validate_labels

NameCheck = Callable[[str, bool], list[str]]
"""A name, and whether it is only the beginning of one (generateName): texts of what is wrong."""

MAX_ANNOTATIONS_SIZE: Final = 256 * 1024
MAX_FIELD_MANAGER_LENGTH: Final = 128
_MAX_SUBRESOURCE_LENGTH = 256
_MAX_GENERATED_LENGTH = 63
_RANDOM_LENGTH = 5
# No vowels, and nothing that is read for something else: the alphabet of Kubernetes' generated names.
NAME_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"

_ORPHAN, _FOREGROUND = "orphan", "foregroundDeletion"


def generate_name(prefix: str, random: Callable[[int], int]) -> str:
    """`prefix` (cut to 58 characters) and five random ones. `random(n)` gives a number from 0 up to n-1."""
    start = prefix[: _MAX_GENERATED_LENGTH - _RANDOM_LENGTH]
    return start + "".join(NAME_LETTERS[random(len(NAME_LETTERS))] for _ in range(_RANDOM_LENGTH))


def new_uid() -> str:
    """A random UUID (version 4), in a quarter of the time that `uuid` takes."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def _masked(prefix: str) -> str:
    """It may end in a dash, since more is to follow."""
    return prefix[:-2] + "a" if len(prefix) > 1 and prefix.endswith("-") else prefix


def subdomain_name(name: str, prefix: bool = False) -> list[str]:
    return is_dns1123_subdomain(_masked(name) if prefix else name)


def label_name(name: str, prefix: bool = False) -> list[str]:
    return is_dns1123_label(_masked(name) if prefix else name)


def dns1035_name(name: str, prefix: bool = False) -> list[str]:
    return is_dns1035_label(_masked(name) if prefix else name)


NAME_CHECKS: Final[Mapping[str, NameCheck]] = {
    "subdomain": subdomain_name,
    "label": label_name,
    # Services may begin with a digit since v1.36.
    "service": label_name,
    "dns1035": dns1035_name,
    "path": path_segment_name,
}


def wipe_system_fields(meta: dict[str, Any]) -> None:
    """Take away what the server alone may say of an object that is to be made."""
    if _SYSTEM_FIELDS.isdisjoint(meta):
        return
    for name in _SYSTEM_FIELDS:
        meta.pop(name, None)


_SYSTEM_FIELDS = frozenset({"uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"})


def validate_create(
    meta: Mapping[str, Any], namespaced: bool, name: str | NameCheck = "subdomain", path: str = "metadata"
) -> list[FieldError]:
    """What is wrong with the metadata of a new object, after a name was generated.

    `name` is a key of NAME_CHECKS or a function like those there.
    """
    check = NAME_CHECKS[name] if isinstance(name, str) else name
    errors: list[FieldError] = []
    prefix, own = meta.get("generateName") or "", meta.get("name") or ""
    if prefix:
        errors += [invalid(child(path, "generateName"), prefix, text) for text in check(prefix, True)]
    if not own:
        errors.append(required(child(path, "name"), "name or generateName is required"))
    elif problems := check(own, False):
        errors += [invalid(child(path, "name"), own, text) for text in problems]
    namespace = meta.get("namespace") or ""
    if not namespaced:
        if namespace:
            errors.append(forbidden(child(path, "namespace"), "not allowed on this type"))
    elif not namespace:
        errors.append(required(child(path, "namespace")))
    elif problems := is_dns1123_label(namespace):
        errors += [invalid(child(path, "namespace"), namespace, text) for text in problems]
    if (meta.get("generation") or 0) < 0:
        text = "must be greater than or equal to 0"
        errors.append(invalid(child(path, "generation"), meta["generation"], text))
    errors += _common(meta, path)
    if finalizers := meta.get("finalizers"):
        errors += validate_finalizers(finalizers, child(path, "finalizers"))
    return errors


def validate_update(new: Mapping[str, Any], old: Mapping[str, Any], path: str = "metadata") -> list[FieldError]:
    """What is wrong with the metadata of a changed object, given the stored one.

    What an update cannot touch (creationTimestamp, and uid and deletionTimestamp where it leaves them out) was already
    taken over from the stored object.
    """
    errors: list[FieldError] = []
    if old.get("deletionTimestamp"):
        extra = sorted(set(new.get("finalizers") or ()) - set(old.get("finalizers") or ()))
        if extra:
            listed = "[]string{" + ", ".join(fields.quoted(name) for name in extra) + "}"
            text = f"no new finalizers can be added if the object is being deleted, found new finalizers {listed}"
            errors.append(forbidden(child(path, "finalizers"), text))
    if not new.get("resourceVersion"):
        errors.append(invalid(child(path, "resourceVersion"), "", "must be specified for an update"))
    if (new.get("generation") or 0) < (old.get("generation") or 0):
        errors.append(invalid(child(path, "generation"), new.get("generation") or 0, "must not be decremented"))
    for name in ("name", "namespace", "uid"):
        errors += fields.immutable(child(path, name), new.get(name) or "", old.get(name) or "")
    for name in ("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"):
        if new.get(name) != old.get(name):
            errors.append(invalid(child(path, name), new.get(name), fields.IMMUTABLE))
    return errors + _common(new, path)


def _common(meta: Mapping[str, Any], path: str) -> list[FieldError]:
    """What is checked alike on create and update, finalizers aside (an update may keep bad ones)."""
    if _CHECKED.isdisjoint(meta):
        return []
    errors: list[FieldError] = []
    if labels := meta.get("labels"):
        errors += validate_labels(labels, child(path, "labels"))
    if annotations := meta.get("annotations"):
        errors += validate_annotations(annotations, child(path, "annotations"))
    if references := meta.get("ownerReferences"):
        errors += _owner_references(references, child(path, "ownerReferences"))
    if entries := meta.get("managedFields"):
        errors += _managed_fields(entries, child(path, "managedFields"))
    return errors


_CHECKED = frozenset({"labels", "annotations", "ownerReferences", "managedFields"})


def validate_annotations(annotations: Mapping[str, str] | None, path: str) -> list[FieldError]:
    """Keys are checked as label keys, except that case does not matter; all together may be 256 KiB."""
    if not annotations:
        return []
    errors = []
    size = 0
    for key, value in sorted(annotations.items()):
        errors += [invalid(path, key, text) for text in is_qualified_name(key.lower())]
        size += len(key.encode()) + len(value.encode())
    if size > MAX_ANNOTATIONS_SIZE:
        errors.append(too_long(path, MAX_ANNOTATIONS_SIZE))
    return errors


# Each of these errors shows the whole list, which may be as large as a request.
_MOST_SHOWN_WHOLE: Final = 10


def _shown_owner(reference: Mapping[str, Any]) -> Object:
    """As Go writes it: what must be there is, and all in its order."""
    shown = {name: reference.get(name) or "" for name in ("apiVersion", "kind", "name", "uid")}
    return shown | {
        name: reference[name] for name in ("controller", "blockOwnerDeletion") if reference.get(name) is not None
    }


def _owner_references(references: Sequence[Mapping[str, Any]], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    controller, more_controllers = "", 0
    for reference in references:
        api_version, kind = reference.get("apiVersion") or "", reference.get("kind") or ""
        if api_version.count("/") > 1 or not api_version.rpartition("/")[2]:
            errors.append(invalid(child(path, "apiVersion"), api_version, "version must not be empty"))
        for name in ("kind", "name", "uid"):
            if not reference.get(name):
                errors.append(invalid(child(path, name), "", "must not be empty"))
        if (api_version, kind) == ("v1", "Event"):
            errors.append(invalid(path, _shown_owner(reference), "/v1, Kind=Event is disallowed from being an owner"))
        if reference.get("controller"):
            found = f"{kind}/{reference.get('name') or ''}"
            if controller:
                text = (
                    'Only one reference can have Controller set to true. Found "true" in references for '
                    f"{controller} and {found}"
                )
                more_controllers += 1
                if more_controllers <= _MOST_SHOWN_WHOLE:
                    errors.append(invalid(path, list(map(_shown_owner, references)), text))
            else:
                controller = found
    return errors


def dedup_owners(meta: Object) -> list[str]:
    """Leave each owner reference once; the uids of those that were there again. The list is made new."""
    references = meta.get("ownerReferences") or ()
    if len(references) < 2:
        return []
    kept: dict[bytes, Any] = {}  # by what they say: there may be many thousands
    again: list[str] = []
    for reference in references:
        if kept.setdefault(orjson.dumps(reference, option=orjson.OPT_SORT_KEYS), reference) is not reference:
            again.append(reference.get("uid", ""))
    if again:
        meta["ownerReferences"] = list(kept.values())
    return again


def validate_finalizers(finalizers: Iterable[str], path: str) -> list[FieldError]:
    """Label keys, and not both of those that say what becomes of dependents."""
    found = list(finalizers)
    errors = [invalid(path, name, text) for name in found for text in is_qualified_name(name)]
    if _ORPHAN in found and _FOREGROUND in found:
        errors.append(invalid(path, found, f"finalizer {_ORPHAN} and {_FOREGROUND} cannot be both set"))
    return errors


def validate_field_manager(manager: str, path: str) -> list[FieldError]:
    """At most 128 bytes, printable."""
    if _is_plain(manager):
        return []
    errors = []
    if len(manager.encode()) > MAX_FIELD_MANAGER_LENGTH:
        errors.append(too_long(path, MAX_FIELD_MANAGER_LENGTH))
    position = 0
    for char in manager:
        if not char.isprintable():
            text = f"invalid character U+{ord(char):04X} (at position {position})"
            errors.append(invalid(path, manager, text))
        position += len(char.encode())
    return errors


def _is_plain(manager: str) -> bool:
    return len(manager) <= MAX_FIELD_MANAGER_LENGTH and manager.isascii() and manager.isprintable()


def _managed_fields(entries: Sequence[Mapping[str, Any]], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for place, entry in enumerate(entries):
        operation, kind = entry.get("operation") or "", entry.get("fieldsType") or ""
        if operation not in ("Apply", "Update"):
            where = child(index(path, place), "operation")
            errors.append(invalid(where, operation, "must be `Apply` or `Update`"))
        if kind not in ("", "FieldsV1"):
            errors.append(invalid(child(index(path, place), "fieldsType"), kind, "must be `FieldsV1`"))
        manager, subresource = entry.get("manager") or "", entry.get("subresource") or ""
        if not _is_plain(manager):
            errors += validate_field_manager(manager, child(index(path, place), "manager"))
        if subresource and len(subresource.encode()) > _MAX_SUBRESOURCE_LENGTH:
            errors.append(too_long(child(index(path, place), "subresource"), _MAX_SUBRESOURCE_LENGTH))
    return errors


# --- metadata without the object ---------------------------------------------------------------------------------


def partial(obj: Mapping[str, Any], version: str = "v1") -> Object:
    """The object as PartialObjectMetadata of meta.k8s.io in `version`."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": obj.get("metadata") or {},
    }


def partial_list(items: Iterable[Mapping[str, Any]], list_meta: Mapping[str, Any], version: str = "v1") -> Object:
    """A PartialObjectMetadataList; `list_meta` is the list's metadata (resourceVersion, continue …)."""
    return {
        "kind": "PartialObjectMetadataList",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": dict(list_meta),
        "items": [partial(item, version) for item in items],
    }
