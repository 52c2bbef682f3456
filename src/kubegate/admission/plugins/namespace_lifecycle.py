"""NamespaceLifecycle: nothing is made in a namespace that is not there or that is going away.

Follows k8s.io/apiserver/pkg/admission/plugin/namespace/lifecycle.
"""

from __future__ import annotations

from kubegate.admission import Attributes, Operation
from kubegate.admission.dependencies import Dependencies
from kubegate.admission.refusal import forbidden
from kubegate.api.status import not_found

IMMORTAL = frozenset({"default", "kube-system", "kube-public"})

# Saying that a namespace is not there would tell who may ask for reviews alone which ones are.
_ACCESS_REVIEWS = frozenset({"localsubjectaccessreviews.authorization.k8s.io"})


class NamespaceLifecycle:
    name = "NamespaceLifecycle"
    handles = frozenset({Operation.CREATE, Operation.UPDATE, Operation.DELETE})
    resources = None
    changes = False

    def __init__(self, dependencies: Dependencies) -> None:
        self._reader, self._writer = dependencies.reader, dependencies.writer

    def idle(self, attributes: Attributes) -> bool:
        return not attributes.namespace and attributes.kind.kind != "Namespace"

    async def admit(self, attributes: Attributes) -> None:
        is_namespace = attributes.kind.kind == "Namespace" and not attributes.kind.group
        if attributes.operation is Operation.DELETE:
            if is_namespace and attributes.name in IMMORTAL:
                raise forbidden(attributes, "this namespace may not be deleted")
            return
        if is_namespace or not attributes.namespace or attributes.group_resource in _ACCESS_REVIEWS:
            return
        namespace = self._reader.get("namespaces", "", attributes.namespace)
        if namespace is None:
            # Another process may have made it a moment ago.
            namespace = await self._writer.get("namespaces", "", attributes.namespace)
        if namespace is None:
            raise not_found("", "namespaces", attributes.namespace)
        if attributes.operation is Operation.CREATE and (namespace.get("status") or {}).get("phase") == "Terminating":
            where = attributes.namespace
            error = forbidden(
                attributes, f"unable to create new content in namespace {where} because it is being terminated"
            )
            cause = {
                "reason": "NamespaceTerminating",
                "message": f"namespace {where} is being terminated",
                "field": "metadata.namespace",
            }
            error.details = {**(error.details or {}), "causes": [cause]}
            raise error


def build(dependencies: Dependencies) -> NamespaceLifecycle:
    return NamespaceLifecycle(dependencies)
