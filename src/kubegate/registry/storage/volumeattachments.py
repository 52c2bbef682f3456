"""VolumeAttachments: that a volume is to be attached to a node."""

from __future__ import annotations

from kubegate.api import Object, field, names
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope, goshape
from kubegate.registry.canonical import Defaulted, with_blank_status
from kubegate.registry.checks import dns_subdomain, mapped
from kubegate.registry.core.podspec.volumes import csi_driver_name
from kubegate.registry.objectmeta import SAID_OF_IT, checked, keeping

_TYPE = "io.k8s.api.storage.v1.VolumeAttachment"
_ONE_SOURCE = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
_MAX_METADATA, _MAX_MESSAGE = 256 * 1024, 1024
_MAX_CODE = 2**31 - 1


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    spec = obj["spec"]
    attacher = spec.get("attacher", "")
    errors = [] if attacher else [field.required("spec.attacher")]
    errors += _source(mapped(spec, "source")) + dns_subdomain(spec.get("nodeName", ""), "spec.nodeName")
    if old is not None:
        # An update is looked at as a new object and as an update, so that everything is told twice.
        errors *= 2
        if spec != old["spec"]:
            errors.append(field.invalid("spec", goshape.shape(spec, "VolumeAttachmentSpec"), field.IMMUTABLE))
        return errors
    errors += csi_driver_name(attacher, "spec.attacher")
    name = mapped(spec, "source").get("persistentVolumeName")
    return errors if name is None else errors + dns_subdomain(name, "spec.source.persistentVolumeName")


def _source(source: Object) -> list[FieldError]:
    path, inline, name = "spec.source", source.get("inlineVolumeSpec"), source.get("persistentVolumeName")
    if inline is None and name is None:
        return [field.required(path, _ONE_SOURCE)]
    if inline is not None and name is not None:
        return [field.forbidden(path, _ONE_SOURCE)]
    if name == "":
        return [field.required(f"{path}.persistentVolumeName", "must specify non empty persistentVolumeName")]
    return []


def _validate_status(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    status = mapped(obj, "status")
    errors = []
    metadata = mapped(status, "attachmentMetadata")
    if sum(len(name.encode()) + len(value.encode()) for name, value in metadata.items()) > _MAX_METADATA:
        errors.append(field.too_long("status.attachmentMetadata", _MAX_METADATA))
    for name in ("attachError", "detachError"):
        found, path = mapped(status, name), f"status.{name}"
        if len(found.get("message", "").encode()) > _MAX_MESSAGE:
            errors.append(field.too_long(f"{path}.message", _MAX_METADATA))
        code = found.get("errorCode")
        if code is not None and code < 0:
            errors.append(field.invalid(f"{path}.errorCode", code, names.inclusive_range_error(0, _MAX_CODE)))
    return errors


RULES = Rules(
    default=Defaulted(_TYPE),
    prepare=with_blank_status(_TYPE),
    validate=checked(_validate, again="subdomain"),
    status=True,
    returns_deleted=True,
    subresources={"status": Rules(prepare=keeping(*SAID_OF_IT), validate=checked(_validate_status))},
)
