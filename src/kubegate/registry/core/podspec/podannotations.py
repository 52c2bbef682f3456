"""Annotations of pods that mean something, and fields that must agree with them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from kubegate.api import Object, field
from kubegate.api.field import FieldError
from kubegate.api.metadata import validate_annotations
from kubegate.registry.checks import descending_path, mapped
from kubegate.registry.core.podspec import security
from kubegate.registry.core.podspec.options import Options

MIRROR: Final = "kubernetes.io/config.mirror"
DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"
_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]{0,9}")
_SECCOMP_POD: Final = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER: Final = "container.seccomp.security.alpha.kubernetes.io/"
_APP_ARMOR: Final = "container.apparmor.security.beta.kubernetes.io/"


def validate(found: Mapping[str, str], spec: Object, path: str, options: Options) -> list[FieldError]:
    """A template's annotations: their form, and what the known ones say."""
    return validate_annotations(found, path) + validate_own(found, spec, path, options)


def validate_own(found: Mapping[str, str], spec: Object, path: str, options: Options) -> list[FieldError]:
    """What the known ones say; their form has been checked with the metadata."""
    errors = []
    if MIRROR in found and not spec.get("nodeName"):
        text = "must set spec.nodeName if mirror pod annotation is set"
        errors.append(field.invalid(field.key(path, MIRROR), found[MIRROR], text))
    if not options.allow_invalid_deletion_cost and DELETION_COST in found and not _is_int32(found[DELETION_COST]):
        text = "must be a 32bit integer"
        errors.append(field.invalid(field.key(path, DELETION_COST), found[DELETION_COST], text))
    for name, profile in sorted(found.items()):
        if name == _SECCOMP_POD or name.startswith(_SECCOMP_CONTAINER):
            errors += _seccomp(profile, field.child(path, name))
    known = {container.get("name", "") for container, _ in security.every_container(spec, "")}
    for name, profile in sorted(found.items()):
        if name.startswith(_APP_ARMOR):
            container, here = name.removeprefix(_APP_ARMOR), field.key(path, name)
            if container not in known:
                errors.append(field.invalid(here, container, "container not found"))
            if profile not in ("", "runtime/default", "unconfined") and not profile.startswith("localhost/"):
                errors.append(field.invalid(here, profile, f"invalid AppArmor profile name: {field.quoted(profile)}"))
    return errors


def _is_int32(text: str) -> bool:
    return _INTEGER.fullmatch(text) is not None and -(2**31) <= int(text) < 2**31


def _seccomp(profile: str, path: str) -> list[FieldError]:
    if profile in ("runtime/default", "docker/default", "unconfined"):
        return []
    if profile.startswith("localhost/"):
        return descending_path(profile.removeprefix("localhost/"), path)
    return [field.invalid(path, profile, "must be a valid seccomp profile")]


def updates(new: Mapping[str, str], old: Mapping[str, str], path: str) -> list[FieldError]:
    """What may not come, go or change on a pod that is there."""
    errors = []
    for name, value in sorted(old.items()):
        if new.get(name) == value:
            continue
        if name.startswith(_APP_ARMOR):
            errors.append(field.forbidden(field.key(path, name), "may not remove or update AppArmor annotations"))
        if name == MIRROR:
            errors.append(field.forbidden(field.key(path, name), "may not remove or update mirror pod annotation"))
    for name in sorted(new.keys() - old.keys()):
        if name.startswith(_APP_ARMOR):
            errors.append(field.forbidden(field.key(path, name), "may not add AppArmor annotations"))
        if name == MIRROR:
            errors.append(field.forbidden(field.key(path, name), "may not add mirror pod annotation"))
    return errors


def match_fields(found: Mapping[str, str], spec: Object, path: str) -> list[FieldError]:
    """Profiles given as an annotation and as a field must be the same, on create."""
    errors = []
    context = mapped(spec, "securityContext")
    if _SECCOMP_POD in found:
        profile_path = field.child(path, "securityContext.seccompProfile")
        errors += _same_seccomp(found[_SECCOMP_POD], context.get("seccompProfile"), profile_path)
    for container, here in security.every_container(spec, path):
        name = _SECCOMP_CONTAINER + container.get("name", "")
        if name in found:
            own = mapped(container, "securityContext").get("seccompProfile")
            errors += _same_seccomp(found[name], own, field.child(here, "securityContext.seccompProfile"))
    if mapped(spec, "os").get("name") == "windows":
        return errors
    for container, here in security.every_container(spec, path):
        name = _APP_ARMOR + container.get("name", "")
        if name in found:
            own = mapped(container, "securityContext").get("appArmorProfile") or context.get("appArmorProfile")
            errors += _same(found[name], own, field.child(here, "securityContext.appArmorProfile"), "apparmor", ())
    return errors


def _same_seccomp(annotation: str, profile: Any, path: str) -> list[FieldError]:
    return _same(annotation, profile, path, "seccomp", ("docker/default",))


def _same(annotation: str, profile: Any, path: str, what: str, also_default: tuple[str, ...]) -> list[FieldError]:
    if not isinstance(profile, dict):
        return []
    kind = profile.get("type")
    type_error = [field.forbidden(field.child(path, "type"), f"{what} type in annotation and field must match")]
    if kind == "Unconfined":
        return [] if annotation == "unconfined" else type_error
    if kind == "RuntimeDefault":
        return [] if annotation in ("runtime/default", *also_default) else type_error
    if kind == "Localhost":
        if not annotation.startswith("localhost/"):
            return type_error
        if annotation.removeprefix("localhost/") != profile.get("localhostProfile"):
            text = f"{what} profile in annotation and field must match"
            return [field.forbidden(field.child(path, "localhostProfile"), text)]
    return []
