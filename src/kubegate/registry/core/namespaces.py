"""Namespaces: a phase of their own, and finalizers in their spec that only `finalize` may change."""

from __future__ import annotations

from kubegate.api import Object, field, names
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope
from kubegate.registry.canonical import Defaulted
from kubegate.registry.checks import wrong
from kubegate.registry.objectmeta import checked, finalizer_name

NAME_LABEL = "kubernetes.io/metadata.name"
_KUBERNETES_FINALIZER = "kubernetes"


def _default(obj: Object) -> None:
    metadata = obj.setdefault("metadata", {})
    if metadata.get("name"):
        metadata.setdefault("labels", {})[NAME_LABEL] = metadata["name"]
    obj["status"].setdefault("phase", "Active")


def _prepare(obj: Object, old: Object | None, scope: Scope) -> None:
    if old is not None:
        obj["spec"] = old.get("spec", {})
        return
    # The name may have been generated after defaulting.
    obj["metadata"].setdefault("labels", {})[NAME_LABEL] = obj["metadata"].get("name", "")
    spec = obj.setdefault("spec", {})
    finalizers = spec.setdefault("finalizers", [])
    if _KUBERNETES_FINALIZER not in finalizers:
        finalizers.append(_KUBERNETES_FINALIZER)
    obj["status"] = {"phase": "Active"}


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    if old is not None:
        return []
    errors = []
    for finalizer in obj["spec"].get("finalizers") or []:
        errors += _finalizer(finalizer, "spec.finalizers")
    return errors


def _finalizer(value: str, path: str) -> list[FieldError]:
    return wrong(path, value, names.is_qualified_name(value)) + finalizer_name(value, path)


def _validate_status(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    phase = obj.get("status", {}).get("phase", "")
    deleting = "deletionTimestamp" in obj["metadata"]
    wanted = "Terminating" if deleting else "Active"
    if phase == wanted:
        return []
    state = "is not empty" if deleting else "is empty"
    return [field.invalid("status.Phase", phase, f"may only be '{wanted}' if `deletionTimestamp` {state}")]


def _prepare_finalize(obj: Object, old: Object | None, scope: Scope) -> None:
    assert old is not None
    if "status" in old:
        obj["status"] = old["status"]


def _validate_finalize(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    errors = []
    for position, finalizer in enumerate(obj.get("spec", {}).get("finalizers") or []):
        errors += _finalizer(finalizer, field.index("spec.finalizers", position))
    return errors


def _fields(obj: Object) -> dict[str, str]:
    return {"status.phase": obj.get("status", {}).get("phase", "")}


def _deleting(obj: Object) -> None:
    obj["status"] = {**obj.get("status", {}), "phase": "Terminating"}
    # A namespace goes when it is empty, however long that takes.
    obj["metadata"].pop("deletionGracePeriodSeconds", None)


def _held(obj: Object) -> bool:
    return bool((obj.get("spec") or {}).get("finalizers"))


RULES = Rules(
    default=Defaulted("io.k8s.api.core.v1.Namespace", _default),
    prepare=_prepare,
    validate=checked(_validate, again="label"),
    fields=_fields,
    field_labels=("status.phase",),
    name="label",
    status=True,
    deleting=_deleting,
    held=_held,
    subresources={
        "status": Rules(validate=checked(_validate_status)),
        "finalize": Rules(prepare=_prepare_finalize, validate=checked(_validate_finalize)),
    },
)
