"""The checks of the baseline and restricted levels, in every version of the standards.

A check looks at a pod's metadata and spec and gives a `Violation` or None. `CHECKS` says which check belongs to which
level and from which version on it has which form; `evaluate` runs those of a level and version in the real order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any

from msgspec import Struct

from kubegate.admission.pods import containers
from kubegate.api import Object

PRIVILEGED, BASELINE, RESTRICTED = "privileged", "baseline", "restricted"
LATEST = 1 << 30
"""The version `latest` as a number of a minor release."""


class Violation(Struct, frozen=True):
    """`reason` in a word or two, `detail` with who does it."""

    reason: str
    detail: str

    def __str__(self) -> str:
        return f"{self.reason} ({self.detail})" if self.detail else self.reason


Form = Callable[[Object, Object], Violation | None]
"""metadata, spec -> what is wrong."""


class Check(Struct, frozen=True):
    """One check: its forms by the minor version from which each holds, and the baseline checks that it replaces."""

    id: str
    level: str
    forms: Sequence[tuple[int, Form]]
    overrides: tuple[str, ...] = ()

    def form(self, minor: int) -> Form | None:
        """The form in force at a version; None where the check is younger."""
        found = None
        for since, form in self.forms:
            if since <= minor:
                found = form
        return found


# ---------------------------------------------------------------------------- words
def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _count(singular: str, found: Sequence[Any] | set[str], plural: str = "") -> str:
    return singular if len(found) == 1 else plural or f"{singular}s"


def _containers(names: Sequence[str]) -> str:
    return f"{_count('container', names)} {_quoted(names)}"


def _setters(pod: bool, names: Sequence[str]) -> str:
    """Who sets something: `pod`, `container "a"`, or both."""
    return " and ".join(who for who in ("pod" if pod else "", _containers(names) if names else "") if who)


# ---------------------------------------------------------------------------- where to look
def _each(spec: Object) -> Iterator[tuple[str, Object, Object]]:
    """Name, the container, and its security context."""
    for _, container in containers(spec):
        yield container.get("name", ""), container, container.get("securityContext") or {}


def _of_pod(spec: Object) -> Object:
    return spec.get("securityContext") or {}


def _windows(spec: Object) -> bool:
    return bool((spec.get("os") or {}).get("name") == "windows")


def _in_user_namespace(spec: Object) -> bool:
    """Root in such a pod is nobody on the node."""
    return spec.get("hostUsers") is False


def _unless(exempt: Callable[[Object], bool], form: Form) -> Form:
    return lambda metadata, spec: None if exempt(spec) else form(metadata, spec)


# ---------------------------------------------------------------------------- baseline
_APPARMOR_PREFIX = "container.apparmor.security.beta.kubernetes.io/"
_APPARMOR_TYPES = ("RuntimeDefault", "Localhost")


def app_armor_profile(metadata: Object, spec: Object) -> Violation | None:
    values, names = set(), []
    profile = _of_pod(spec).get("appArmorProfile")
    of_pod = profile is not None and profile.get("type") not in _APPARMOR_TYPES
    if profile is not None and of_pod:
        values.add(profile.get("type", ""))
    for name, _, context in _each(spec):
        profile = context.get("appArmorProfile")
        if profile is not None and profile.get("type") not in _APPARMOR_TYPES:
            names.append(name)
            values.add(profile.get("type", ""))
    annotations = sorted(
        f'{key}="{value}"'
        for key, value in (metadata.get("annotations") or {}).items()
        if key.startswith(_APPARMOR_PREFIX)
        and value not in ("", "runtime/default")
        and not value.startswith("localhost/")
    )
    if not (of_pod or names or annotations):
        return None
    listed = [*sorted(values), *annotations]
    who = [_setters(of_pod, names)] if of_pod or names else []
    if annotations:
        who.append(_count("annotation", annotations))
    detail = f"{' and '.join(who)} must not set AppArmor profile type to {_quoted(listed)}"
    return Violation(_count("forbidden AppArmor profile", listed), detail)


_CAPABILITIES = frozenset(
    [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ]
)


def _added(spec: Object, allowed: Iterable[str]) -> tuple[list[str], list[str]]:
    """The containers that add other capabilities than these, and which they add."""
    names, capabilities = [], set()
    for name, _, context in _each(spec):
        others = set((context.get("capabilities") or {}).get("add") or ()).difference(allowed)
        if others:
            names.append(name)
            capabilities |= others
    return names, sorted(capabilities)


def capabilities_baseline(metadata: Object, spec: Object) -> Violation | None:
    names, capabilities = _added(spec, _CAPABILITIES)
    if not names:
        return None
    detail = f"{_containers(names)} must not include {_quoted(capabilities)} in securityContext.capabilities.add"
    return Violation("non-default capabilities", detail)


def host_namespaces(metadata: Object, spec: Object) -> Violation | None:
    used = [f"{field}=true" for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field)]
    return Violation("host namespaces", ", ".join(used)) if used else None


def host_path_volumes(metadata: Object, spec: Object) -> Violation | None:
    names = [volume.get("name", "") for volume in spec.get("volumes") or () if volume.get("hostPath") is not None]
    return Violation("hostPath volumes", f"{_count('volume', names)} {_quoted(names)}") if names else None


def host_ports(metadata: Object, spec: Object) -> Violation | None:
    names, ports = [], set()
    for name, container, _ in _each(spec):
        used = {str(port["hostPort"]) for port in container.get("ports") or () if port.get("hostPort")}
        if used:
            names.append(name)
            ports |= used
    if not names:
        return None
    uses = f"{_count('uses', names, 'use')} {_count('hostPort', ports)} {', '.join(sorted(ports))}"
    return Violation("hostPort", f"{_containers(names)} {uses}")


def host_probes(metadata: Object, spec: Object) -> Violation | None:
    names, hosts = set(), set()
    for name, container, _ in _each(spec):
        hooks = container.get("lifecycle") or {}
        actions = [container.get(probe) for probe in ("livenessProbe", "readinessProbe", "startupProbe")]
        for action in (*actions, hooks.get("postStart"), hooks.get("preStop")):
            for sort in ("httpGet", "tcpSocket"):
                host = ((action or {}).get(sort) or {}).get("host")
                if host:
                    names.add(name)
                    hosts.add(host)
    if not names:
        return None
    reason = "probe or lifecycle host"
    uses = f"{_count('uses', names, 'use')} {_count(reason, hosts)} {_quoted(sorted(hosts))}"
    return Violation(reason, f"{_containers(sorted(names))} {uses}")


def privileged(metadata: Object, spec: Object) -> Violation | None:
    names = [name for name, _, context in _each(spec) if context.get("privileged")]
    if not names:
        return None
    return Violation("privileged", f"{_containers(names)} must not set securityContext.privileged=true")


def proc_mount(metadata: Object, spec: Object) -> Violation | None:
    names, mounts = [], set()
    for name, _, context in _each(spec):
        mount = context.get("procMount")
        if mount is not None and mount != "Default":
            names.append(name)
            mounts.add(mount)
    if not names:
        return None
    detail = f"{_containers(names)} must not set securityContext.procMount to {_quoted(sorted(mounts))}"
    return Violation("procMount", detail)


_SELINUX_TYPES = frozenset({"", "container_t", "container_init_t", "container_kvm_t"})


def _selinux_options(types: frozenset[str]) -> Form:
    def check(metadata: Object, spec: Object) -> Violation | None:
        bad_types: set[str] = set()
        named: set[str] = set()

        def is_bad(context: Object) -> bool:
            options = context.get("seLinuxOptions") or {}
            bad = options.get("type", "") not in types
            if bad:
                bad_types.add(options["type"])
            for field in ("user", "role"):
                if options.get(field):
                    named.add(field)
                    bad = True
            return bad

        of_pod = is_bad(_of_pod(spec))
        names = [name for name, _, context in _each(spec) if is_bad(context)]
        if not of_pod and not names:
            return None
        listed = [f"{_count('type', bad_types)} {_quoted(sorted(bad_types))}"] if bad_types else []
        listed += [f"{field} may not be set" for field in ("user", "role") if field in named]
        detail = f"{_setters(of_pod, names)} set forbidden securityContext.seLinuxOptions: {'; '.join(listed)}"
        return Violation("seLinuxOptions", detail)

    return check


_SECCOMP_TYPES = ("RuntimeDefault", "Localhost")
_SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"


def seccomp_annotations(metadata: Object, spec: Object) -> Violation | None:
    """Before 1.19 profiles were named in annotations."""
    annotations = metadata.get("annotations") or {}
    keys = {_SECCOMP_POD, *(_SECCOMP_CONTAINER + name for name, _, _ in _each(spec))}
    bad = sorted(
        f'{key}="{annotations[key]}"'
        for key in keys & annotations.keys()
        if annotations[key] not in ("runtime/default", "docker/default")
        and not annotations[key].startswith("localhost/")
    )
    if not bad:
        return None
    return Violation("seccompProfile", f"forbidden {_count('annotation', bad)} {', '.join(bad)}")


def seccomp_baseline(metadata: Object, spec: Object) -> Violation | None:
    values, names = set(), []
    profile = _of_pod(spec).get("seccompProfile")
    of_pod = profile is not None and profile.get("type") not in _SECCOMP_TYPES
    if profile is not None and of_pod:
        values.add(profile.get("type", ""))
    for name, _, context in _each(spec):
        profile = context.get("seccompProfile")
        if profile is not None and profile.get("type") not in _SECCOMP_TYPES:
            names.append(name)
            values.add(profile.get("type", ""))
    if not of_pod and not names:
        return None
    what = f"must not set securityContext.seccompProfile.type to {_quoted(sorted(values))}"
    return Violation("seccompProfile", f"{_setters(of_pod, names)} {what}")


_SYSCTLS: Sequence[tuple[int, tuple[str, ...]]] = (
    (
        0,
        (
            "kernel.shm_rmid_forced",
            "net.ipv4.ip_local_port_range",
            "net.ipv4.tcp_syncookies",
            "net.ipv4.ping_group_range",
            "net.ipv4.ip_unprivileged_port_start",
        ),
    ),
    (27, ("net.ipv4.ip_local_reserved_ports",)),
    (
        29,
        (
            "net.ipv4.tcp_keepalive_time",
            "net.ipv4.tcp_fin_timeout",
            "net.ipv4.tcp_keepalive_intvl",
            "net.ipv4.tcp_keepalive_probes",
        ),
    ),
    (32, ("net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem")),
)
"""Sysctls that are safe, by the version from which they were held to be."""


def _sysctls(minor: int) -> Form:
    safe = {name for since, names in _SYSCTLS if since <= minor for name in names}

    def check(metadata: Object, spec: Object) -> Violation | None:
        bad = [
            sysctl.get("name", "") for sysctl in _of_pod(spec).get("sysctls") or () if sysctl.get("name") not in safe
        ]
        return Violation("forbidden sysctls", ", ".join(bad)) if bad else None

    return check


def windows_host_process(metadata: Object, spec: Object) -> Violation | None:
    def is_bad(context: Object) -> bool:
        return bool((context.get("windowsOptions") or {}).get("hostProcess"))

    of_pod = is_bad(_of_pod(spec))
    names = [name for name, _, context in _each(spec) if is_bad(context)]
    if not of_pod and not names:
        return None
    detail = f"{_setters(of_pod, names)} must not set securityContext.windowsOptions.hostProcess=true"
    return Violation("hostProcess", detail)


# ---------------------------------------------------------------------------- restricted
def allow_privilege_escalation(metadata: Object, spec: Object) -> Violation | None:
    names = [name for name, _, context in _each(spec) if context.get("allowPrivilegeEscalation") is not False]
    if not names:
        return None
    detail = f"{_containers(names)} must set securityContext.allowPrivilegeEscalation=false"
    return Violation("allowPrivilegeEscalation != false", detail)


def capabilities_restricted(metadata: Object, spec: Object) -> Violation | None:
    keeping = [
        name for name, _, context in _each(spec) if "ALL" not in ((context.get("capabilities") or {}).get("drop") or ())
    ]
    details = []
    if keeping:
        details.append(f'{_containers(keeping)} must set securityContext.capabilities.drop=["ALL"]')
    adding, capabilities = _added(spec, ("NET_BIND_SERVICE",))
    if adding:
        what = f"must not include {_quoted(capabilities)} in securityContext.capabilities.add"
        details.append(f"{_containers(adding)} {what}")
    return Violation("unrestricted capabilities", "; ".join(details)) if details else None


_VOLUMES = frozenset(
    [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ]
)
_OTHER_VOLUMES = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
]


def restricted_volumes(metadata: Object, spec: Object) -> Violation | None:
    names, sorts = [], set()
    for volume in spec.get("volumes") or ():
        if any(volume.get(sort) is not None for sort in _VOLUMES):
            continue
        names.append(volume.get("name", ""))
        sorts.add(next((sort for sort in _OTHER_VOLUMES if volume.get(sort) is not None), "unknown"))
    if not names:
        return None
    uses = f"{_count('uses', names, 'use')} {_count('restricted volume type', sorts)} {_quoted(sorted(sorts))}"
    return Violation("restricted volume types", f"{_count('volume', names)} {_quoted(names)} {uses}")


def run_as_non_root(metadata: Object, spec: Object) -> Violation | None:
    of_pod = _of_pod(spec).get("runAsNonRoot")
    said = [(name, context.get("runAsNonRoot")) for name, _, context in _each(spec)]
    names = [name for name, value in said if value is False]
    reason = "runAsNonRoot != true"
    if of_pod is False or names:
        what = "must not set securityContext.runAsNonRoot=false"
        return Violation(reason, f"{_setters(of_pod is False, names)} {what}")
    silent = [name for name, value in said if value is None and not of_pod]
    if not silent:
        return None
    return Violation(reason, f"pod or {_containers(silent)} must set securityContext.runAsNonRoot=true")


def run_as_user(metadata: Object, spec: Object) -> Violation | None:
    of_pod = _of_pod(spec).get("runAsUser") == 0
    names = [name for name, _, context in _each(spec) if context.get("runAsUser") == 0]
    if not of_pod and not names:
        return None
    return Violation("runAsUser=0", f"{_setters(of_pod, names)} must not set runAsUser=0")


def seccomp_restricted(metadata: Object, spec: Object) -> Violation | None:
    found = seccomp_baseline(metadata, spec)
    if found is not None:
        return found
    if (_of_pod(spec).get("seccompProfile") or {}).get("type") in _SECCOMP_TYPES:
        return None
    silent = [name for name, _, context in _each(spec) if context.get("seccompProfile") is None]
    if not silent:
        return None
    what = 'must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
    return Violation("seccompProfile", f"pod or {_containers(silent)} {what}")


CHECKS: Sequence[Check] = (
    Check("appArmorProfile", BASELINE, [(0, app_armor_profile)]),
    Check("capabilities_baseline", BASELINE, [(0, capabilities_baseline)]),
    Check("hostNamespaces", BASELINE, [(0, host_namespaces)]),
    Check("hostPathVolumes", BASELINE, [(0, host_path_volumes)]),
    Check("hostPorts", BASELINE, [(0, host_ports)]),
    Check("hostProbesAndHostLifecycle", BASELINE, [(34, host_probes)]),
    Check("privileged", BASELINE, [(0, privileged)]),
    Check("procMount", BASELINE, [(0, proc_mount), (35, _unless(_in_user_namespace, proc_mount))]),
    Check(
        "seLinuxOptions",
        BASELINE,
        [(0, _selinux_options(_SELINUX_TYPES)), (31, _selinux_options(_SELINUX_TYPES | {"container_engine_t"}))],
    ),
    Check("seccompProfile_baseline", BASELINE, [(0, seccomp_annotations), (19, seccomp_baseline)]),
    Check("sysctls", BASELINE, [(since, _sysctls(since)) for since, _ in _SYSCTLS]),
    Check("windowsHostProcess", BASELINE, [(0, windows_host_process)]),
    Check(
        "allowPrivilegeEscalation",
        RESTRICTED,
        [(8, allow_privilege_escalation), (25, _unless(_windows, allow_privilege_escalation))],
    ),
    Check(
        "capabilities_restricted",
        RESTRICTED,
        [(22, capabilities_restricted), (25, _unless(_windows, capabilities_restricted))],
        overrides=("capabilities_baseline",),
    ),
    Check("procMount_restricted", RESTRICTED, [(35, proc_mount)], overrides=("procMount",)),
    Check("restrictedVolumes", RESTRICTED, [(0, restricted_volumes)], overrides=("hostPathVolumes",)),
    Check("runAsNonRoot", RESTRICTED, [(0, run_as_non_root), (35, _unless(_in_user_namespace, run_as_non_root))]),
    Check("runAsUser", RESTRICTED, [(23, run_as_user), (35, _unless(_in_user_namespace, run_as_user))]),
    Check(
        "seccompProfile_restricted",
        RESTRICTED,
        [(19, seccomp_restricted), (25, _unless(_windows, seccomp_restricted))],
        overrides=("seccompProfile_baseline",),
    ),
)
"""Every check in the order in which violations are told: baseline, then restricted, each by id."""


NEWEST = max(since for check in CHECKS for since, _ in check.forms)
"""The version in which a check changed last: what `latest` comes to."""


@cache
def _forms(level: str, minor: int) -> tuple[Form, ...]:
    if level == PRIVILEGED:
        return ()
    found = {check.id: form for check in CHECKS if (form := check.form(minor)) and level in (check.level, RESTRICTED)}
    if level == RESTRICTED:
        for check in CHECKS:
            if check.id in found:
                for replaced in check.overrides:
                    found.pop(replaced, None)
    return tuple(found.values())


def evaluate(level: str, minor: int, metadata: Object, spec: Object) -> list[Violation]:
    """All violations of a level and version (`LATEST`, or 25 for v1.25), in the real order."""
    found = (form(metadata, spec) for form in _forms(level, min(minor, NEWEST)))
    return [violation for violation in found if violation is not None]
