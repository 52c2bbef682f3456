"""CSIDrivers: what a storage driver of the cluster needs and can do."""

from __future__ import annotations

from kubegate.api import Object, field
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope
from kubegate.registry.canonical import Defaulted
from kubegate.registry.checks import listed
from kubegate.registry.objectmeta import checked

_GROUP_POLICIES = ("File", "None", "ReadWriteOnceWithFSType")
_MODES = ("Persistent", "Ephemeral")
_SHORTEST, _LONGEST = 600, 1 << 32
_SHORTEST_PERIOD = 10


def _default(obj: Object) -> None:
    spec = obj["spec"]
    spec.setdefault("attachRequired", True)
    spec.setdefault("podInfoOnMount", False)
    spec.setdefault("storageCapacity", False)
    spec.setdefault("fsGroupPolicy", "ReadWriteOnceWithFSType")
    if not listed(spec, "volumeLifecycleModes"):
        spec["volumeLifecycleModes"] = ["Persistent"]
    spec.setdefault("requiresRepublish", False)
    spec.setdefault("seLinuxMount", False)


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    spec = obj["spec"]
    errors: list[FieldError] = []
    if spec["fsGroupPolicy"] not in _GROUP_POLICIES:
        errors.append(field.not_supported("spec.fsGroupPolicy", spec["fsGroupPolicy"], _GROUP_POLICIES))
    errors += _token_requests(listed(spec, "tokenRequests"))
    modes = listed(spec, "volumeLifecycleModes")
    errors += [field.not_supported("spec.volumeLifecycleModes", mode, _MODES) for mode in modes if mode not in _MODES]
    period = spec.get("nodeAllocatableUpdatePeriodSeconds")
    if period is not None and period < _SHORTEST_PERIOD:
        text = f"must be greater than or equal to {_SHORTEST_PERIOD} seconds"
        errors.append(field.invalid("spec.nodeAllocatableUpdatePeriodSeconds", period, text))
    in_secrets = spec.get("serviceAccountTokenInSecrets")
    if in_secrets is not None and not listed(spec, "tokenRequests"):
        text = "serviceAccountTokenInSecrets is set but no tokenRequests are specified"
        errors.append(field.invalid("spec.serviceAccountTokenInSecrets", in_secrets, text))
    if old is not None:
        before = old["spec"]
        errors += field.immutable("spec.attachedRequired", spec["attachRequired"], before.get("attachRequired"))
        errors += field.immutable("spec.volumeLifecycleModes", modes, before.get("volumeLifecycleModes"))
    return errors


def _token_requests(requests: list[Object]) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for position, request in enumerate(requests):
        path, audience = field.index("spec.tokenRequests", position), request.get("audience", "")
        if audience in seen:
            errors.append(field.duplicate(field.child(path, "audience"), audience))
            continue
        seen.add(audience)
        seconds, where = request.get("expirationSeconds"), field.child(path, "expirationSeconds")
        if seconds is not None and seconds < _SHORTEST:
            errors.append(field.invalid(where, seconds, "may not specify a duration less than 10 minutes"))
        if seconds is not None and seconds > _LONGEST:
            errors.append(field.invalid(where, seconds, "may not specify a duration larger than 2^32 seconds"))
    return errors


RULES = Rules(
    default=Defaulted("io.k8s.api.storage.v1.CSIDriver", _default),
    validate=checked(_validate),
    generation=True,
    returns_deleted=True,
)
