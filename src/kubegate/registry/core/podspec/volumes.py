"""Volumes of all kinds, as pods and persistent volumes have them, and where containers mount them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from kubegate.api import Object, field, names, quantity
from kubegate.api.field import FieldError
from kubegate.registry import goshape
from kubegate.registry.checks import (
    absolute,
    amount,
    descending_path,
    dns_label,
    dns_subdomain,
    file_mode,
    listed,
    local_path,
    mapped,
    no_backsteps,
    qualified_name,
    wrong,
)
from kubegate.registry.core.podspec.options import Options

Source = Mapping[str, Any]
Check = Callable[[Any, str], list[FieldError]]

MORE_THAN_ONE: Final = "may not specify more than 1 volume type"
_HOST_PATH_TYPES: Final = (
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)
_IQN = re.compile(r"iqn\.\d{4}-\d{2}\.([A-Za-z0-9\-.]+)(:[^,;*&$|\s]+)$", re.ASCII)
_EUI = re.compile(r"^eui.[A-Za-z0-9]{16}$")
_NAA = re.compile(r"^naa.[A-Za-z0-9]{32}$")


# ---------------------------------------------------------------------- the volumes of a pod
def pod_volumes(volumes: Sequence[Object], path: str, options: Options) -> tuple[dict[str, Object], list[FieldError]]:
    """The well-formed volumes by name, and what is wrong with the others."""
    found: dict[str, Object] = {}
    errors: list[FieldError] = []
    made = set()
    if options.pod_name:
        made = {f"{options.pod_name}-{volume.get('name', '')}" for volume in volumes if "ephemeral" in volume}
    for position, volume in enumerate(volumes):
        here, name = field.index(path, position), volume.get("name", "")
        own = _pod_volume(volume, here, options)
        name_path = field.child(here, "name")
        own += dns_label(name, name_path) if name else [field.required(name_path)]
        if name in found:
            own.append(field.duplicate(name_path, name))
        if own:
            errors += own
        else:
            found[name] = volume
        claim = mapped(volume, "persistentVolumeClaim").get("claimName", "")
        if claim and claim in made:
            text = "must not reference a PVC that gets created for an ephemeral volume"
            errors.append(field.invalid(field.child(here, "persistentVolumeClaim.claimName"), claim, text))
    return found, errors


def _pod_volume(volume: Object, path: str, options: Options) -> list[FieldError]:
    errors: list[FieldError] = []
    chosen = 0
    for name, (shown, inner, check) in _POD_SOURCES.items():
        if name not in volume:
            continue
        if chosen:
            errors.append(field.forbidden(field.child(path, shown), MORE_THAN_ONE))
        else:
            chosen += 1
            if name == "image" and options.is_pod:
                # A template may leave it to whoever makes the pod.
                errors += _required(volume["image"], field.child(path, "image"), "reference")
            errors += check(volume[name], field.child(path, inner))
        if name == "iscsi":
            errors += _iscsi_length(volume["iscsi"], volume.get("name", ""), field.child(path, "name"))
    if "ephemeral" in volume and chosen == 1 and options.pod_name and volume.get("name"):
        claim = f"{options.pod_name}-{volume['name']}"
        texts = [f'PVC name "{claim}": {text}' for text in names.is_dns1123_subdomain(claim)]
        errors += wrong(field.child(path, "name"), volume["name"], texts)
    if not chosen:
        errors.append(field.required(path, "must specify a volume type"))
    return errors


def _required(found: Source, path: str, *fields_: str) -> list[FieldError]:
    return [field.required(field.child(path, name)) for name in fields_ if not found.get(name)]


def _needs(*fields_: str) -> Check:
    """A source that must have these fields, and of which nothing else is checked."""

    def check(found: Any, path: str) -> list[FieldError]:
        return _required(found, path, *fields_)

    return check


def _empty_dir(found: Source, path: str) -> list[FieldError]:
    if "sizeLimit" in found and amount(found["sizeLimit"]).sign() < 0:
        text = "SizeLimit field must be a valid resource quantity"
        return [field.forbidden(field.child(path, "sizeLimit"), text)]
    return []


def host_path(found: Source, path: str) -> list[FieldError]:
    if not found.get("path"):
        return [field.required(field.child(path, "path"))]
    errors = no_backsteps(found["path"], field.child(path, "path"))
    kind = found.get("type")
    if kind is not None and kind not in _HOST_PATH_TYPES:
        errors.append(field.not_supported(field.child(path, "type"), kind, _HOST_PATH_TYPES))
    return errors


def _git_repo(found: Source, path: str) -> list[FieldError]:
    errors = _required(found, path, "repository")
    return errors + descending_path(found.get("directory", ""), field.child(path, "directory"))


def _disk(identifier: str) -> Check:
    """A cloud's disk with an optional partition."""

    def check(found: Any, path: str) -> list[FieldError]:
        errors = _required(found, path, identifier)
        partition = found.get("partition", 0)
        if not 0 <= partition <= 255:
            here = field.child(path, "partition")
            errors.append(field.invalid(here, partition, names.inclusive_range_error(1, 255)))
        return errors

    return check


def _key_to_path(item: Source, path: str) -> list[FieldError]:
    errors = _required(item, path, "key", "path")
    errors += local_path(item.get("path", ""), field.child(path, "path"))
    return errors + file_mode(item.get("mode"), field.child(path, "mode"))


def _named_files(name: str) -> Check:
    def check(found: Any, path: str) -> list[FieldError]:
        errors = _required(found, path, name)
        errors += file_mode(found.get("defaultMode"), field.child(path, "defaultMode"))
        for position, item in enumerate(listed(found, "items")):
            errors += _key_to_path(item, field.index(field.child(path, "items"), position))
        return errors

    return check


def nfs(found: Source, path: str) -> list[FieldError]:
    errors = _required(found, path, "server", "path")
    if not absolute(found.get("path", "")):
        errors.append(field.invalid(field.child(path, "path"), found.get("path", ""), "must be an absolute path"))
    return errors


def _iscsi_name(value: str, first: str) -> list[str]:
    """What is wrong with an iSCSI name; `first` is said where it has none of the known beginnings."""
    for prefix, pattern in (("iqn", _IQN), ("eui", _EUI), ("naa", _NAA)):
        if value.startswith(prefix):
            return [] if pattern.search(value) else ["must be valid format"]
    return [first]


def _iscsi(unknown: str, *, in_pod: bool) -> Check:
    def check(found: Any, path: str) -> list[FieldError]:
        errors = _required(found, path, "targetPortal")
        if not found.get("iqn"):
            errors.append(field.required(field.child(path, "iqn")))
        else:
            texts = _iscsi_name(found["iqn"], unknown)
            errors += wrong(field.child(path, "iqn"), found["iqn"], texts)
        lun = found.get("lun", 0)
        if not 0 <= lun <= 255:
            errors.append(field.invalid(field.child(path, "lun"), lun, names.inclusive_range_error(0, 255)))
        secret = found.get("secretRef")
        if (found.get("chapAuthDiscovery") or found.get("chapAuthSession")) and secret is None:
            errors.append(field.required(field.child(path, "secretRef")))
        if not in_pod and secret is not None and not secret.get("name"):
            errors.append(field.required(field.child(path, "secretRef.name")))
        if "initiatorName" in found:
            texts = _iscsi_name(found["initiatorName"], unknown)
            errors += wrong(field.child(path, "initiatorname"), found["initiatorName"], texts)
        return errors

    return check


_ISCSI_LIMIT: Final = "must be under 64 characters if iscsi.initiatorName is specified."
_ISCSI_TOO_LONG: Final = f"Total length of <volume name>:<iscsi.targetPortal> {_ISCSI_LIMIT}"


def _iscsi_too_long(found: Source, volume: str) -> bool:
    return "initiatorName" in found and len(f"{volume}:{found.get('targetPortal', '')}") > 64


def _iscsi_length(found: Source, volume: str, path: str) -> list[FieldError]:
    return [field.invalid(path, volume, _ISCSI_TOO_LONG)] if _iscsi_too_long(found, volume) else []


def iscsi_portal_length(found: Source, volume: str, path: str) -> list[FieldError]:
    """As for a pod's volume, but the portal is blamed, not the name."""
    if not _iscsi_too_long(found, volume):
        return []
    return [field.invalid(path, found.get("targetPortal", ""), _ISCSI_TOO_LONG)]


def fc(found: Source, path: str) -> list[FieldError]:
    errors = []
    here, wwns, wwids = field.child(path, "targetWWNs"), listed(found, "targetWWNs"), listed(found, "wwids")
    if not wwns and not wwids:
        errors.append(field.required(here, "must specify either targetWWNs or wwids, but not both"))
    if wwns and wwids:
        errors.append(field.invalid(here, wwns, "targetWWNs and wwids can not be specified simultaneously"))
    if wwns:
        lun = found.get("lun")
        if lun is None:
            errors.append(field.required(field.child(path, "lun"), "lun is required if targetWWNs is specified"))
        elif not 0 <= lun <= 255:
            errors.append(field.invalid(field.child(path, "lun"), lun, names.inclusive_range_error(0, 255)))
    return errors


def quobyte(found: Source, path: str) -> list[FieldError]:
    errors = []
    pairs = "must be a host:port pair or multiple pairs separated by commas"
    registry = found.get("registry", "")
    if not registry:
        errors.append(field.required(field.child(path, "registry"), pairs))
    elif len(found.get("tenant", "")) >= 65:
        text = "must be a UUID and may not exceed a length of 64 characters"
        errors.append(field.required(field.child(path, "tenant"), text))
    else:
        bad = [pair for pair in registry.split(",") if pair.count(":") != 1]
        errors += [field.invalid(field.child(path, "registry"), registry, pairs) for _ in bad]
    return errors + _required(found, path, "volume")


def flocker(found: Source, path: str) -> list[FieldError]:
    errors = []
    name, uuid = found.get("datasetName", ""), found.get("datasetUUID", "")
    if not name and not uuid:
        errors.append(field.required(path, "one of datasetName and datasetUUID is required"))
    if name and uuid:
        text = "datasetName and datasetUUID can not be specified simultaneously"
        errors.append(field.invalid(path, "resource", text))
    if "/" in name:
        errors.append(field.invalid(field.child(path, "datasetName"), name, "must not contain '/'"))
    return errors


def flex(found: Source, path: str) -> list[FieldError]:
    errors = _required(found, path, "driver")
    for name in sorted(mapped(found, "options")):
        namespace = "." + name.partition("/")[0].lower()
        if namespace.endswith((".kubernetes.io", ".k8s.io")):
            here = field.key(field.child(path, "options"), name)
            errors.append(field.invalid(here, name, "kubernetes.io and k8s.io namespaces are reserved"))
    return errors


def _secret_name(found: Source, path: str, *, namespaced: bool) -> list[FieldError]:
    secret = found.get("secretRef")
    if not isinstance(secret, dict):
        return []
    wanted = ("name", "namespace") if namespaced else ("name",)
    return [field.required(field.child(path, f"secretRef.{name}")) for name in wanted if not secret.get(name)]


def cinder(found: Source, path: str, *, namespaced: bool = False) -> list[FieldError]:
    return _required(found, path, "volumeID") + _secret_name(found, path, namespaced=namespaced)


def storage_os(found: Source, path: str, *, namespaced: bool = False) -> list[FieldError]:
    errors = []
    name = found.get("volumeName", "")
    here = field.child(path, "volumeName")
    errors += dns_label(name, here) if name else [field.required(here)]
    if found.get("volumeNamespace"):
        errors += dns_label(found["volumeNamespace"], field.child(path, "volumeNamespace"))
    return errors + _secret_name(found, path, namespaced=namespaced)


def azure_disk(found: Source, path: str) -> list[FieldError]:
    errors = _required(found, path, "diskName", "diskURI")
    caching = found.get("cachingMode")
    modes = ("None", "ReadOnly", "ReadWrite")
    if caching is not None and caching not in modes:
        errors.append(field.not_supported(field.child(path, "cachingMode"), caching, modes))
    kind = found.get("kind")
    kinds = ("Dedicated", "Managed", "Shared")
    if kind is not None and kind not in kinds:
        errors.append(field.not_supported(field.child(path, "kind"), kind, kinds))
    uri, here = found.get("diskURI", ""), field.child(path, "diskURI")
    if kind == "Managed" and not uri.startswith("/subscriptions/"):
        pattern = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
        errors.append(field.not_supported(here, uri, (pattern,)))
    elif kind is not None and kind != "Managed" and not uri.startswith("https://"):
        pattern = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"
        errors.append(field.not_supported(here, uri, (pattern,)))
    return errors


def csi_driver_name(name: str, path: str) -> list[FieldError]:
    if not name:
        return [field.required(path)]
    errors = [field.too_long(path, 63)] if len(name) > 63 else []
    return errors + wrong(path, name, names.is_dns1123_subdomain(name.lower()))


def _csi(found: Source, path: str) -> list[FieldError]:
    errors = csi_driver_name(found.get("driver", ""), field.child(path, "driver"))
    secret = found.get("nodePublishSecretRef")
    if isinstance(secret, dict):
        name = secret.get("name", "")
        if not name:
            errors.append(field.required(field.child(path, "nodePublishSecretRef.name")))
        else:
            errors += dns_subdomain(name, field.child(path, "name"))
    return errors


def _ephemeral(found: Source, path: str) -> list[FieldError]:
    # Here, because claims are checked by a module that checks volumes.
    from kubegate.registry.core.persistentvolumeclaims import claim_template

    template = found.get("volumeClaimTemplate")
    here = field.child(path, "volumeClaimTemplate")
    return claim_template(template, here) if isinstance(template, dict) else [field.required(here)]


def _image(found: Source, path: str) -> list[FieldError]:
    return pull_policy(found.get("pullPolicy", ""), field.child(path, "pullPolicy"))


def pull_policy(policy: str, path: str) -> list[FieldError]:
    supported = ("Always", "IfNotPresent", "Never")
    if not policy:
        return [field.required(path)]
    return [] if policy in supported else [field.not_supported(path, policy, supported)]


# ---------------------------------------------------------------------- downward API and projections
_VOLUME_FIELDS: Final = (
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
)
_SUBSCRIPT = re.compile(r"(?P<path>.+)\['(?P<key>.*)'\]", re.DOTALL)
# What ConvertDownwardAPIFieldLabel knows: paths that may be asked for at all, whichever place allows them.
_KNOWN_FIELDS: Final = frozenset(
    {
        "metadata.annotations",
        "metadata.labels",
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.serviceAccountName",
        "spec.schedulerName",
        "status.phase",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    }
)
_RESOURCE_FIELDS: Final = (
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
)
_HUGE_PAGES: Final = ("limits.hugepages-", "requests.hugepages-")
_DIVISORS: Final = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")


def field_selector(found: Source, path: str, supported: Sequence[str]) -> list[FieldError]:
    """An ObjectFieldSelector: which of the pod's own fields a file or variable shows."""
    version, asked = found.get("apiVersion", ""), found.get("fieldPath", "")
    if not version:
        return [field.required(field.child(path, "apiVersion"))]
    here = field.child(path, "fieldPath")
    if not asked:
        return [field.required(here)]
    subscript = _SUBSCRIPT.fullmatch(asked)
    problem = _conversion_problem(version, asked, subscript)
    if problem:
        return [field.invalid(here, asked, f"error converting fieldPath: {problem}")]
    if subscript is not None:
        key = subscript.group("key")
        lowered = key.lower() if subscript.group("path") == "metadata.annotations" else key
        return qualified_name(lowered, path)
    canonical = "spec.nodeName" if asked == "spec.host" else asked
    if canonical not in supported:
        return [field.not_supported(here, canonical, supported)]
    return []


def _conversion_problem(version: str, asked: str, subscript: re.Match[str] | None) -> str:
    if version != "v1":
        return f"unsupported pod version: {version}"
    if subscript is not None:
        known = subscript.group("path") in ("metadata.annotations", "metadata.labels")
        return "" if known else f"field label does not support subscript: {asked}"
    return "" if asked in _KNOWN_FIELDS or asked == "spec.host" else f"field label not supported: {asked}"


def resource_selector(found: Source, path: str, *, in_volume: bool) -> list[FieldError]:
    """A ResourceFieldSelector: which of a container's resources a file or variable shows."""
    errors = []
    asked = found.get("resource", "")
    if in_volume and not found.get("containerName"):
        errors.append(field.required(field.child(path, "containerName")))
    elif not asked:
        errors.append(field.required(field.child(path, "resource")))
    elif asked not in _RESOURCE_FIELDS and not asked.startswith(_HUGE_PAGES):
        errors.append(field.not_supported(field.child(path, "resource"), asked, _RESOURCE_FIELDS))
    divisor = str(found.get("divisor", "0"))
    if quantity.parse(divisor).is_zero:
        return errors
    what, allowed = _divisor_rule(asked)
    if what and str(quantity.parse(divisor)) not in allowed:
        shown = ", ".join(allowed) if what != "cpu" else "1m and 1"
        text = f"only divisor's values {shown} are supported with the {what} resource"
        errors.append(field.invalid(field.child(path, "divisor"), asked, text))
    return errors


def _divisor_rule(asked: str) -> tuple[str, tuple[str, ...]]:
    if asked in ("limits.cpu", "requests.cpu"):
        return "cpu", ("1m", "1")
    if asked in ("limits.memory", "requests.memory"):
        return "memory", _DIVISORS
    if asked in ("limits.ephemeral-storage", "requests.ephemeral-storage"):
        return "local ephemeral storage", _DIVISORS
    return ("hugepages", _DIVISORS) if asked.startswith(_HUGE_PAGES) else ("", ())


def _downward_file(found: Source, path: str) -> list[FieldError]:
    errors = _required(found, path, "path")
    errors += local_path(found.get("path", ""), field.child(path, "path"))
    if "fieldRef" in found:
        errors += field_selector(found["fieldRef"], field.child(path, "fieldRef"), _VOLUME_FIELDS)
        if "resourceFieldRef" in found:
            text = "fieldRef and resourceFieldRef can not be specified simultaneously"
            errors.append(field.invalid(path, "resource", text))
    elif "resourceFieldRef" in found:
        here = field.child(path, "resourceFieldRef")
        errors += resource_selector(found["resourceFieldRef"], here, in_volume=True)
    else:
        errors.append(field.required(path, "one of fieldRef and resourceFieldRef is required"))
    return errors + file_mode(found.get("mode"), field.child(path, "mode"))


def _downward_api(found: Source, path: str) -> list[FieldError]:
    errors = file_mode(found.get("defaultMode"), field.child(path, "defaultMode"))
    for item in listed(found, "items"):
        errors += _downward_file(item, path)
    return errors


class _Paths:
    """The files of a projected volume: each may be there once."""

    def __init__(self, path: str) -> None:
        self._path, self._seen = path, set[str]()

    def take(self, file: str, blamed: str) -> list[FieldError]:
        if file in self._seen:
            return [field.invalid(self._path, blamed, "conflicting duplicate paths")]
        self._seen.add(file)
        return []


def _projected(found: Source, path: str) -> list[FieldError]:
    errors = file_mode(found.get("defaultMode"), field.child(path, "defaultMode"))
    paths = _Paths(path)
    for position, source in enumerate(listed(found, "sources")):
        here = field.index(field.child(path, "sources"), position)
        chosen = 0
        for name, check in _PROJECTIONS.items():
            if name in source:
                chosen += 1
                errors += check(source[name], field.child(here, name), path, paths)
        if chosen > 1:
            errors.append(field.forbidden(here, "may not specify more than 1 volume type per source"))
    return errors


def _projected_names(found: Source, path: str, volume_path: str, paths: _Paths) -> list[FieldError]:
    errors = _required(found, path, "name")
    for position, item in enumerate(listed(found, "items")):
        errors += _key_to_path(item, field.index(field.child(path, "items"), position))
        if item.get("path"):
            errors += paths.take(item["path"], found.get("name", ""))
    return errors


def _projected_downward(found: Source, path: str, volume_path: str, paths: _Paths) -> list[FieldError]:
    errors = []
    for item in listed(found, "items"):
        errors += _downward_file(item, path)
        if item.get("path"):
            errors += paths.take(item["path"], item["path"])
    return errors


def _projected_token(found: Source, path: str, volume_path: str, paths: _Paths) -> list[FieldError]:
    errors = []
    seconds, here = found.get("expirationSeconds", 0), field.child(path, "expirationSeconds")
    if seconds < 600:
        errors.append(field.invalid(here, seconds, "may not specify a duration less than 10 minutes"))
    if seconds > 1 << 32:
        errors.append(field.invalid(here, seconds, "may not specify a duration larger than 2^32 seconds"))
    # The volume's path, not the source's: as the real one has it.
    here = field.child(volume_path, "path")
    if not found.get("path"):
        errors.append(field.required(here))
    else:
        errors += local_path(found["path"], here)
    return errors


def _projected_bundle(found: Source, path: str, volume_path: str, paths: _Paths) -> list[FieldError]:
    from kubegate.api.selectors import validate_selector

    errors = []
    name, signer = found.get("name"), found.get("signerName")
    if name is not None and signer is not None:
        shown = goshape.shape(dict(found), "ClusterTrustBundleProjection")
        errors.append(field.invalid(path, shown, "only one of name and signerName may be used"))
    elif name is not None:
        here = field.child(path, "name")
        if not name:
            errors.append(field.required(here, "must be a valid object name"))
        texts = names.is_dns1123_subdomain(name.rpartition(":")[2])
        errors += wrong(here, name, [f"not a valid clustertrustbundlename: {text}" for text in texts])
        if "labelSelector" in found:
            here = field.child(path, "labelSelector")
            text = "labelSelector must be unset if name is specified"
            errors.append(field.invalid(here, found["labelSelector"], text))
    elif signer is not None:
        here = field.child(path, "signerName")
        if not signer:
            errors.append(field.required(here, "must be a valid signer name"))
        errors += _signer_name(signer, here)
        errors += validate_selector(found.get("labelSelector"), field.child(path, "labelSelector"))
    else:
        errors.append(field.required(path, "either name or signerName must be specified"))
    file, here = found.get("path", ""), field.child(path, "path")
    if not file:
        errors.append(field.required(here))
    return errors + local_path(file, here) + paths.take(file, file)


def _signer_name(value: str, path: str) -> list[FieldError]:
    if not value:
        return [field.required(path)]
    domain, slash, rest = value.partition("/")
    if not slash or not rest or "/" in rest:
        text = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        return [field.invalid(path, value, text)]
    errors = [
        field.invalid(path, value, f'validating label "{domain}": {t}') for t in names.is_dns1123_subdomain(domain)
    ]
    if not errors and "." not in domain:
        errors.append(field.invalid(path, value, "should be a domain with at least two segments separated by dots"))
    return errors


_KEY_TYPES: Final = ("RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519")


def _projected_certificate(found: Source, path: str, volume_path: str, paths: _Paths) -> list[FieldError]:
    signer = found.get("signerName", "")
    errors = _signer_name(signer, field.child(path, "signerName"))
    key_type = found.get("keyType", "")
    if key_type not in _KEY_TYPES:
        errors.append(field.not_supported(field.child(path, "keyType"), key_type, _KEY_TYPES))
    seconds, here = found.get("maxExpirationSeconds"), field.child(path, "maxExpirationSeconds")
    if seconds is not None:
        most = 86400 if signer.startswith("kubernetes.io/") else 7862400
        if seconds < 3600:
            errors.append(field.invalid(here, seconds, "if provided, maxExpirationSeconds must be >= 3600"))
        if seconds > most:
            errors.append(field.invalid(here, seconds, f"if provided, maxExpirationSeconds must be <= {most}"))
    files = [name for name in ("credentialBundlePath", "keyPath", "certificateChainPath") if found.get(name)]
    for name in files:
        errors += local_path(found[name], field.child(path, name)) + paths.take(found[name], found[name])
    if not files:
        text = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath"
        errors.append(field.required(path, text))
    return errors


_PROJECTIONS: Final = {
    "secret": _projected_names,
    "configMap": _projected_names,
    "downwardAPI": _projected_downward,
    "serviceAccountToken": _projected_token,
    "clusterTrustBundle": _projected_bundle,
    "podCertificate": _projected_certificate,
}

# name in the object -> the name in an error about a second source, the name under which its own errors stand, its check
_POD_SOURCES: Final[dict[str, tuple[str, str, Check]]] = {
    "emptyDir": ("emptyDir", "emptyDir", _empty_dir),
    "hostPath": ("hostPath", "hostPath", host_path),
    "gitRepo": ("gitRepo", "gitRepo", _git_repo),
    "gcePersistentDisk": ("gcePersistentDisk", "persistentDisk", _disk("pdName")),
    "awsElasticBlockStore": ("awsElasticBlockStore", "awsElasticBlockStore", _disk("volumeID")),
    "secret": ("secret", "secret", _named_files("secretName")),
    "nfs": ("nfs", "nfs", nfs),
    "iscsi": ("iscsi", "iscsi", _iscsi("must be valid format starting with iqn, eui, or naa", in_pod=True)),
    "glusterfs": ("glusterfs", "glusterfs", _needs("endpoints", "path")),
    "flocker": ("flocker", "flocker", flocker),
    "persistentVolumeClaim": ("persistentVolumeClaim", "persistentVolumeClaim", _needs("claimName")),
    "rbd": ("rbd", "rbd", _needs("monitors", "image")),
    "cinder": ("cinder", "cinder", cinder),
    "cephfs": ("cephFS", "cephfs", _needs("monitors")),
    "quobyte": ("quobyte", "quobyte", quobyte),
    "downwardAPI": ("downwarAPI", "downwardAPI", _downward_api),
    "fc": ("fc", "fc", fc),
    "flexVolume": ("flexVolume", "flexVolume", flex),
    "configMap": ("configMap", "configMap", _named_files("name")),
    "azureFile": ("azureFile", "azureFile", _needs("secretName", "shareName")),
    "vsphereVolume": ("vsphereVolume", "vsphereVolume", _needs("volumePath")),
    "photonPersistentDisk": ("photonPersistentDisk", "photonPersistentDisk", _needs("pdID")),
    "portworxVolume": ("portworxVolume", "portworxVolume", _needs("volumeID")),
    "azureDisk": ("azureDisk", "azureDisk", azure_disk),
    "storageos": ("storageos", "storageos", storage_os),
    "projected": ("projected", "projected", _projected),
    "scaleIO": ("scaleIO", "scaleIO", _needs("gateway", "system", "volumeName")),
    "csi": ("csi", "csi", _csi),
    "ephemeral": ("ephemeral", "ephemeral", _ephemeral),
    "image": ("image", "image", _image),
}


# ---------------------------------------------------------------------- persistent volumes
def _namespaced(check: Callable[..., list[FieldError]]) -> Check:
    def of(found: Any, path: str) -> list[FieldError]:
        return check(found, path, namespaced=True)

    return of


def _persistent_glusterfs(found: Source, path: str) -> list[FieldError]:
    errors = _required(found, path, "endpoints", "path")
    namespace = found.get("endpointsNamespace")
    here = field.child(path, "endpointsNamespace")
    if namespace == "":
        text = "if the endpointnamespace is set, it must be a valid namespace name"
        errors.append(field.invalid(here, namespace, text))
    elif namespace is not None:
        errors += dns_label(namespace, here)
    return errors


def _persistent_azure_file(found: Source, path: str) -> list[FieldError]:
    errors = _required(found, path, "secretName", "shareName")
    if found.get("secretNamespace") == "":
        errors.append(field.required(field.child(path, "secretNamespace")))
    return errors


def _local(found: Source, path: str) -> list[FieldError]:
    here = field.child(path, "path")
    return no_backsteps(found["path"], here) if found.get("path") else [field.required(here)]


def _persistent_csi(found: Source, path: str) -> list[FieldError]:
    errors = csi_driver_name(found.get("driver", ""), field.child(path, "driver"))
    errors += _required(found, path, "volumeHandle")
    for name in (
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ):
        if name in found:
            errors += _secret_reference(found[name], field.child(path, name))
    return errors


def _secret_reference(found: Source, path: str) -> list[FieldError]:
    name, namespace = found.get("name", ""), found.get("namespace", "")
    here, there = field.child(path, "name"), field.child(path, "namespace")
    errors = dns_subdomain(name, here) if name else [field.required(here)]
    return errors + (dns_label(namespace, there) if namespace else [field.required(there)])


PERSISTENT_SOURCES: Final[dict[str, tuple[str, str, Check]]] = {
    "hostPath": _POD_SOURCES["hostPath"],
    "gcePersistentDisk": _POD_SOURCES["gcePersistentDisk"],
    "awsElasticBlockStore": _POD_SOURCES["awsElasticBlockStore"],
    "glusterfs": ("glusterfs", "glusterfs", _persistent_glusterfs),
    "flocker": _POD_SOURCES["flocker"],
    "nfs": _POD_SOURCES["nfs"],
    "rbd": _POD_SOURCES["rbd"],
    "quobyte": _POD_SOURCES["quobyte"],
    "cephfs": _POD_SOURCES["cephfs"],
    "iscsi": ("iscsi", "iscsi", _iscsi("must be valid format", in_pod=False)),
    "cinder": ("cinder", "cinder", _namespaced(cinder)),
    "fc": _POD_SOURCES["fc"],
    "flexVolume": _POD_SOURCES["flexVolume"],
    "azureFile": ("azureFile", "azureFile", _persistent_azure_file),
    "vsphereVolume": _POD_SOURCES["vsphereVolume"],
    "photonPersistentDisk": _POD_SOURCES["photonPersistentDisk"],
    "portworxVolume": _POD_SOURCES["portworxVolume"],
    "azureDisk": _POD_SOURCES["azureDisk"],
    "scaleIO": _POD_SOURCES["scaleIO"],
    "local": ("local", "local", _local),
    "storageos": ("storageos", "storageos", _namespaced(storage_os)),
    "csi": ("csi", "csi", _persistent_csi),
}


# ---------------------------------------------------------------------- mounts
def mounts(container: Object, volumes: Mapping[str, Object], path: str) -> list[FieldError]:
    """A container's volumeMounts. `volumes` are the pod's; `path` is that of the list."""
    errors = []
    devices = {one.get("name", ""): one.get("devicePath", "") for one in listed(container, "volumeDevices")}
    seen: set[str] = set()
    for position, mount in enumerate(listed(container, "volumeMounts")):
        here = field.index(path, position)
        name, target = mount.get("name", ""), mount.get("mountPath", "")
        name_path, mount_path = field.child(here, "name"), field.child(here, "mountPath")
        if not name:
            errors.append(field.required(name_path))
        if name not in volumes:
            errors.append(field.not_found(name_path, name))
        if not target:
            errors.append(field.required(mount_path))
        if target in seen:
            errors.append(field.invalid(mount_path, target, "must be unique"))
        seen.add(target)
        if name in devices:
            errors.append(field.invalid(name_path, name, "must not already exist in volumeDevices"))
        if target in devices.values():
            errors.append(field.invalid(mount_path, target, "must not already exist as a path in volumeDevices"))
        # From here on the list's path, without the mount's position: as the real one has it.
        sub_path, expression = mount.get("subPath", ""), mount.get("subPathExpr", "")
        if sub_path:
            errors += descending_path(sub_path, field.child(path, "subPath"))
        if expression:
            if sub_path:
                text = "subPathExpr and subPath are mutually exclusive"
                errors.append(field.invalid(field.child(here, "subPathExpr"), expression, text))
            errors += descending_path(expression, field.child(path, "subPathExpr"))
        errors += _propagation(mount, container, field.child(path, "mountPropagation"))
        errors += _recursive_read_only(mount, field.child(path, "recursiveReadOnly"))
    return errors


def _propagation(mount: Object, container: Object, path: str) -> list[FieldError]:
    mode = mount.get("mountPropagation")
    if mode is None:
        return []
    supported = ("Bidirectional", "HostToContainer", "None")
    if mode not in supported:
        return [field.not_supported(path, mode, supported)]
    if mode == "Bidirectional" and not mapped(container, "securityContext").get("privileged"):
        return [field.forbidden(path, "Bidirectional mount propagation is available only to privileged containers")]
    return []


def _recursive_read_only(mount: Object, path: str) -> list[FieldError]:
    mode = mount.get("recursiveReadOnly")
    if mode in (None, "Disabled"):
        return []
    supported = ("Disabled", "Enabled", "IfPossible")
    if mode not in supported:
        return [field.not_supported(path, mode, supported)]
    errors = []
    if not mount.get("readOnly"):
        errors.append(field.forbidden(path, "may only be specified when readOnly is true"))
    if mount.get("mountPropagation") not in (None, "None"):
        errors.append(field.forbidden(path, "may only be specified when mountPropagation is None or not specified"))
    return errors


def devices(container: Object, volumes: Mapping[str, Object], path: str) -> list[FieldError]:
    """A container's volumeDevices."""
    errors = []
    mounted = {one.get("name", ""): one.get("mountPath", "") for one in listed(container, "volumeMounts")}
    names_seen: set[str] = set()
    paths_seen: set[str] = set()
    for position, device in enumerate(listed(container, "volumeDevices")):
        here = field.index(path, position)
        name, target = device.get("name", ""), device.get("devicePath", "")
        name_path, device_path = field.child(here, "name"), field.child(here, "devicePath")
        if not name:
            errors.append(field.required(name_path))
        if name in names_seen:
            errors.append(field.invalid(name_path, name, "must be unique"))
        volume = volumes.get(name)
        if volume is None:
            errors.append(field.not_found(name_path, name))
        elif "persistentVolumeClaim" not in volume and "ephemeral" not in volume:
            text = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            errors.append(field.invalid(name_path, name, text))
        if not target:
            errors.append(field.required(device_path))
        if target in paths_seen:
            errors.append(field.invalid(device_path, target, "must be unique"))
        if no_backsteps(target, path):
            errors.append(field.invalid(device_path, target, "can not contain backsteps ('..')"))
        else:
            paths_seen.add(target)
        if name in mounted:
            errors.append(field.invalid(name_path, name, "must not already exist in volumeMounts"))
        if target in mounted.values():
            errors.append(field.invalid(device_path, target, "must not already exist as a path in volumeMounts"))
        if name:
            names_seen.add(name)
    return errors
