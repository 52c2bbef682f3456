"""ServiceAccounts. Their tokens are made in `registry.authentication.tokenrequests`."""

from __future__ import annotations

from kubegate.api import Object
from kubegate.registry import Rules, Scope
from kubegate.registry.authentication import tokenrequests
from kubegate.registry.canonical import Defaulted
from kubegate.registry.checks import listed, mapped
from kubegate.registry.objectmeta import checked

_ENFORCE_MOUNTABLE = "kubernetes.io/enforce-mountable-secrets"


def _prepare(obj: Object, old: Object | None, scope: Scope) -> None:
    if listed(obj, "secrets"):
        # Only names count: a reference cannot lead into another namespace.
        obj["secrets"] = [{"name": one["name"]} if one.get("name") else {} for one in obj["secrets"]]


def _warnings(obj: Object, old: Object | None) -> list[str]:
    if old is not None and _ENFORCE_MOUNTABLE in mapped(old["metadata"], "annotations"):
        return []
    if _ENFORCE_MOUNTABLE not in mapped(obj["metadata"], "annotations"):
        return []
    return [
        f"metadata.annotations[{_ENFORCE_MOUNTABLE}]: deprecated in v1.32+; "
        "prefer separate namespaces to isolate access to mounted secrets"
    ]


RULES = Rules(
    default=Defaulted("io.k8s.api.core.v1.ServiceAccount"),
    prepare=_prepare,
    validate=checked(again="subdomain"),
    warnings=_warnings,
    returns_deleted=True,
    subresources={"token": Rules(prepare=tokenrequests.prepare)},
    connect={"token": tokenrequests.create},
)
