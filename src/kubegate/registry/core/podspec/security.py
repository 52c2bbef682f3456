"""Security contexts of pods and containers, on Linux and on Windows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from kubegate.api import Object, field, names
from kubegate.api.field import FieldError
from kubegate.registry import goshape
from kubegate.registry.checks import descending_path, listed, mapped, wrong
from kubegate.registry.core.podspec.options import Options

_SYSCTL_SEGMENT: Final = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SYSCTL: Final = rf"^({_SYSCTL_SEGMENT}[\./])*{_SYSCTL_SEGMENT}$"
_SYSCTL_RE = re.compile(_SYSCTL)
_IPC_SYSCTLS = ("kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue.")
_PROFILE_TYPES: Final = ("Localhost", "RuntimeDefault", "Unconfined")


def every_container(spec: Object, path: str) -> Iterator[tuple[Object, str]]:
    """Init, regular and ephemeral containers with their paths, in the order in which errors name them."""
    for name in ("initContainers", "containers", "ephemeralContainers"):
        for position, container in enumerate(listed(spec, name)):
            yield container, field.index(field.child(path, name), position)


def pod_context(spec: Object, path: str) -> list[FieldError]:
    """`path` is that of the spec's securityContext."""
    context = spec.get("securityContext")
    if not isinstance(context, dict):
        return []
    errors = []
    for name in ("fsGroup", "runAsUser", "runAsGroup"):
        if name in context:
            errors += wrong(field.child(path, name), context[name], names.is_valid_user_id(context[name]))
    for position, group in enumerate(listed(context, "supplementalGroups")):
        here = field.index(field.child(path, "supplementalGroups"), position)
        errors += wrong(here, group, names.is_valid_group_id(group))
    if spec.get("hostPID") and spec.get("shareProcessNamespace"):
        text = "ShareProcessNamespace and HostPID cannot both be enabled"
        errors.append(field.invalid(field.child(path, "shareProcessNamespace"), True, text))
    errors += _sysctls(spec, listed(context, "sysctls"), field.child(path, "sysctls"))
    errors += _choice(context, "fsGroupChangePolicy", path, ("Always", "OnRootMismatch"))
    errors += seccomp_profile(context.get("seccompProfile"), field.child(path, "seccompProfile"))
    errors += _windows_options(context.get("windowsOptions"), field.child(path, "windowsOptions"))
    errors += _app_armor_profile(context.get("appArmorProfile"), field.child(path, "appArmorProfile"))
    errors += _choice(context, "supplementalGroupsPolicy", path, ("Merge", "Strict"))
    errors += _choice(context, "seLinuxChangePolicy", path, ("MountOption", "Recursive"))
    return errors


def _choice(holder: Object, name: str, path: str, supported: tuple[str, ...]) -> list[FieldError]:
    if name in holder and holder[name] not in supported:
        return [field.not_supported(field.child(path, name), holder[name], supported)]
    return []


def container_context(context: Any, path: str, host_users: bool, options: Options) -> list[FieldError]:
    if not isinstance(context, dict):
        return []
    errors = []
    privileged = context.get("privileged")
    if privileged and not options.allow_privileged:
        errors.append(field.forbidden(field.child(path, "privileged"), "disallowed by cluster policy"))
    for name in ("runAsUser", "runAsGroup"):
        if name in context:
            errors += wrong(field.child(path, name), context[name], names.is_valid_user_id(context[name]))
    if "procMount" in context:
        here, mount = field.child(path, "procMount"), context["procMount"]
        if mount not in ("Default", "Unmasked"):
            errors.append(field.not_supported(here, mount, ("Default", "Unmasked")))
        if host_users and mount == "Unmasked":
            errors.append(field.invalid(here, mount, "`hostUsers` must be false to use `Unmasked`"))
    errors += seccomp_profile(context.get("seccompProfile"), field.child(path, "seccompProfile"))
    if context.get("allowPrivilegeEscalation") is False:
        shown = goshape.shape(context, "SecurityContext")
        if privileged:
            text = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            errors.append(field.invalid(path, shown, text))
        for capability in listed(context.get("capabilities"), "add"):
            if capability == "CAP_SYS_ADMIN":
                text = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
                errors.append(field.invalid(path, shown, text))
    errors += _windows_options(context.get("windowsOptions"), field.child(path, "windowsOptions"))
    errors += _app_armor_profile(context.get("appArmorProfile"), field.child(path, "appArmorProfile"))
    return errors


def seccomp_profile(profile: Any, path: str) -> list[FieldError]:
    if not isinstance(profile, dict):
        return []
    kind = profile.get("type", "")
    errors = _profile_type(kind, field.child(path, "type"), "type is required when seccompProfile is set")
    here, local = field.child(path, "localhostProfile"), profile.get("localhostProfile")
    if kind == "Localhost":
        if local is None:
            errors.append(field.required(here, "must be set when seccomp type is Localhost"))
        else:
            errors += descending_path(local, here)
    elif local is not None:
        shown = goshape.shape(profile, "SeccompProfile")
        errors.append(field.invalid(here, shown, "can only be set when seccomp type is Localhost"))
    return errors


def _profile_type(kind: str, path: str, missing: str) -> list[FieldError]:
    if not kind:
        return [field.required(path, missing)]
    return [] if kind in _PROFILE_TYPES else [field.not_supported(path, kind, _PROFILE_TYPES)]


def _app_armor_profile(profile: Any, path: str) -> list[FieldError]:
    if not isinstance(profile, dict):
        return []
    kind, local = profile.get("type", ""), profile.get("localhostProfile")
    here = field.child(path, "localhostProfile")
    if kind != "Localhost":
        errors = _profile_type(kind, field.child(path, "type"), "type is required when appArmorProfile is set")
        if kind and not errors and local is not None:
            errors.append(field.invalid(here, local, "can only be set when AppArmor type is Localhost"))
        return errors
    missing = field.required(here, "must be set when AppArmor type is Localhost")
    if local is None:
        return [missing]
    errors = []
    if local.strip() != local:
        errors.append(field.invalid(here, local, "must not be padded with whitespace"))
    elif not local:
        errors.append(missing)
    if len(local.encode()) > 4095:
        errors.append(field.too_long(here, 4095))
    return errors


def _sysctls(spec: Object, sysctls: list[Object], path: str) -> list[FieldError]:
    errors = []
    seen: set[str] = set()
    for position, sysctl in enumerate(sysctls):
        here, name = field.child(field.index(path, position), "name"), sysctl.get("name", "")
        if not name:
            errors.append(field.required(here))
        elif len(name) > 253 or not _SYSCTL_RE.fullmatch(name):
            errors.append(field.invalid(here, name, f"must have at most 253 characters and match regex {_SYSCTL}"))
        elif name in seen:
            errors.append(field.duplicate(here, name))
        dotted = name.replace("/", ".") if "." not in name or name.find("/") < name.find(".") >= 0 else name
        if spec.get("hostNetwork") and dotted.startswith("net."):
            errors.append(field.invalid(here, name, "may not be specified when 'hostNetwork' is true"))
        elif spec.get("hostIPC") and dotted.startswith(_IPC_SYSCTLS):
            errors.append(field.invalid(here, name, "may not be specified when 'hostIPC' is true"))
        seen.add(name)
    return errors


def host_users(spec: Object, path: str) -> list[FieldError]:
    """What a pod with user namespaces of its own cannot share with its node."""
    if spec.get("hostUsers") is not False:
        return []
    text = "when `hostUsers` is false"
    errors = []
    if spec.get("hostNetwork"):
        errors.append(field.forbidden(field.child(path, "hostNetwork"), text))
    if spec.get("hostPID"):
        errors.append(field.forbidden(field.child(path, "HostPID"), text))
    if spec.get("hostIPC"):
        errors.append(field.forbidden(field.child(path, "HostIPC"), text))
    for container, here in every_container(spec, path):
        if listed(container, "volumeDevices"):
            errors.append(field.forbidden(field.child(here, "volumeDevices"), text))
    return errors


# ---------------------------------------------------------------------- Windows
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NETBIOS = re.compile(r'[^\\/:*?"<>|.][^\\/:*?"<>|]{0,14}')
_DOMAIN_LABEL = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_DOMAIN = re.compile(rf"{_DOMAIN_LABEL}(?:\.{_DOMAIN_LABEL})*")
_USER_CHARACTERS = re.compile(r'["/\\:;|=,+*?<>@\[\]]')
_DOTS_AND_SPACES = re.compile(r"[. ]+")


def _windows_options(options: Any, path: str) -> list[FieldError]:
    if not isinstance(options, dict):
        return []
    errors = []
    name = options.get("gmsaCredentialSpecName")
    if name is not None:
        errors += wrong(field.child(path, "gmsaCredentialSpecName"), name, names.is_dns1123_subdomain(name))
    credential = options.get("gmsaCredentialSpec")
    if credential is not None:
        here = field.child(path, "gmsaCredentialSpec")
        if not credential:
            errors.append(field.invalid(here, credential, "gmsaCredentialSpec cannot be an empty string"))
        elif len(credential.encode()) > 64 * 1024:
            errors.append(field.invalid(here, credential, "gmsaCredentialSpec size must be under 64 KiB"))
    if "runAsUserName" in options:
        user = options["runAsUserName"]
        errors += wrong(field.child(path, "runAsUserName"), user, _user_name(user))
    return errors


def _user_name(value: str) -> list[str]:
    if not value:
        return ["runAsUserName cannot be an empty string"]
    if _CONTROL.search(value):
        return ["runAsUserName cannot contain control characters"]
    parts = value.split("\\")
    if len(parts) > 2:
        return ["runAsUserName cannot contain more than one backslash"]
    domain, user = parts if len(parts) == 2 else ("", parts[0])
    texts = []
    if len(domain) >= 256:
        texts.append("runAsUserName's Domain length must be under 256 characters")
    if len(parts) == 2 and not _NETBIOS.fullmatch(domain) and not _DOMAIN.fullmatch(domain):
        texts.append("runAsUserName's Domain doesn't match the NetBios nor the DNS format")
    if not user:
        texts.append("runAsUserName's User cannot be empty")
    elif len(user) > 104:
        texts.append("runAsUserName's User length must not be longer than 104 characters")
    if _DOTS_AND_SPACES.fullmatch(user):
        texts.append("runAsUserName's User cannot contain only periods or spaces")
    if _USER_CHARACTERS.search(user):
        texts.append("runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]")
    return texts


def host_process(spec: Object, path: str, options: Options) -> list[FieldError]:
    """HostProcess containers of Windows: all of a pod's or none, on the node's network."""
    own = mapped(spec.get("securityContext"), "windowsOptions").get("hostProcess")
    errors, total, hosting = [], 0, 0
    for container, here in every_container(spec, path):
        total += 1
        mine = mapped(container.get("securityContext"), "windowsOptions").get("hostProcess")
        if own is not None and mine is not None and own != mine:
            text = f"pod hostProcess value must be identical if both are specified, was {'true' if own else 'false'}"
            here = field.child(here, "securityContext.windowsOptions.hostProcess")
            errors.append(field.invalid(here, mine, text))
        if mine or (mine is None and own):
            hosting += 1
    if not hosting:
        return errors
    if hosting != total:
        text = "If pod contains any hostProcess containers then all containers must be HostProcess containers"
        errors.append(field.invalid(path, "", text))
    if not spec.get("hostNetwork"):
        text = "hostNetwork must be true if pod contains any hostProcess containers"
        errors.append(field.invalid(field.child(path, "hostNetwork"), False, text))
    if not options.allow_privileged:
        errors.append(field.forbidden(path, "hostProcess containers are disallowed by cluster policy"))
    return errors


_LINUX_POD_FIELDS: Final = (
    "securityContext.appArmorProfile",
    "securityContext.seLinuxOptions",
    "hostUsers",
    "hostPID",
    "hostIPC",
    "securityContext.seccompProfile",
    "securityContext.fsGroup",
    "securityContext.fsGroupChangePolicy",
    "securityContext.sysctls",
    "shareProcessNamespace",
    "securityContext.runAsUser",
    "securityContext.runAsGroup",
    "securityContext.supplementalGroups",
    "securityContext.supplementalGroupsPolicy",
    "securityContext.seLinuxChangePolicy",
)
_LINUX_CONTAINER_FIELDS: Final = (
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
)


def of_other_system(spec: Object, path: str) -> list[FieldError]:
    """What the system that `spec.os` names does not know."""
    system = mapped(spec, "os").get("name")
    context = mapped(spec, "securityContext")
    errors = []
    if system == "linux":
        text = "windows options cannot be set for a linux pod"
        if "windowsOptions" in context:
            errors.append(field.forbidden(field.child(path, "securityContext.windowsOptions"), text))
        for container, here in every_container(spec, path):
            if "windowsOptions" in mapped(container, "securityContext"):
                errors.append(field.forbidden(field.child(here, "securityContext.windowsOptions"), text))
    elif system == "windows":
        text = "cannot be set for a windows pod"
        for name in _LINUX_POD_FIELDS:
            head, _, last = name.rpartition(".")
            if last in (context if head else spec):
                errors.append(field.forbidden(field.child(path, name), text))
        for container, here in every_container(spec, path):
            own = mapped(container, "securityContext")
            errors += [
                field.forbidden(field.child(here, f"securityContext.{name}"), text)
                for name in _LINUX_CONTAINER_FIELDS
                if name in own
            ]
    return errors
