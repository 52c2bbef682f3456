"""From a Service to an address that answers for it.

kube-apiserver calls a Service at its cluster IP and leaves the rest to kube-proxy. There is none here, so after the
same checks, with the same errors, one of the Service's endpoints is called.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from kubegate.api import Object
from kubegate.storage import Reader

_turn = itertools.count()


class Unroutable(Exception):
    """There is no address; the text is kube-apiserver's."""


def parse(entries: Iterable[str]) -> dict[str, tuple[str, int]]:
    """Addresses by service from `NAME.NAMESPACE.svc=HOST:PORT` (--service-resolver). Raises ValueError."""
    found = {}
    for entry in entries:
        service, equals, address = entry.partition("=")
        host, colon, port = address.rpartition(":")
        named = service.endswith(".svc") and service.count(".") == 2
        if not (named and equals and colon and host and port.isdecimal()):
            raise ValueError(f"--service-resolver: {entry!r} is not NAME.NAMESPACE.svc=HOST:PORT")
        found[service] = host.removeprefix("[").removesuffix("]"), int(port)
    return found


def resolve(reader: Reader, namespace: str, name: str, port: int) -> tuple[str, int]:
    """Host and port. Of several ready endpoints each has its turn. Raises Unroutable."""
    service = reader.get("services", namespace, name)
    if service is None:
        raise Unroutable(f'service "{name}" not found')
    spec = service.get("spec") or {}
    kind = spec.get("type") or "ClusterIP"
    if kind == "ExternalName":
        return spec.get("externalName") or "", port
    if kind not in ("ClusterIP", "NodePort", "LoadBalancer"):
        raise Unroutable(f'unsupported service type "{kind}"')
    address = spec.get("clusterIP") or ""
    if address in ("", "None"):
        raise Unroutable(f'cannot route to service with ClusterIP "{address}"')
    for entry in spec.get("ports") or ():
        if entry.get("port") == port:
            return _endpoint(reader, namespace, name, entry.get("name") or "")
    raise Unroutable(f'no service port {port} found for service "{name}"')


def _endpoint(reader: Reader, namespace: str, name: str, port_name: str) -> tuple[str, int]:
    found = _from_slices(reader, namespace, name, port_name) or _from_endpoints(reader, namespace, name, port_name)
    if not found:
        raise Unroutable(f'no endpoints available for service "{name}"')
    return found[next(_turn) % len(found)]


def _from_slices(reader: Reader, namespace: str, name: str, port_name: str) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for piece in reader.list("endpointslices.discovery.k8s.io", namespace):
        if (piece["metadata"].get("labels") or {}).get("kubernetes.io/service-name") != name:
            continue
        ports = _ports(piece.get("ports"), port_name)
        for endpoint in piece.get("endpoints") or ():
            if (endpoint.get("conditions") or {}).get("ready") is not False:
                found += [(address, port) for address in endpoint.get("addresses") or () for port in ports]
    return found


def _from_endpoints(reader: Reader, namespace: str, name: str, port_name: str) -> list[tuple[str, int]]:
    endpoints = reader.get("endpoints", namespace, name) or {}
    return [
        (address["ip"], port)
        for subset in endpoints.get("subsets") or ()
        for address in subset.get("addresses") or ()
        for port in _ports(subset.get("ports"), port_name)
    ]


def _ports(ports: list[Object] | None, name: str) -> list[int]:
    return [entry["port"] for entry in ports or () if (entry.get("name") or "") == name and entry.get("port")]
