"""NamespaceExists: nothing is made, changed or deleted in a namespace that is not there.

Follows k8s.io/kubernetes/plugin/pkg/admission/namespace/exists.
"""

from __future__ import annotations

from kubegate.admission import Attributes, Operation
from kubegate.admission.dependencies import Dependencies
from kubegate.api.status import not_found


class NamespaceExists:
    name = "NamespaceExists"
    handles = frozenset({Operation.CREATE, Operation.UPDATE, Operation.DELETE})
    resources = None
    changes = False

    def __init__(self, dependencies: Dependencies) -> None:
        self._reader, self._writer = dependencies.reader, dependencies.writer

    async def validate(self, attributes: Attributes) -> None:
        namespace = attributes.namespace
        if not namespace or attributes.group_resource == "namespaces":
            return
        if self._reader.get("namespaces", "", namespace) is not None:
            return
        if await self._writer.get("namespaces", "", namespace) is None:
            raise not_found("", "namespaces", namespace)


def build(dependencies: Dependencies) -> NamespaceExists:
    return NamespaceExists(dependencies)
