"""TokenRequest: POST to a service account's `token` gives a token for it.

Follows k8s.io/kubernetes/pkg/registry/core/serviceaccount/storage (TokenREST).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from kubegate.api import Object, clone, field, status
from kubegate.api.clock import rfc3339
from kubegate.api.field import FieldError
from kubegate.api.metadata import new_uid
from kubegate.api.names import path_segment_name
from kubegate.authentication.signing import BoundObjects
from kubegate.registry import Scope

if TYPE_CHECKING:
    from kubegate.authentication.build import BuiltAuthentication

GROUP = "authentication.k8s.io"
KIND = "TokenRequest"
DEFAULT_SECONDS = 3600
MIN_SECONDS = 600
MAX_SECONDS = 1 << 32

# Kubelets ask for tokens of this lifetime. They are given a year, with a mark from which on the token is stale, so
# that clients that do not read their token again go on working, and are found.
PROJECTED_SECONDS = 3607
EXTENDED_SECONDS = 365 * 24 * 3600

_REPLACED = (
    "the UID in the bound object reference ({}) does not match the UID in record. "
    "The object might have been deleted and then recreated"
)


def prepare(request: Object, account: Object | None, scope: Scope) -> None:
    """What validating admission is shown beside what was sent: whose token it will be."""
    if account is not None:
        found = account["metadata"]
        kept = {key: found[key] for key in ("name", "namespace", "uid", "creationTimestamp") if key in found}
        request["metadata"] = {**kept, **(request.get("metadata") or {})}


async def create(namespace: str, name: str, request: Object, scope: Scope) -> Object:
    """The request with its status: the token and when it ends."""
    authentication: BuiltAuthentication = scope.registry.extensions["authentication"]
    if authentication.signer is None:
        raise status.generic(404, "NotFound", "the server could not find the requested resource")
    _check_target(request, name)
    account = scope.reader.get("serviceaccounts", namespace, name)
    if account is None:
        raise status.not_found("", "serviceaccounts", name)
    _check_account(request, account)
    request = _with_defaults(request, scope)
    spec: dict[str, Any] = request["spec"]
    spec["audiences"] = spec.get("audiences") or list(authentication.api_audiences)
    spec.setdefault("boundObjectRef", None)
    errors = validate(spec)
    if errors:
        raise status.invalid(GROUP, KIND, "", errors)
    bound = _bound(spec["boundObjectRef"], namespace, name, scope)
    now = scope.clock.now()
    lifetime = _lifetime(spec, bound, authentication, scope)
    token_id = new_uid()
    token = authentication.signer.bound(
        account,
        bound,
        audiences=spec["audiences"],
        now=now,
        seconds=lifetime.seconds,
        warn_after=lifetime.warn_after,
        token_id=token_id,
    )
    scope.context.trace.annotate("authentication.kubernetes.io/issued-credential-id", f"JTI={token_id}")
    metadata = {
        "name": name,
        "namespace": namespace,
        "uid": account["metadata"]["uid"],
        "creationTimestamp": rfc3339(now),
    }
    answer: Object = {
        "kind": KIND,
        "apiVersion": f"{GROUP}/v1",
        "metadata": {**(request.get("metadata") or {}), **metadata},
        "spec": spec,
    }
    answer["status"] = {"token": token, "expirationTimestamp": rfc3339(now + spec["expirationSeconds"])}
    return answer


def _with_defaults(request: Object, scope: Scope) -> Object:
    """A copy with what the API's own defaulting fills in; managedFields tell of that, and of nothing added later."""
    found = clone(request)
    found.setdefault("metadata", {})
    spec = found.setdefault("spec", {})
    if spec.get("expirationSeconds") is None:
        spec["expirationSeconds"] = DEFAULT_SECONDS
    found.pop("status", None)
    resource = replace(scope.resource, group=GROUP, version="v1", kind=KIND)
    return scope.registry.managed.created(resource, found, scope.context, "token")


def validate(spec: Mapping[str, Any]) -> list[FieldError]:
    """What may be asked for; defaults are in it already."""
    seconds, path = spec["expirationSeconds"], "spec.expirationSeconds"
    if seconds < MIN_SECONDS:
        return [field.invalid(path, seconds, "may not specify a duration less than 10 minutes")]
    if seconds > MAX_SECONDS:
        return [field.invalid(path, seconds, "may not specify a duration larger than 2^32 seconds")]
    return []


def _check_target(request: Object, name: str) -> None:
    """The name in the body must be that of the path, where it is given."""
    metadata = request.get("metadata") or {}
    if metadata.get("name") and metadata["name"] != name:
        wrong = field.invalid("metadata.name", metadata["name"], "must match the service account name if specified")
        raise status.invalid(GROUP, KIND, name, [wrong])


def _check_account(request: Object, account: Object) -> None:
    """The uid in the body must be the account's, where it is given: it may have been made anew under its name."""
    name, uid = account["metadata"]["name"], account["metadata"]["uid"]
    wanted = (request.get("metadata") or {}).get("uid")
    if wanted and wanted != uid:
        why = f"the UID in the token request ({wanted}) does not match the UID of the service account ({uid})"
        raise status.conflict(GROUP, KIND, name, why)


class _Lifetime(Struct, frozen=True):
    seconds: int
    warn_after: int = 0


def _lifetime(
    spec: dict[str, Any], bound: BoundObjects, authentication: BuiltAuthentication, scope: Scope
) -> _Lifetime:
    """How long the token is good for, and after how long it is stale; the spec is shortened to what is allowed."""
    options = authentication.options
    longest = int(options.service_account_max_token_expiration)
    wanted = int(spec["expirationSeconds"])
    if 0 < longest < wanted:
        text = f"requested expiration of {wanted} seconds shortened to {longest} seconds"
        scope.context.trace.warn(text)
        spec["expirationSeconds"] = wanted = longest
    extends = options.service_account_extend_token_expiration and bound.pod is not None
    own = set(spec["audiences"]) <= set(authentication.api_audiences)
    if extends and own and wanted == PROJECTED_SECONDS:
        return _Lifetime(min(EXTENDED_SECONDS, longest) if longest else EXTENDED_SECONDS, wanted)
    return _Lifetime(wanted)


# ---------------------------------------------------------------------- what a token is bound to
def _bound(reference: Mapping[str, Any] | None, namespace: str, account: str, scope: Scope) -> BoundObjects:
    if reference is None:
        return BoundObjects()
    group, _, version = str(reference.get("apiVersion") or "").rpartition("/")
    kind, name = reference.get("kind") or "", reference.get("name") or ""
    find = _KINDS.get(kind) if not group else None
    if find is None:
        raise status.bad_request(f"cannot bind token to object of type {group}/{version}, Kind={kind}")
    if not name:
        raise status.bad_request("Name parameter required.")
    problems = path_segment_name(name)
    if problems:
        raise status.bad_request(f"Name parameter invalid: {field.quoted(name)}: {';'.join(problems)}")
    found, bound = find(namespace, name, account, scope)
    wanted = reference.get("uid")
    if wanted and wanted != found["metadata"]["uid"]:
        raise status.conflict(group, kind, name, _REPLACED.format(wanted))
    return bound


def _pod(namespace: str, name: str, account: str, scope: Scope) -> tuple[Object, BoundObjects]:
    pod = _get(scope, "pods", namespace, name)
    spec = pod.get("spec") or {}
    if spec.get("serviceAccountName") != account:
        quoted = field.quoted(account)
        text = f"cannot bind token for serviceaccount {quoted} to pod running with different serviceaccount name."
        raise status.bad_request(text)
    node = None
    if spec.get("nodeName"):
        # a node that is not there is named all the same
        node = scope.reader.get("nodes", "", spec["nodeName"]) or {"metadata": {"name": spec["nodeName"]}}
    return pod, BoundObjects(pod=pod, node=node)


def _secret(namespace: str, name: str, account: str, scope: Scope) -> tuple[Object, BoundObjects]:
    secret = _get(scope, "secrets", namespace, name)
    return secret, BoundObjects(secret=secret)


def _node(namespace: str, name: str, account: str, scope: Scope) -> tuple[Object, BoundObjects]:
    node = _get(scope, "nodes", "", name)
    return node, BoundObjects(node=node)


def _get(scope: Scope, resource: str, namespace: str, name: str) -> Object:
    found = scope.reader.get(resource, namespace, name)
    if found is None:
        raise status.not_found("", resource, name)
    return found


_KINDS: dict[str, Callable[[str, str, str, Scope], tuple[Object, BoundObjects]]] = {
    "Pod": _pod,
    "Secret": _secret,
    "Node": _node,
}
