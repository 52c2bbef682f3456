"""What deleting an object means: preconditions, grace, and the finalizers that hold it.

Follows rest.BeforeDelete and the generic registry store of k8s.io/apiserver.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubegate.api import Object, clone, field, status
from kubegate.api.clock import rfc3339
from kubegate.api.resources import Resource
from kubegate.registry import Rules

ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"


def check_options(options: Mapping[str, Any]) -> None:
    """Raises the 422 that bad DeleteOptions get."""
    errors = []
    policy = options.get("propagationPolicy")
    if policy is not None and options.get("orphanDependents") is not None:
        errors.append(
            field.invalid("propagationPolicy", policy, "orphanDependents and deletionPropagation cannot be both set")
        )
    if policy is not None and policy not in ("Foreground", "Background", "Orphan"):
        supported = ("Foreground", "Background", "Orphan", "nil")
        errors.append(field.not_supported("propagationPolicy", policy, supported))
    dry_run = options.get("dryRun")
    if dry_run and any(value != "All" for value in dry_run):
        errors.append(field.not_supported("dryRun", dry_run, ("All",)))
    if errors:
        raise status.invalid("meta.k8s.io", "DeleteOptions", "", errors)


def check_preconditions(resource: Resource, obj: Object, options: Mapping[str, Any]) -> None:
    """Raises 409 where the object is not the one that the caller means."""
    wanted = options.get("preconditions") or {}
    metadata = obj["metadata"]
    name = metadata["name"]
    if wanted.get("uid") is not None and wanted["uid"] != metadata.get("uid"):
        text = (
            f"the UID in the precondition ({wanted['uid']}) does not match the UID in record ({metadata.get('uid')}). "
            "The object might have been deleted and then recreated"
        )
        raise status.conflict(resource.group, resource.kind, name, text)
    if wanted.get("resourceVersion") is not None and wanted["resourceVersion"] != metadata.get("resourceVersion"):
        text = (
            f"the ResourceVersion in the precondition ({wanted['resourceVersion']}) does not match the "
            f"ResourceVersion in record ({metadata.get('resourceVersion')}). The object might have been modified"
        )
        raise status.conflict(resource.group, resource.kind, name, text)


def marked(obj: Object, rules: Rules, options: Mapping[str, Any], now: float) -> Object | None:
    """The object as it must be stored to wait for its end, or None where it may go at once.

    Where nothing is to be changed (it is waiting already) the same object is returned.
    """
    metadata = obj["metadata"]
    finalizers = _finalizers(metadata.get("finalizers") or [], options, rules)
    held = bool(finalizers) or (rules.held is not None and rules.held(obj))
    grace = rules.graceful(obj, options) if rules.graceful is not None else 0
    if "deletionTimestamp" in metadata:
        remaining = metadata.get("deletionGracePeriodSeconds", 0)
        # A second delete may shorten the grace, never lengthen it.
        grace = min(grace, remaining)
        if grace == 0 and not held:
            return None
        if grace == remaining and finalizers == (metadata.get("finalizers") or []):
            return obj
    elif grace == 0 and not held:
        return None
    return _waiting(obj, rules, grace, now, finalizers)


def last_form(obj: Object, rules: Rules, now: float) -> Object | None:
    """The form in which an object that may go at once is stored before it goes; None where it just goes.

    A kind that knows grace is marked even where the grace is nought: those who watch see it end.
    """
    metadata = obj["metadata"]
    if rules.graceful is None or ("deletionTimestamp" in metadata and not metadata.get("deletionGracePeriodSeconds")):
        return None
    return _waiting(obj, rules, 0, now, metadata.get("finalizers") or [])


def _waiting(obj: Object, rules: Rules, grace: int, now: float, finalizers: list[str]) -> Object:
    """A copy that is marked to go after `grace` seconds, and after these finalizers (the kind may add its own)."""
    metadata = obj["metadata"]
    changed = clone(obj)
    meta = changed["metadata"]
    if "deletionTimestamp" not in metadata and meta.get("generation"):
        meta["generation"] += 1
    if "deletionTimestamp" not in metadata or grace != metadata.get("deletionGracePeriodSeconds", 0):
        meta["deletionTimestamp"] = rfc3339(now + grace)
        meta["deletionGracePeriodSeconds"] = grace
    if finalizers:
        meta["finalizers"] = list(finalizers)
    else:
        meta.pop("finalizers", None)
    if rules.deleting is not None:
        rules.deleting(changed)
    return changed


def says_what_of_dependents(options: Mapping[str, Any]) -> bool:
    return options.get("propagationPolicy") is not None or options.get("orphanDependents") is not None


def _finalizers(current: list[str], options: Mapping[str, Any], rules: Rules) -> list[str]:
    """The finalizers that the propagation asked for, or the kind's own, leaves or adds."""
    policy = options.get("propagationPolicy")
    orphan = options.get("orphanDependents")
    kept = [f for f in current if f not in (ORPHAN, FOREGROUND)]
    if rules.owns_nothing:
        return kept
    if not says_what_of_dependents(options):
        undecided = rules.orphans and ORPHAN not in current and FOREGROUND not in current
        return [*current, ORPHAN] if undecided else current
    wants_orphan = policy == "Orphan" or orphan is True
    wants_foreground = policy == "Foreground"
    if wants_orphan:
        kept.append(ORPHAN)
    if wants_foreground:
        kept.append(FOREGROUND)
    return kept


def may_be_removed(obj: Object, rules: Rules) -> bool:
    """An update that takes the last finalizer away from a deleted object ends it."""
    metadata = obj["metadata"]
    return (
        "deletionTimestamp" in metadata
        and not metadata.get("finalizers")
        and metadata.get("deletionGracePeriodSeconds", 0) == 0
        and not (rules.held is not None and rules.held(obj))
    )


def deleted_status(resource: Resource, obj: Object) -> Object:
    """What DELETE answers when the object is gone."""
    metadata = obj["metadata"]
    details = status.details(resource.group, resource.resource, metadata["name"], uid=metadata.get("uid", ""))
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
