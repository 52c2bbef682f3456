"""Cells of access, admission, networking and scheduling: bindings, requests, webhooks, policies, classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kubegate.api.printers import Printer
from kubegate.api.printers.cells import (
    NONE,
    UNSET,
    age,
    condition,
    human_duration,
    load_balancer,
    selector_text,
    spec,
    status,
    with_more,
)
from kubegate.api.selectors import go_text

_Object = Mapping[str, Any]


def binding(obj: _Object, now: float) -> list[Any]:
    """RoleBindings and ClusterRoleBindings."""
    role = obj.get("roleRef") or {}
    subjects: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in obj.get("subjects") or ():
        name, kind = subject.get("name") or "", subject.get("kind") or ""
        if kind == "ServiceAccount":
            name = f"{subject.get('namespace') or ''}/{name}"
        if kind in subjects:
            subjects[kind].append(name)
    joined = [", ".join(names) for names in subjects.values()]
    return [f"{role.get('kind', '')}/{role.get('name', '')}", age(obj, now), *joined]


def certificate_signing_request(obj: _Object, now: float) -> list[Any]:
    found, request_status = spec(obj), status(obj)
    conditions = {c.get("type") for c in request_status.get("conditions") or ()}
    state = "Denied" if "Denied" in conditions else "Approved" if "Approved" in conditions else "Pending"
    if "Failed" in conditions:
        state += ",Failed"
    if request_status.get("certificate"):
        state += ",Issued"
    seconds = found.get("expirationSeconds")
    return [
        age(obj, now),
        found.get("signerName") or NONE,
        found.get("username") or "",
        NONE if seconds is None else human_duration(seconds),
        state,
    ]


def webhook_configuration(obj: _Object, now: float) -> list[Any]:
    return [len(obj.get("webhooks") or ()), age(obj, now)]


def validating_policy(obj: _Object, now: float) -> list[Any]:
    return [len(spec(obj).get("validations") or ()), _param_kind(obj), age(obj, now)]


def mutating_policy(obj: _Object, now: float) -> list[Any]:
    return [len(spec(obj).get("mutations") or ()), _param_kind(obj), age(obj, now)]


def _param_kind(obj: _Object) -> str:
    kind = spec(obj).get("paramKind")
    return f"{kind.get('apiVersion', '')}/{kind.get('kind', '')}" if kind else UNSET


def policy_binding(obj: _Object, now: float) -> list[Any]:
    found = spec(obj)
    reference = found.get("paramRef") or {}
    param = UNSET
    if reference.get("name"):
        param = f"{reference.get('namespace') or '*'}/{reference['name']}"
    elif reference.get("selector") is not None:
        param = go_text(reference["selector"])
    return [found.get("policyName") or "", param, age(obj, now)]


def api_service(obj: _Object, now: float) -> list[Any]:
    reference = spec(obj).get("service")
    where = f"{reference.get('namespace', '')}/{reference.get('name', '')}" if reference else "Local"
    available = condition(status(obj).get("conditions"), "Available")
    text = "Unknown"
    if available is not None:
        text = str(available.get("status") or "")
        if text != "True":
            text = f"{text} ({available.get('reason', '')})"
    return [where, text, age(obj, now)]


def priority_class(obj: _Object, now: float) -> list[Any]:
    return [
        obj.get("value") or 0,
        bool(obj.get("globalDefault")),
        age(obj, now),
        obj.get("preemptionPolicy") or "",
    ]


def runtime_class(obj: _Object, now: float) -> list[Any]:
    return [obj.get("handler") or "", age(obj, now)]


# --- networking ------------------------------------------------------------------------------------------------------


def network_policy(obj: _Object, now: float) -> list[Any]:
    return [selector_text(spec(obj).get("podSelector") or {}), age(obj, now)]


def ingress(obj: _Object, now: float) -> list[Any]:
    found = spec(obj)
    hosts = [rule["host"] for rule in found.get("rules") or () if rule.get("host")]
    return [
        found.get("ingressClassName") or NONE,
        with_more(hosts, 3, empty="*"),
        load_balancer(status(obj).get("loadBalancer")),
        "80, 443" if found.get("tls") else "80",
        age(obj, now),
    ]


def ingress_class(obj: _Object, now: float) -> list[Any]:
    found = spec(obj)
    parameters = found.get("parameters")
    shown = NONE
    if parameters:
        group = f".{parameters['apiGroup']}" if parameters.get("apiGroup") else ""
        shown = f"{parameters.get('kind', '')}{group}/{parameters.get('name', '')}"
    return [found.get("controller") or "", shown, age(obj, now)]


def ip_address(obj: _Object, now: float) -> list[Any]:
    reference = spec(obj).get("parentRef")
    if not reference:
        return [NONE]
    kind = f"{reference.get('resource', '')}.{reference['group']}" if reference.get("group") else reference["resource"]
    return ["/".join(filter(None, [kind, reference.get("namespace"), reference.get("name")]))]


def service_cidr(obj: _Object, now: float) -> list[Any]:
    return [",".join(spec(obj).get("cidrs") or ()), age(obj, now)]


# --- fairness --------------------------------------------------------------------------------------------------------


def flow_schema(obj: _Object, now: float) -> list[Any]:
    found = spec(obj)
    dangling = condition(status(obj).get("conditions"), "Dangling")
    return [
        (found.get("priorityLevelConfiguration") or {}).get("name", ""),
        found.get("matchingPrecedence") or 0,
        (found.get("distinguisherMethod") or {}).get("type") or NONE,
        age(obj, now),
        "?" if dangling is None else dangling.get("status") or "",
    ]


def priority_level(obj: _Object, now: float) -> list[Any]:
    found = spec(obj)
    shares: Any = NONE
    queues: list[Any] = [NONE, NONE, NONE]
    limited = found.get("limited")
    if limited is not None:
        shares = limited.get("nominalConcurrencyShares")
        queuing = (limited.get("limitResponse") or {}).get("queuing")
        if queuing is not None:
            queues = [queuing.get(name) or 0 for name in ("queues", "handSize", "queueLengthLimit")]
    return [found.get("type") or "", shares, *queues, age(obj, now)]


PRINTERS: Final[dict[tuple[str, str], Printer]] = {
    ("admissionregistration.k8s.io", "mutatingadmissionpolicies"): mutating_policy,
    ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings"): policy_binding,
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"): webhook_configuration,
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"): validating_policy,
    ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"): policy_binding,
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"): webhook_configuration,
    ("apiregistration.k8s.io", "apiservices"): api_service,
    ("certificates.k8s.io", "certificatesigningrequests"): certificate_signing_request,
    ("flowcontrol.apiserver.k8s.io", "flowschemas"): flow_schema,
    ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations"): priority_level,
    ("networking.k8s.io", "ingressclasses"): ingress_class,
    ("networking.k8s.io", "ingresses"): ingress,
    ("networking.k8s.io", "ipaddresses"): ip_address,
    ("networking.k8s.io", "networkpolicies"): network_policy,
    ("networking.k8s.io", "servicecidrs"): service_cidr,
    ("node.k8s.io", "runtimeclasses"): runtime_class,
    ("rbac.authorization.k8s.io", "clusterrolebindings"): binding,
    ("rbac.authorization.k8s.io", "rolebindings"): binding,
    ("scheduling.k8s.io", "priorityclasses"): priority_class,
}
