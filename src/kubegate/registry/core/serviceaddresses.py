"""A Service's cluster IPs, IP families and node ports: what is filled in, kept, given up, and may not change.

Follows pkg/registry/core/service/storage/alloc.go of Kubernetes v1.36, for clusters of one family and of two.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from kubegate.api import Object, field, names, status
from kubegate.api.field import FieldError
from kubegate.registry import Scope
from kubegate.registry.allocation import IPV4, IPV6, AllocationError, ServiceAllocator, allocator_of, family_of
from kubegate.registry.checks import ip, is_dual_stack, listed, repeated

NONE: Final = "None"
SINGLE: Final = "SingleStack"
PREFER_DUAL: Final = "PreferDualStack"
REQUIRE_DUAL: Final = "RequireDualStack"
_CHANGED: Final = "may not change once set"


def is_headless(spec: Object) -> bool:
    return listed(spec, "clusterIPs") == [NONE]


def needs_cluster_ip(spec: Object) -> bool:
    return spec.get("type") in ("ClusterIP", "NodePort", "LoadBalancer")


def needs_node_port(spec: Object) -> bool:
    return spec.get("type") in ("NodePort", "LoadBalancer")


def _gets_node_port(spec: Object) -> bool:
    if spec.get("type") == "LoadBalancer":
        return spec.get("allocateLoadBalancerNodePorts") is not False
    return spec.get("type") == "NodePort"


def needs_health_check_port(spec: Object) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def allocate(obj: Object, old: Object | None, scope: Scope) -> None:
    """Fill in what the server chooses. Raises StatusError 422 for what cannot be given, 500 where nothing is left."""
    spec, before = obj["spec"], old["spec"] if old is not None else None
    if before is not None:
        _keep_allocated(spec, before)
    _sync_cluster_ips(spec, before)
    allocation = _Allocation(obj["metadata"].get("name", ""), allocator_of(scope.registry), scope.context.dry_run)
    scope.undo.append(allocation.undo)
    allocation.families(spec, before)
    allocation.cluster_ips(spec, before)
    allocation.node_ports(spec, before)
    allocation.health_check_port(spec, before)
    if before is not None:
        _drop_what_the_type_has_not(spec, before)


_BEFORE_DRY_PORTS = 32768
"""A dry run that chooses a port shows the next one after its greatest, or after this where it has none."""


class _Allocation:
    """One Service's turn: what it has taken so far, to give back when it fails."""

    def __init__(self, name: str, allocator: ServiceAllocator, dry_run: bool) -> None:
        self._name, self._allocator, self._dry_run = name, allocator, dry_run
        self._taken_addresses: list[str] = []
        self._taken_ports: list[int] = []

    def undo(self) -> None:
        for address in self._taken_addresses:
            self._allocator.release_address(address)
        for port in [] if self._dry_run else self._taken_ports:
            self._allocator.release_port(port)

    def _invalid(self, *errors: FieldError) -> status.StatusError:
        return status.invalid("", "Service", self._name, errors)

    # ------------------------------------------------------------------ families
    def families(self, spec: Object, before: Object | None) -> None:
        if not needs_cluster_ip(spec):
            return
        errors = related_fields(spec)
        if errors:
            raise self._invalid(*errors)
        if before is not None:
            self._follow_policy(spec, before)
        addresses, families = listed(spec, "clusterIPs"), list(listed(spec, "ipFamilies"))
        for position, address in enumerate(addresses):
            parsed = names.parse_ip(address)
            if parsed is not None and position >= len(families):
                families.append(family_of(parsed))
        policy = spec.get("ipFamilyPolicy")
        if policy is None and (len(addresses) == 2 or len(families) == 2):
            policy = REQUIRE_DUAL
        if policy == SINGLE:
            errors = _single_but_two(addresses, families, policy)
            if errors:
                raise self._invalid(*errors)
        if addresses == [NONE] and not spec.get("selector"):
            # Whoever fills in the endpoints by hand may use both families, on any cluster.
            spec["ipFamilyPolicy"] = policy or REQUIRE_DUAL
            spec["ipFamilies"] = self._filled(families, both=spec["ipFamilyPolicy"] != SINGLE, anywhere=True)
            return
        policy = policy or SINGLE
        served = self._allocator.families
        if policy == REQUIRE_DUAL and len(served) < 2:
            text = "this cluster is not configured for dual-stack services"
            errors.append(field.invalid("spec.ipFamilyPolicy", policy, text))
        for position, family in enumerate(families):
            if family not in served:
                here = field.index("spec.ipFamilies", position)
                errors.append(field.invalid(here, families, "not configured on this cluster"))
        if errors:
            raise self._invalid(*errors)
        spec["ipFamilyPolicy"] = policy
        spec["ipFamilies"] = self._filled(families, both=policy != SINGLE and len(served) > 1, anywhere=False)

    def _follow_policy(self, spec: Object, before: Object) -> None:
        """An update that says nothing keeps what was; one that goes to SingleStack gives up the second family."""
        if not needs_cluster_ip(before):
            return
        if spec.get("ipFamilyPolicy") is None and before.get("ipFamilyPolicy") is not None:
            spec["ipFamilyPolicy"] = before["ipFamilyPolicy"]
            if not listed(spec, "ipFamilies"):
                spec["ipFamilies"] = list(listed(before, "ipFamilies"))
        if spec.get("ipFamilyPolicy") == SINGLE and before.get("ipFamilyPolicy") != SINGLE:
            for name in ("clusterIPs", "ipFamilies"):
                if len(listed(spec, name)) == 2 and listed(spec, name) == listed(before, name):
                    spec[name] = spec[name][:1]

    def _filled(self, families: list[str], *, both: bool, anywhere: bool) -> list[str]:
        default = self._allocator.families[0]
        found = families or [default]
        if both and len(found) < 2:
            other = IPV6 if found[0] == IPV4 else IPV4
            if anywhere or other in self._allocator.families:
                found = [*found, other]
        return found

    # ------------------------------------------------------------------ cluster IPs
    def cluster_ips(self, spec: Object, before: Object | None) -> None:
        if not needs_cluster_ip(spec) or is_headless(spec):
            return
        held = listed(before, "clusterIPs") if before is not None and needs_cluster_ip(before) else []
        wanted = list(listed(spec, "clusterIPs"))
        if held and held != [NONE] and len(wanted) <= len(held):
            # Nothing is added; what may not change is told by validation.
            return
        for position, family in enumerate(listed(spec, "ipFamilies")):
            if position >= len(wanted):
                wanted.append(self._next_address(family))
            elif wanted[position] not in held:
                self._take_address(wanted[position], wanted)
        spec["clusterIPs"] = wanted
        spec["clusterIP"] = wanted[0]

    def _take_address(self, address: str, wanted: list[str]) -> None:
        try:
            self._allocator.take_address(address)
        except AllocationError as error:
            text = f"failed to allocate IP {address}: {error}"
            raise self._invalid(field.invalid("spec.clusterIPs", wanted, text)) from error
        self._taken(address)

    def _next_address(self, family: str) -> str:
        if self._dry_run:
            return self._allocator.dry_address(family)
        try:
            address = self._allocator.next_address(family)
        except AllocationError as error:
            raise status.internal(f"failed to allocate a serviceIP: {error}") from error
        self._taken(address)
        return address

    def _taken(self, address: str) -> None:
        if self._dry_run:
            self._allocator.release_address(address)
        else:
            self._taken_addresses.append(address)

    # ------------------------------------------------------------------ node ports
    def node_ports(self, spec: Object, before: Object | None) -> None:
        if not needs_node_port(spec):
            return
        if before is None:
            self._first_node_ports(spec)
        else:
            self._more_node_ports(spec, _node_ports(before))

    def _first_node_ports(self, spec: Object) -> None:
        """Of a new Service: a port that is there twice, over two protocols, has one node port for both."""
        ports = listed(spec, "ports")
        given = {port.get("port", 0): port["nodePort"] for port in reversed(ports) if port.get("nodePort")}
        own: dict[int, int] = {}
        for position, port in enumerate(ports):
            number, wanted = port.get("port", 0), port.get("nodePort", 0)
            if not wanted and not _gets_node_port(spec):
                continue
            here = field.child(field.index("spec.ports", position), "nodePort")
            if number not in own:
                if number in given:
                    self._take_port(given[number], here)
                own[number] = given[number] if number in given else self._next_port()
            elif wanted not in (0, own[number]):
                self._take_port(wanted, here)
                continue
            port["nodePort"] = own[number]

    def _more_node_ports(self, spec: Object, held: set[int]) -> None:
        """Of a Service that is there: each port that has none gets one of its own."""
        taken: set[int] = set()
        for position, port in enumerate(listed(spec, "ports")):
            wanted = port.get("nodePort", 0)
            if not wanted:
                if _gets_node_port(spec):
                    port["nodePort"] = self._next_port()
            elif wanted not in held and wanted not in taken:
                self._take_port(wanted, field.child(field.index("spec.ports", position), "nodePort"))
                taken.add(wanted)

    def _take_port(self, port: int, path: str) -> None:
        try:
            self._reserve_port(port)
        except AllocationError as error:
            raise self._invalid(field.invalid(path, port, str(error))) from error

    def _reserve_port(self, port: int) -> None:
        """A dry run keeps its ports to itself, and does not ask whether they are in the range."""
        if not self._dry_run:
            self._allocator.take_port(port)
        elif port in self._taken_ports or not self._allocator.is_free(port):
            raise AllocationError("provided port is already allocated")
        self._taken_ports.append(port)

    def _next_port(self) -> int:
        if self._dry_run:
            port = max(self._taken_ports, default=_BEFORE_DRY_PORTS) + 1
            self._taken_ports.append(port)
            return port
        try:
            port = self._allocator.next_port()
        except AllocationError as error:
            raise status.internal(f"failed to allocate a nodePort: {error}") from error
        self._taken_ports.append(port)
        return port

    def health_check_port(self, spec: Object, before: Object | None) -> None:
        if not needs_health_check_port(spec):
            return
        wanted = spec.get("healthCheckNodePort", 0)
        if before is not None and needs_health_check_port(before) and wanted == before.get("healthCheckNodePort"):
            return
        if not wanted:
            spec["healthCheckNodePort"] = self._next_port()
            return
        try:
            self._reserve_port(wanted)
        except AllocationError as error:
            text = f"failed to allocate requested HealthCheck NodePort {wanted}: {error}"
            raise status.internal(text) from error


def _single_but_two(addresses: list[str], families: list[str], policy: str) -> list[FieldError]:
    text = "must be RequireDualStack or PreferDualStack when multiple {} are specified"
    return [
        field.invalid("spec.ipFamilyPolicy", policy, text.format(name))
        for name, found in (("clusterIPs", addresses), ("ipFamilies", families))
        if len(found) == 2
    ]


def _node_ports(spec: Object) -> set[int]:
    return {port["nodePort"] for port in listed(spec, "ports") if port.get("nodePort")}


# ---------------------------------------------------------------------- what an update keeps and gives up
def _keep_allocated(spec: Object, before: Object) -> None:
    """What the client did not send again, though it still has it."""
    if needs_cluster_ip(spec) and needs_cluster_ip(before):
        if not spec.get("clusterIP") and before.get("clusterIP"):
            spec["clusterIP"] = before["clusterIP"]
        if not listed(spec, "clusterIPs") and spec.get("clusterIP") == before.get("clusterIP"):
            spec["clusterIPs"] = list(listed(before, "clusterIPs"))
            if not spec["clusterIPs"]:
                del spec["clusterIPs"]
    if needs_node_port(spec) and needs_node_port(before):
        used = _node_ports(spec) & _node_ports(before)
        by_name = {port.get("name", ""): port.get("nodePort", 0) for port in listed(before, "ports")}
        for port in listed(spec, "ports"):
            known = by_name.get(port.get("name", ""), 0)
            if not port.get("nodePort") and known and known not in used:
                port["nodePort"] = known
    if needs_health_check_port(spec) and needs_health_check_port(before):
        spec.setdefault("healthCheckNodePort", before.get("healthCheckNodePort", 0))


def _sync_cluster_ips(spec: Object, before: Object | None) -> None:
    """`clusterIP` is the first of `clusterIPs`, whichever of the two a client knows."""
    address, addresses = spec.get("clusterIP", ""), listed(spec, "clusterIPs")
    if before is None:
        if address and not addresses:
            spec["clusterIPs"] = [address]
        return
    held = listed(before, "clusterIPs")
    if held and not addresses and address == before.get("clusterIP", ""):
        spec["clusterIPs"] = list(held)
    if address != before.get("clusterIP", "") and listed(spec, "clusterIPs") == held:
        if address:
            spec["clusterIPs"] = [address]
        else:
            spec.pop("clusterIPs", None)


_TYPE_FIELDS: Final = (
    # who has it, the fields that go when the new type has it not and they are unchanged
    (needs_cluster_ip, (("clusterIP", "clusterIPs"), ("ipFamilies",), ("ipFamilyPolicy",))),
    (needs_health_check_port, (("healthCheckNodePort",),)),
)


def _drop_what_the_type_has_not(spec: Object, before: Object) -> None:
    for has, groups in _TYPE_FIELDS:
        if has(before) and not has(spec):
            for group in groups:
                _drop(spec, before, group)
    if needs_node_port(before) and not needs_node_port(spec):
        ports, old_ports = listed(spec, "ports"), listed(before, "ports")
        if [port.get("nodePort") for port in ports] == [port.get("nodePort") for port in old_ports]:
            for port in ports:
                port.pop("nodePort", None)
    if before.get("type") == "LoadBalancer" != spec.get("type"):
        _drop(spec, before, ("allocateLoadBalancerNodePorts",))
        _drop(spec, before, ("loadBalancerClass",))
    if _external(before) and not _external(spec):
        _drop(spec, before, ("externalTrafficPolicy",))
    if before.get("type") != "ExternalName" == spec.get("type"):
        _drop(spec, before, ("internalTrafficPolicy",))


def _external(spec: Object) -> bool:
    return needs_node_port(spec) or (spec.get("type") == "ClusterIP" and bool(listed(spec, "externalIPs")))


def _drop(spec: Object, before: Object, group: tuple[str, ...]) -> None:
    if all(spec.get(name) == before.get(name) for name in group):
        for name in group:
            spec.pop(name, None)


# ---------------------------------------------------------------------- validation
def related_fields(spec: Object, before: Iterable[str] = ()) -> list[FieldError]:
    """clusterIP, clusterIPs, ipFamilies and ipFamilyPolicy, each alone and together."""
    if spec.get("type") == "ExternalName":
        return []
    errors = []
    path = "spec.clusterIPs"
    address, addresses, families = spec.get("clusterIP", ""), listed(spec, "clusterIPs"), listed(spec, "ipFamilies")
    if address:
        if not addresses:
            errors.append(field.required(path))
        elif addresses[0] != address:
            errors.append(field.invalid(path, addresses, "first value must match `clusterIP`"))
    elif addresses:
        errors.append(field.invalid(path, addresses, "must be empty when `clusterIP` is not specified"))
    twice = repeated(families)
    for position, family in enumerate(families):
        here = field.index("spec.ipFamilies", position)
        if family not in (IPV4, IPV6):
            errors.append(field.not_supported(here, family, (IPV4, IPV6)))
        if position in twice:
            errors.append(field.duplicate(here, family))
    policy, policies = spec.get("ipFamilyPolicy"), (PREFER_DUAL, REQUIRE_DUAL, SINGLE)
    if policy is not None and policy not in policies:
        errors.append(field.not_supported("spec.ipFamilyPolicy", policy, policies))
    bad = _bad_addresses(addresses, before)
    errors += bad
    if len(addresses) > 2:
        errors.append(field.invalid(path, addresses, "may only hold up to 2 values"))
    if bad:
        return errors
    if len(addresses) > 1 and not is_dual_stack(addresses):
        errors.append(field.invalid(path, addresses, "may specify no more than one IP for each IP family"))
    if addresses != [NONE]:
        for position, (one, family) in enumerate(zip(addresses, families, strict=False)):
            parsed = names.parse_ip(one)
            if parsed is not None and family in (IPV4, IPV6) and family_of(parsed) != family:
                text = f"expected an {family} value as indicated by `ipFamilies[{position}]`"
                errors.append(field.invalid(field.index(path, position), one, text))
    return errors


def _bad_addresses(addresses: list[str], before: Iterable[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    for position, address in enumerate(addresses):
        if position == 0 and address == NONE:
            if len(addresses) > 1:
                text = "'None' must be the first and only value"
                errors.append(field.invalid("spec.clusterIPs", addresses, text))
            continue
        here = field.index("spec.clusterIPs", position)
        errors += ip(address, here, before)
    return errors


def changes(spec: Object, before: Object) -> list[FieldError]:
    """What an update may not do to addresses and families, save to and from ExternalName."""
    if "ExternalName" in (spec.get("type"), before.get("type")):
        return []
    return _address_changes(spec, before) + _family_changes(spec, before)


def _first(path: str, shown: Any, text: str) -> FieldError:
    return field.invalid(field.index(path, 0), shown or None, text)


def _address_changes(spec: Object, before: Object) -> list[FieldError]:
    if is_headless(spec) and is_headless(before):
        return []
    path, new, old = "spec.clusterIPs", listed(spec, "clusterIPs"), listed(before, "clusterIPs")
    if len(old) == len(new):
        return [
            field.invalid(field.index(path, position), new, _CHANGED)
            for position, address in enumerate(old)
            if address != new[position]
        ]
    errors = []
    if len(old) > len(new):
        if not new:
            errors.append(_first(path, new, "primary clusterIP can not be unset"))
        if old and new and new[0] != old[0]:
            errors.append(_first(path, new, _CHANGED))
        if len(new) == 1 and spec.get("ipFamilyPolicy") != SINGLE:
            text = "must be set to 'SingleStack' when releasing the secondary clusterIP"
            errors.append(field.invalid("spec.ipFamilyPolicy", spec.get("ipFamilyPolicy"), text))
    elif old and new[0] != old[0]:
        errors.append(_first(path, new, _CHANGED))
    return errors


def _family_changes(spec: Object, before: Object) -> list[FieldError]:
    if is_headless(spec) or is_headless(before):
        return []
    path, new, old = "spec.ipFamilies", listed(spec, "ipFamilies"), listed(before, "ipFamilies")
    addresses = listed(spec, "clusterIPs")
    if len(old) == len(new):
        return [_first(path, new, _CHANGED) for one, other in zip(old, new, strict=True) if one != other]
    errors = []
    if len(old) > len(new):
        if not addresses:
            errors.append(_first(path, new, "primary ipFamily can not be unset"))
        if new and new[0] != old[0]:
            errors.append(_first(path, addresses, _CHANGED))
        if len(new) == 1 and spec.get("ipFamilyPolicy") != SINGLE:
            text = "must be set to 'SingleStack' when releasing the secondary ipFamily"
            errors.append(field.invalid("spec.ipFamilyPolicy", spec.get("ipFamilyPolicy"), text))
    elif old and new and new[0] != old[0]:
        errors.append(_first(path, addresses, _CHANGED))
    return errors
