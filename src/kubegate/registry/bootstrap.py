"""What a server has before anybody has written to it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import orjson

from kubegate.api import Object
from kubegate.api.clock import rfc3339
from kubegate.api.resources import Resources
from kubegate.registry.apiregistration import apiservices
from kubegate.registry.flowcontrol import bootstrap as flowcontrol

if TYPE_CHECKING:
    from kubegate.registry.internal import Internal

_CIDRS, _CIDR_MANAGER = "servicecidrs.networking.k8s.io", "kubernetes-service-cidr-controller"
# What tells of this server's flags, and is written anew when they have changed.
CURRENT = "extension-apiserver-authentication"
NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
_PRIORITY_CLASSES = (
    (
        "system-node-critical",
        2000001000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2000000000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
)


class Options(Protocol):
    """The flags that say what a new server has: fields of `server.options.Options`."""

    secure_port: int
    bind_address: str
    advertise_address: str
    service_cluster_ip_range: str
    client_ca_file: str
    requestheader_client_ca_file: str
    requestheader_allowed_names: list[str]
    requestheader_extra_headers_prefix: list[str]
    requestheader_group_headers: list[str]
    requestheader_uid_headers: list[str]
    requestheader_username_headers: list[str]


def objects(options: Options, now: float) -> Iterable[tuple[str, Object]]:
    """Group resource and object of each, namespaces first. They are made where they are missing.

    `now` in seconds since 1970: from then on uses of legacy tokens are noted.
    """
    for namespace in NAMESPACES:
        yield "namespaces", {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": namespace}}
    for name, value, description in _PRIORITY_CLASSES:
        kind = {"kind": "PriorityClass", "apiVersion": "scheduling.k8s.io/v1"}
        found = {**kind, "metadata": {"name": name}, "value": value, "description": description}
        yield "priorityclasses.scheduling.k8s.io", found
    yield from flowcontrol.objects()
    yield from _kubernetes_service(options)
    yield "configmaps", _extension_authentication(options)
    yield "configmaps", _legacy_token_tracking(now)
    for resource in apiservices.local(Resources.built_in()):
        yield "apiservices.apiregistration.k8s.io", resource


def _kubernetes_service(options: Options) -> Iterable[tuple[str, Object]]:
    """The service by which pods reach this server, its address, and the range that addresses come from."""
    networks = _service_networks(options)
    address = str(networks[0][1])
    family = f"IPv{networks[0].version}"
    meta = {"name": "kubernetes", "namespace": "default"}
    labels = {"component": "apiserver", "provider": "kubernetes"}
    port = {"name": "https", "protocol": "TCP", "port": 443, "targetPort": options.secure_port}
    spec = {
        "ports": [port],
        "clusterIP": address,
        "clusterIPs": [address],
        "type": "ClusterIP",
        "sessionAffinity": "None",
        "ipFamilies": [family],
        "ipFamilyPolicy": "SingleStack",
    }
    yield "services", {"kind": "Service", "apiVersion": "v1", "metadata": {**meta, "labels": labels}, "spec": spec}
    networking = "networking.k8s.io/v1"
    cidr = {"kind": "ServiceCIDR", "apiVersion": networking, "metadata": {"name": "kubernetes"}}
    yield _CIDRS, {**cidr, "spec": {"cidrs": list(map(str, networks))}}
    owned = {"ipaddress.kubernetes.io/ip-family": family, "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}
    reference = {"resource": "services", "namespace": "default", "name": "kubernetes"}
    yield (
        "ipaddresses.networking.k8s.io",
        {
            "kind": "IPAddress",
            "apiVersion": networking,
            "metadata": {"name": address, "labels": owned},
            "spec": {"parentRef": reference},
        },
    )
    yield from _kubernetes_endpoints(options)


def _service_networks(options: Options) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    ranges = [part.strip() for part in options.service_cluster_ip_range.split(",")]
    return [ipaddress.ip_network(part, strict=False) for part in ranges]


async def settle_service_range(internal: Internal, options: Options, now: float) -> None:
    """The ServiceCIDR `kubernetes` gets the second range of flags that have one now, and is Ready where it tells them.

    Follows kube-apiserver's controller of that range, which leaves alone what somebody else has made of it.
    """
    found = await internal.get(_CIDRS, "", "kubernetes")
    wanted = list(map(str, _service_networks(options)))
    if found is None or found["metadata"].get("deletionTimestamp"):
        return
    if len(wanted) == 2 and found["spec"]["cidrs"] == wanted[:1]:
        found = await internal.update(_CIDRS, "", "kubernetes", {**found, "spec": {"cidrs": wanted}})
    conditions = (found.get("status") or {}).get("conditions") or ()
    known = any(each["type"] == "Ready" and each["status"] != "Unknown" for each in conditions)
    if known or found["spec"]["cidrs"] != wanted:
        return
    message = "Kubernetes default Service CIDR is ready"
    ready = {"type": "Ready", "status": "True", "message": message, "lastTransitionTime": rfc3339(now)}
    applied = {key: found[key] for key in ("apiVersion", "kind")}
    applied |= {"metadata": {"name": "kubernetes"}, "status": {"conditions": [ready]}}
    await internal.apply(_CIDRS, "", "kubernetes", applied, _CIDR_MANAGER, "status")


def _kubernetes_endpoints(options: Options) -> Iterable[tuple[str, Object]]:
    """Where the service leads, when this server has an address that others can reach."""
    advertised = _reachable(options.advertise_address or options.bind_address)
    if advertised is None:
        return
    meta = {"name": "kubernetes", "namespace": "default"}
    port = {"name": "https", "port": options.secure_port, "protocol": "TCP"}
    yield (
        "endpoints",
        {
            "kind": "Endpoints",
            "apiVersion": "v1",
            "metadata": {**meta, "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
            "subsets": [{"addresses": [{"ip": str(advertised)}], "ports": [port]}],
        },
    )
    yield (
        "endpointslices.discovery.k8s.io",
        {
            "kind": "EndpointSlice",
            "apiVersion": "discovery.k8s.io/v1",
            "metadata": {**meta, "labels": {"kubernetes.io/service-name": "kubernetes"}},
            "addressType": f"IPv{advertised.version}",
            "endpoints": [{"addresses": [str(advertised)], "conditions": {"ready": True}}],
            "ports": [port],
        },
    )


def _reachable(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return None if address.is_loopback or address.is_unspecified else address


def _extension_authentication(options: Options) -> Object:
    """How extension API servers are to know this server's clients."""
    data: dict[str, str] = {}
    if options.client_ca_file:
        data["client-ca-file"] = Path(options.client_ca_file).read_text(encoding="utf-8")
    if options.requestheader_client_ca_file:
        data |= {
            "requestheader-allowed-names": _json(options.requestheader_allowed_names),
            "requestheader-client-ca-file": Path(options.requestheader_client_ca_file).read_text(encoding="utf-8"),
            "requestheader-extra-headers-prefix": _json(options.requestheader_extra_headers_prefix),
            "requestheader-group-headers": _json(options.requestheader_group_headers),
            "requestheader-uid-headers": _json(options.requestheader_uid_headers),
            "requestheader-username-headers": _json(options.requestheader_username_headers),
        }
    meta = {"name": CURRENT, "namespace": "kube-system"}
    return {"kind": "ConfigMap", "apiVersion": "v1", "metadata": meta, "data": data}


def _legacy_token_tracking(now: float) -> Object:
    """Since which day the Secrets of legacy tokens tell when they were last used; their cleaner asks for it."""
    meta = {"name": "kube-apiserver-legacy-service-account-token-tracking", "namespace": "kube-system"}
    since = datetime.fromtimestamp(now, UTC).date()
    return {"kind": "ConfigMap", "apiVersion": "v1", "metadata": meta, "data": {"since": str(since)}}


def _json(values: list[str]) -> str:
    return orjson.dumps(values).decode()
