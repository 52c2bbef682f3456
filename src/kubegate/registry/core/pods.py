"""Pods: a spec that hardly changes, a status, and what else is done to them (resize, debug, bind, evict)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kubegate.api import Object, clone, field, names
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope, goshape
from kubegate.registry.canonical import Defaulted
from kubegate.registry.checks import ip, is_dual_stack, listed, mapped, qualified_name, repeated, wrong
from kubegate.registry.core import bindings, evictions
from kubegate.registry.core.podspec import podannotations, resources, scheduling, spec, warnings
from kubegate.registry.core.podspec.defaults import default_pod
from kubegate.registry.core.podspec.features import drop_disabled
from kubegate.registry.core.podspec.options import Options
from kubegate.registry.objectmeta import checked

_MAX_INT32: Final = 2**31 - 1
_UPDATABLE: Final = ",".join(
    (
        "`spec.containers[*].image`",
        "`spec.initContainers[*].image`",
        "`spec.activeDeadlineSeconds`",
        "`spec.tolerations` (only additions to existing tolerations)",
        "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
    )
)
# What stays as it was on a subresource that changes a part of the spec (ResetObjectMetaForStatus).
_KEPT_METADATA: Final = ("deletionTimestamp", "labels", "annotations", "finalizers", "ownerReferences")


def _default(pod: Object) -> None:
    default_pod(pod)
    _sync_addresses(pod["status"])


def _sync_addresses(status: Object) -> None:
    """`podIP` is the first of `podIPs`, and leads where they differ."""
    first, addresses = status.get("podIP", ""), listed(status, "podIPs")
    if first and (not addresses or addresses[0].get("ip") != first):
        status["podIPs"] = [{"ip": first}]
    elif addresses and not first:
        status["podIP"] = addresses[0].get("ip", "")


def _options(pod: Object, scope: Scope) -> Options:
    metadata = pod["metadata"]
    return Options(
        is_pod=True,
        pod_name=metadata.get("name", ""),
        mirror=podannotations.MIRROR in mapped(metadata, "annotations"),
        allow_privileged=bool(scope.registry.extensions.get("allow_privileged", True)),
    )


# ---------------------------------------------------------------------- the pod itself
def _prepare(pod: Object, old: Object | None, scope: Scope) -> None:
    found = pod["spec"]
    drop_disabled(found, None if old is None else old["spec"])
    if old is not None:
        return
    status: Object = {"phase": "Pending", "qosClass": resources.quality_of_service(found)}
    if listed(found, "schedulingGates"):
        status["conditions"] = [
            {
                "type": "PodScheduled",
                "status": "False",
                "lastProbeTime": None,
                "lastTransitionTime": None,
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
                "observedGeneration": 1,
            }
        ]
    pod["status"] = status
    _merge_label_keys(found, mapped(pod["metadata"], "labels"))


def _merge_label_keys(found: Object, labels: Mapping[str, str]) -> None:
    """`matchLabelKeys` become part of the selectors, with the new pod's own values."""
    affinity = mapped(found, "affinity")
    for name in ("podAffinity", "podAntiAffinity"):
        own = mapped(affinity, name)
        for term in listed(own, "preferredDuringSchedulingIgnoredDuringExecution"):
            _merge_term(mapped(term, "podAffinityTerm"), labels)
        for term in listed(own, "requiredDuringSchedulingIgnoredDuringExecution"):
            _merge_term(term, labels)
    for constraint in listed(found, "topologySpreadConstraints"):
        _merge_term(constraint, labels)


def _merge_term(term: Object, labels: Mapping[str, str]) -> None:
    selector = term.get("labelSelector")
    if not isinstance(selector, dict):
        return
    for keys, operator in (("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")):
        for key in listed(term, keys):
            if key in labels:
                requirement = {"key": key, "operator": operator, "values": [labels[key]]}
                selector.setdefault("matchExpressions", []).append(requirement)


def _validate(pod: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    errors = spec.validate_pod(pod, _options(pod, scope))
    if old is not None:
        return errors + _validate_update(pod, old)
    found = pod["spec"]
    if listed(found, "ephemeralContainers"):
        errors.append(field.forbidden("spec.ephemeralContainers", "cannot be set on create"))
    if found.get("nodeName") and listed(found, "schedulingGates"):
        text = "cannot be set until all schedulingGates have been cleared"
        errors.append(field.forbidden("spec.nodeName", text))
    return errors + podannotations.match_fields(mapped(pod["metadata"], "annotations"), found, "spec")


def _annotation_updates(pod: Object, old: Object) -> list[FieldError]:
    new, before = mapped(pod["metadata"], "annotations"), mapped(old["metadata"], "annotations")
    return podannotations.updates(new, before, "metadata.annotations")


def _validate_update(pod: Object, old: Object) -> list[FieldError]:
    errors = _annotation_updates(pod, old)
    new, before = pod["spec"], old["spec"]
    for name in ("containers", "initContainers"):
        path = field.child("spec", name)
        if len(listed(new, name)) != len(listed(before, name)):
            errors.append(field.forbidden(path, "pod updates may not add or remove containers"))
            return errors
        for position, container in enumerate(listed(new, name)):
            here, image = field.child(field.index(path, position), "image"), container.get("image", "")
            if not image:
                errors.append(field.required(here))
            if image.strip() != image:
                errors.append(field.invalid(here, image, "must not have leading or trailing whitespace"))
    bad_deadline = _deadline(new.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds"))
    errors += bad_deadline
    if bad_deadline and "activeDeadlineSeconds" in new:
        return errors
    tolerations, old_tolerations = listed(new, "tolerations"), listed(before, "tolerations")
    errors += scheduling.only_added_tolerations(tolerations, old_tolerations, "spec.tolerations")
    gates, old_gates = listed(new, "schedulingGates"), listed(before, "schedulingGates")
    errors += scheduling.only_deleted_gates(gates, old_gates, "spec.schedulingGates")
    if new == before:
        return errors
    munged = _with_old_updatables(new, before)
    if old_gates:
        errors += _gated(munged, before)
    if munged != before:
        text = f"pod updates may not change fields other than {_UPDATABLE}\n"
        errors.append(field.forbidden("spec", text + goshape.diff(before, munged, "PodSpec")))
    return errors


def _deadline(new: int | None, old: int | None) -> list[FieldError]:
    path = "spec.activeDeadlineSeconds"
    if new is None:
        if old is None:
            return []
        return [field.invalid(path, None, "must not update from a positive integer to nil value")]
    if not 0 <= new <= _MAX_INT32:
        return [field.invalid(path, new, names.inclusive_range_error(0, _MAX_INT32))]
    if old is not None and old < new:
        return [field.invalid(path, new, "must be less than or equal to previous value")]
    return []


def _with_old_updatables(new: Object, before: Object) -> Object:
    """The new spec as it would be had nothing been changed that may change."""
    munged = clone(new)
    for name in ("containers", "initContainers"):
        for container, own in zip(listed(munged, name), listed(before, name), strict=True):
            container["image"] = own.get("image", "")
    for name in ("activeDeadlineSeconds", "schedulingGates", "tolerations"):
        _restore(munged, before, name)
    period = before.get("terminationGracePeriodSeconds")
    if period is not None and period < 0 and munged.get("terminationGracePeriodSeconds") == 1:
        munged["terminationGracePeriodSeconds"] = period
    return munged


def _restore(new: Object, old: Object, name: str) -> None:
    if name in old:
        new[name] = old[name]
    else:
        new.pop(name, None)


def _gated(munged: Object, before: Object) -> list[FieldError]:
    """A pod that waits at gates may be told more narrowly where to run."""
    errors = []
    new_selector, old_selector = mapped(munged, "nodeSelector"), mapped(before, "nodeSelector")
    if new_selector != old_selector:
        errors += scheduling.node_selector_only_grew(new_selector, old_selector, "spec.nodeSelector")
        _restore(munged, before, "nodeSelector")
    new, old = mapped(munged, "affinity"), mapped(before, "affinity")
    if new.get("nodeAffinity") != old.get("nodeAffinity"):
        path = "spec.affinity.nodeAffinity"
        errors += scheduling.node_affinity_only_grew(new.get("nodeAffinity"), old.get("nodeAffinity"), path)
        kept = {name: value for name, value in new.items() if name != "nodeAffinity"}
        if "nodeAffinity" in old:
            kept["nodeAffinity"] = old["nodeAffinity"]
        if kept or "affinity" in before:
            munged["affinity"] = kept
        else:
            munged.pop("affinity", None)
    return errors


def _warnings(pod: Object, old: Object | None) -> list[str]:
    if old is not None:
        return []
    found = []
    texts = names.is_dns1123_label(pod["metadata"].get("name", ""))
    if texts:
        found.append(
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; "
            f"a DNS label is recommended: [{' '.join(texts)}]"
        )
    return found + warnings.of_pod(pod["metadata"], pod["spec"])


def _fields(pod: Object) -> dict[str, str]:
    found, status = pod.get("spec") or {}, pod.get("status") or {}
    return {
        "spec.nodeName": found.get("nodeName", ""),
        "spec.host": found.get("nodeName", ""),  # what it was called of old
        "spec.restartPolicy": found.get("restartPolicy", ""),
        "spec.schedulerName": found.get("schedulerName", ""),
        "spec.serviceAccountName": found.get("serviceAccountName", ""),
        "spec.hostNetwork": "true" if found.get("hostNetwork") else "false",
        "status.phase": status.get("phase", ""),
        "status.podIP": status.get("podIP", ""),
        "status.podIPs": "",  # may be asked for, and is nowhere
        "status.nominatedNodeName": status.get("nominatedNodeName", ""),
    }


def _grace(pod: Object, options: Mapping[str, Any]) -> int:
    asked = options.get("gracePeriodSeconds")
    period: int = asked if asked is not None else pod["spec"].get("terminationGracePeriodSeconds", 0)
    if not pod["spec"].get("nodeName") or pod.get("status", {}).get("phase") in ("Failed", "Succeeded"):
        period = 0
    return period if period >= 0 else 1


# ---------------------------------------------------------------------- status
def _prepare_status(pod: Object, old: Object | None, scope: Scope) -> None:
    assert old is not None
    _restore(pod["metadata"], old["metadata"], "ownerReferences")
    status, before = pod.setdefault("status", {}), mapped(old, "status")
    if not status.get("qosClass") and before.get("qosClass"):
        status["qosClass"] = before["qosClass"]
    if not status.get("observedGeneration") and before.get("observedGeneration"):
        status["observedGeneration"] = before["observedGeneration"]
    generations: dict[str, list[int]] = {}
    for condition in listed(before, "conditions"):
        generations.setdefault(condition.get("type", ""), []).append(condition.get("observedGeneration", 0))
    for condition in listed(status, "conditions"):
        waiting = generations.get(condition.get("type", ""))
        generation = waiting.pop(0) if waiting else 0
        if generation and not condition.get("observedGeneration"):
            condition["observedGeneration"] = generation


def _validate_status(pod: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    assert old is not None
    status, before, found = mapped(pod, "status"), mapped(old, "status"), pod["spec"]
    errors = _annotation_updates(pod, old)
    for position, condition in enumerate(listed(status, "conditions")):
        here, kind = field.index("status.conditions", position), condition.get("type", "")
        if condition.get("observedGeneration", 0) < 0:
            text = "must be a non-negative integer"
            path = field.child(here, "observedGeneration")
            errors.append(field.invalid(path, condition["observedGeneration"], text))
        if kind not in ("PodScheduled", "Ready", "Initialized"):
            errors += qualified_name(kind, field.child(here, "Type"))
    nominated = status.get("nominatedNodeName", "")
    if nominated and nominated != before.get("nominatedNodeName", ""):
        errors += wrong("status.nominatedNodeName", nominated, names.is_dns1123_subdomain(nominated))
        if found.get("nodeName"):
            text = "may not be set on pods that are already bound to a node"
            errors.append(field.forbidden("status.nominatedNodeName", text))
    if status.get("observedGeneration", 0) < 0:
        text = "must be a non-negative integer"
        errors.append(field.invalid("status.observedGeneration", status["observedGeneration"], text))
    errors += field.immutable("status.qosClass", status.get("qosClass", ""), before.get("qosClass", ""))
    for name, containers in (
        ("containerStatuses", "containers"),
        ("initContainerStatuses", "initContainers"),
        ("ephemeralContainerStatuses", ""),
    ):
        errors += _transitions(
            listed(status, name), listed(before, name), field.child("status", name), found, containers
        )
    errors += _addresses(listed(status, "podIPs"), "status.podIPs")
    host_ips = listed(status, "hostIPs")
    if host_ips and status.get("hostIP", "") != host_ips[0].get("ip", ""):
        errors.append(field.invalid("status.hostIPs[0].ip", host_ips[0].get("ip", ""), "must be equal to `hostIP`"))
    return errors + _addresses(host_ips, "status.hostIPs")


def _addresses(found: list[Object], path: str) -> list[FieldError]:
    errors = []
    addresses = [one.get("ip", "") for one in found]
    for position, address in enumerate(addresses):
        errors += ip(address, field.index(path, position))
    if len(addresses) > 1 and (len(addresses) > 2 or not is_dual_stack(addresses)):
        shown = [{"IP": address} for address in addresses]
        errors.append(field.invalid(path, shown, "may specify no more than one IP for each IP family"))
    twice = [
        field.duplicate(field.index(path, position), {"IP": addresses[position]})
        for position in sorted(repeated(addresses))
    ]
    return errors + twice


def _transitions(new: list[Object], old: list[Object], path: str, found: Object, containers: str) -> list[FieldError]:
    """A container that has ended stays so, unless its policy lets it start again."""
    errors = []
    now = {one.get("name", ""): one for one in reversed(new)}
    by_name = {one.get("name", ""): one for one in listed(found, containers)} if containers else {}
    for position, before in enumerate(old):
        ended = mapped(before, "state").get("terminated")
        after = now.get(before.get("name", ""))
        if ended is None or after is None or "terminated" in mapped(after, "state"):
            continue
        container = by_name.get(before.get("name", ""))
        if container is None or not _may_restart(container, found, ended.get("exitCode", 0)):
            here = field.child(field.index(path, position), "state")
            errors.append(field.forbidden(here, "may not be transitioned to non-terminated state"))
    return errors


def _may_restart(container: Object, found: Object, exit_code: int) -> bool:
    for rule in listed(container, "restartPolicyRules"):
        codes = mapped(rule, "exitCodes")
        among = exit_code in listed(codes, "values")
        if among == (codes.get("operator") == "In"):
            return True
    policy = container.get("restartPolicy") or found.get("restartPolicy")
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


# ---------------------------------------------------------------------- ephemeralcontainers, resize
def _keep_but(pod: Object, old: Object, changed: Mapping[str, Any]) -> None:
    """The old pod with these fields of its spec changed."""
    pod["spec"] = {**old["spec"], **changed}
    for name, value in changed.items():
        if not value:
            pod["spec"].pop(name)
    pod["status"] = old.get("status", {})
    for name in _KEPT_METADATA:
        _restore(pod["metadata"], old["metadata"], name)


def _prepare_ephemeral(pod: Object, old: Object | None, scope: Scope) -> None:
    assert old is not None
    _keep_but(pod, old, {"ephemeralContainers": listed(pod["spec"], "ephemeralContainers")})


def _validate_ephemeral(pod: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    assert old is not None
    if podannotations.MIRROR in mapped(old["metadata"], "annotations"):
        return [field.forbidden("[]", "static pods do not support ephemeral containers")]
    errors = spec.validate_pod(pod, _options(pod, scope)) + _annotation_updates(pod, old)
    path = "spec.ephemeralContainers"
    now = {one.get("name", ""): one for one in listed(pod["spec"], "ephemeralContainers")}
    for container in listed(old["spec"], "ephemeralContainers"):
        name = container.get("name", "")
        if name not in now:
            errors.append(field.forbidden(path, f'existing ephemeral containers "{name}" may not be removed\n'))
        elif now[name] != container:
            difference = goshape.diff(container, now[name], "EphemeralContainer")
            text = f'existing ephemeral containers "{name}" may not be changed\n{difference}'
            errors.append(field.forbidden(path, text))
    return errors


def _prepare_resize(pod: Object, old: Object | None, scope: Scope) -> None:
    assert old is not None
    new, before = pod["spec"], old["spec"]
    if any(len(listed(new, name)) != len(listed(before, name)) for name in ("containers", "initContainers")):
        return
    changed = {name: _resized(listed(new, name), listed(before, name)) for name in ("initContainers", "containers")}
    _keep_but(pod, old, {**changed, "resources": new.get("resources")})


def _resized(new: list[Object], old: list[Object]) -> list[Object]:
    """The old containers with the new ones' resources; the new ones where they were renamed or moved."""
    merged = []
    for container, before in zip(new, old, strict=True):
        if container.get("name") != before.get("name"):
            return new
        own = dict(before)
        for name in ("resources", "resizePolicy"):
            _restore(own, container, name)
        merged.append(own)
    return merged


def _validate_resize(pod: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    assert old is not None
    if podannotations.MIRROR in mapped(old["metadata"], "annotations"):
        return [field.forbidden("[]", "static pods cannot be resized")]
    new, before = pod["spec"], old["spec"]
    if mapped(before, "os").get("name") == "windows":
        return [field.forbidden("[]", "windows pods cannot be resized")]
    errors = spec.validate_pod(pod, _options(pod, scope))
    quality = mapped(old, "status").get("qosClass") or resources.quality_of_service(before)
    if quality != resources.quality_of_service(new):
        shown = mapped(pod, "status").get("qosClass", "")
        errors.append(field.invalid("spec", shown, "Pod QOS Class may not change as a result of resizing"))
    for one in listed(mapped(old, "status"), "containerStatuses"):
        if "running" in mapped(one, "state"):
            if "resources" not in one:
                errors.append(field.forbidden("spec", "Pod running on node without support for resize"))
            break
    errors += _pod_level_resize(new.get("resources"), before.get("resources"))
    order = _resize_order(new, before)
    return errors + (order or _resize_changes(new, before))


def _resize_order(new: Object, before: Object) -> list[FieldError]:
    errors = []
    for name in ("containers", "initContainers"):
        path = field.child("spec", name)
        if len(listed(new, name)) != len(listed(before, name)):
            errors.append(field.forbidden(path, f"{name} may not be added or removed on resize"))
            continue
        for position, (container, own) in enumerate(zip(listed(new, name), listed(before, name), strict=True)):
            if container.get("name") != own.get("name"):
                here = field.child(field.index(path, position), "name")
                errors.append(field.forbidden(here, f"{name} may not be renamed or reordered on resize"))
    return errors


def _resize_changes(new: Object, before: Object) -> list[FieldError]:
    """What was taken away, and what was changed besides the amounts of cpu and memory."""
    taken: list[FieldError] = []
    changed: dict[str, list[FieldError]] = {"containers": [], "initContainers": []}
    for name in ("initContainers", "containers"):
        for position, (container, own) in enumerate(zip(listed(new, name), listed(before, name), strict=True)):
            here = field.index(field.child("spec", name), position)
            for which in ("requests", "limits"):
                kept = mapped(container.get("resources"), which)
                if mapped(own.get("resources"), which).keys() - kept.keys():
                    where = field.child(field.child(here, "resources"), which)
                    taken.append(field.forbidden(where, f"resource {which} cannot be removed"))
            changed[name] += _container_resize(container, own, here if name == "initContainers" else "")
    return taken + changed["containers"] + changed["initContainers"]


def _container_resize(container: Object, own: Object, init: str) -> list[FieldError]:
    """`init` is the path of an init container, or empty."""
    if container == own:
        return []
    errors = []
    if _without_cpu_and_memory(container) != _without_cpu_and_memory(own):
        text = "only cpu and memory resources are mutable"
        if init:
            text = "only cpu and memory resources for init or sidecar containers are mutable"
        errors.append(field.forbidden(init or "spec", text))
    restarts = any(one.get("restartPolicy") == "RestartContainer" for one in listed(container, "resizePolicy"))
    if init and own.get("restartPolicy") != "Always" and restarts:
        text = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized"
        errors.append(field.forbidden(init, text))
    return errors


def _without_cpu_and_memory(container: Object) -> Object:
    rest: Object = {name: value for name, value in container.items() if name not in ("resources", "resizePolicy")}
    rest["resources"] = _other_amounts(container.get("resources"))
    return rest


def _other_amounts(found: Any) -> Object:
    return {
        which: {name: value for name, value in mapped(found, which).items() if name not in ("cpu", "memory")}
        for which in ("requests", "limits")
    }


def _pod_level_resize(new: Any, before: Any) -> list[FieldError]:
    if before is not None and new is None:
        return [field.forbidden("spec.resources", "pod-level resources cannot be removed")]
    errors = []
    for which in ("requests", "limits"):
        if mapped(before, which).keys() - mapped(new, which).keys():
            text = f"pod-level resource {which} cannot be removed"
            errors.append(field.forbidden(f"spec.resources.{which}", text))
    if _other_amounts(new) != _other_amounts(before):
        errors.append(field.forbidden("spec", "only cpu and memory resources are mutable at pod-level"))
    return errors


RULES = Rules(
    default=Defaulted("io.k8s.api.core.v1.Pod", _default),
    prepare=_prepare,
    validate=checked(_validate, again="subdomain"),
    warnings=_warnings,
    fields=_fields,
    field_labels=tuple(_fields({})),
    status=True,
    generation=True,
    returns_deleted=True,
    graceful=_grace,
    subresources={
        "status": Rules(prepare=_prepare_status, validate=checked(_validate_status)),
        "ephemeralcontainers": Rules(
            prepare=_prepare_ephemeral, validate=checked(_validate_ephemeral, again="subdomain")
        ),
        "resize": Rules(prepare=_prepare_resize, validate=checked(_validate_resize, again="subdomain")),
    },
    connect={"binding": bindings.bind, "eviction": evictions.evict},
)
