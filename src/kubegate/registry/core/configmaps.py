"""ConfigMaps: keys that are file names, a bound on their size, and an immutable form."""

from __future__ import annotations

import base64
import binascii

from kubegate.api import Object, field, names
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope
from kubegate.registry.canonical import Defaulted
from kubegate.registry.checks import mapped, wrong
from kubegate.registry.objectmeta import checked

MAX_BYTES = 1 << 20
IMMUTABLE_SET = "field is immutable when `immutable` is set"


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    errors = []
    if old is not None and old.get("immutable"):
        if not obj.get("immutable"):
            errors.append(field.forbidden("immutable", IMMUTABLE_SET))
        for name in ("data", "binaryData"):
            if mapped(obj, name) != mapped(old, name):
                errors.append(field.forbidden(name, IMMUTABLE_SET))
    data, binary = mapped(obj, "data"), mapped(obj, "binaryData")
    size = 0
    for name, value in sorted(data.items()):
        if problems := names.is_config_map_key(name):
            errors += wrong(field.key("data", name), name, problems)
        if name in binary:
            errors.append(field.invalid(field.key("data", name), name, "duplicate of key present in binaryData"))
        size += len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
    for name, value in sorted(binary.items()):
        errors += wrong(field.key("binaryData", name), name, names.is_config_map_key(name))
        size += decoded_size(value)
    if size > MAX_BYTES:
        # The whole object is too long: its path is the empty subscript.
        errors.append(field.too_long("[]", MAX_BYTES))
    return errors


def decoded_size(text: str) -> int:
    """How many bytes a base64 text stands for; decoding the object has found it well formed."""
    try:
        return len(base64.b64decode(text, validate=False))
    except (binascii.Error, ValueError):
        return len(text)


RULES = Rules(default=Defaulted("io.k8s.api.core.v1.ConfigMap"), validate=checked(_validate, again="subdomain"))
