"""APIServices: which groups and versions there are, and who serves them."""

from __future__ import annotations

from collections.abc import Iterable

from kubegate.api import Object, field, names
from kubegate.api.clock import rfc3339
from kubegate.api.field import FieldError
from kubegate.api.resources import Resources
from kubegate.registry import Rules, Scope
from kubegate.registry.canonical import Defaulted
from kubegate.registry.checks import mapped, wrong
from kubegate.registry.core.configmaps import decoded_size
from kubegate.registry.objectmeta import SAID_OF_IT, checked, keeping

_MAX_GROUP_PRIORITY, _MAX_VERSION_PRIORITY = 20000, 1000
# Priorities of the groups that this server itself serves; the version's is 15 but for those named after.
_GROUP_PRIORITY = {
    "": 18000,
    "apps": 17800,
    "events.k8s.io": 17750,
    "authentication.k8s.io": 17700,
    "authorization.k8s.io": 17600,
    "autoscaling": 17500,
    "batch": 17400,
    "certificates.k8s.io": 17300,
    "networking.k8s.io": 17200,
    "policy": 17100,
    "rbac.authorization.k8s.io": 17000,
    "storage.k8s.io": 16800,
    "apiextensions.k8s.io": 16700,
    "admissionregistration.k8s.io": 16700,
    "scheduling.k8s.io": 16600,
    "coordination.k8s.io": 16500,
    "node.k8s.io": 16300,
    "discovery.k8s.io": 16200,
    "resource.k8s.io": 16200,
    "flowcontrol.apiserver.k8s.io": 16100,
}
CUSTOM_PRIORITY = 1000
_VERSION_PRIORITY = {("", "v1"): 1, ("autoscaling", "v2"): 30, ("flowcontrol.apiserver.k8s.io", "v1"): 21}


def priority(group: str) -> int:
    """How early a group that is served here comes in discovery; its own comes first, those of custom resources last."""
    return _MAX_GROUP_PRIORITY if group == "apiregistration.k8s.io" else _GROUP_PRIORITY.get(group, CUSTOM_PRIORITY)


def local(resources: Resources) -> Iterable[Object]:
    """One for each group and version that this server itself serves, but for its own."""
    seen = set()
    for resource in resources:
        group, version = resource.group, resource.version
        if (group, version) in seen or group not in _GROUP_PRIORITY:
            continue
        seen.add((group, version))
        spec: Object = {"version": version}
        if group:
            spec["group"] = group
        spec["groupPriorityMinimum"] = _GROUP_PRIORITY[group]
        spec["versionPriority"] = _VERSION_PRIORITY.get((group, version), 15)
        labels = {"kube-aggregator.kubernetes.io/automanaged": "onstart"}
        yield {
            "kind": "APIService",
            "apiVersion": "apiregistration.k8s.io/v1",
            "metadata": {"name": f"{version}.{group}", "labels": labels},
            "spec": spec,
        }


def _default(obj: Object) -> None:
    obj.setdefault("metadata", {})
    service = obj.setdefault("spec", {}).get("service")
    if service is not None:
        service.setdefault("port", 443)


def _prepare(obj: Object, old: Object | None, scope: Scope) -> None:
    if old is not None:
        return
    obj["status"] = {}
    if obj["spec"].get("service") is None:
        available = {
            "type": "Available",
            "status": "True",
            "lastTransitionTime": rfc3339(scope.clock.now()),
            "reason": "Local",
            "message": "Local APIServices are always available",
        }
        obj["status"] = {"conditions": [available]}


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    spec = obj["spec"]
    group, version = spec.get("group", ""), spec.get("version", "")
    name = obj["metadata"].get("name", "")
    errors = []
    wanted = f"{version}.{group}"
    if name and name != wanted and not names.path_segment_name(name, False):
        text = f'must be `spec.version+"."+spec.group`: "{wanted}"'
        errors.append(field.invalid("metadata.name", name, text))
    if not group and version != "v1":
        errors.append(field.required("spec.group", "only v1 may have an empty group and it better be legacy kube"))
    if group:
        errors += wrong("spec.group", group, names.is_dns1123_subdomain(group))
    errors += wrong("spec.version", version, names.is_dns1035_label(version))
    for key, limit in (("groupPriorityMinimum", _MAX_GROUP_PRIORITY), ("versionPriority", _MAX_VERSION_PRIORITY)):
        value = spec.get(key, 0)
        if not 0 < value <= limit:
            errors.append(field.invalid(f"spec.{key}", value, f"must be positive and less than {limit}"))
    return errors + _serving(spec)


def _serving(spec: Object) -> list[FieldError]:
    errors = []
    bundle, insecure = spec.get("caBundle"), spec.get("insecureSkipTLSVerify", False)
    if spec.get("service") is None:
        if bundle:
            shown = f"{decoded_size(bundle)} bytes"
            errors.append(field.invalid("spec.caBundle", shown, "local APIServices may not have a caBundle"))
        if insecure:
            text = "local APIServices may not have insecureSkipTLSVerify"
            errors.append(field.invalid("spec.insecureSkipTLSVerify", True, text))
        return errors
    service = mapped(spec, "service")
    for key in ("namespace", "name"):
        if not service.get(key):
            errors.append(field.required(f"spec.service.{key}"))
    texts = names.is_valid_port_num(service.get("port", 0))
    if texts:
        text = "port is not valid: " + ", ".join(texts)
        errors.append(field.invalid("spec.service.port", service.get("port", 0), text))
    if insecure and bundle:
        errors.append(field.invalid("spec.insecureSkipTLSVerify", True, "may not be true if caBundle is present"))
    return errors


RULES = Rules(
    default=Defaulted("io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIService", _default),
    prepare=_prepare,
    validate=checked(_validate, again="path"),
    name="path",
    status=True,
    unconditional_update=False,
    subresources={"status": Rules(prepare=keeping(*SAID_OF_IT), validate=checked())},
)
