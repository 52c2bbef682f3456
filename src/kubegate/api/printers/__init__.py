"""The cells of built-in kinds in Table answers, as `kubectl get` shows them: one function for each resource.

A printer takes an object (complete, as stored) and the time now, and gives the cells after the name in the order of
`data/table-columns.json`; those of wide output are among them always. Follows kubernetes/pkg/printers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

Printer = Callable[[Mapping[str, Any], float], list[Any]]
# Annotations that make a class the default one, which its name tells.
_DEFAULTS: Final = {
    ("networking.k8s.io", "ingressclasses"): ("ingressclass.kubernetes.io/is-default-class",),
    ("storage.k8s.io", "storageclasses"): (
        "storageclass.kubernetes.io/is-default-class",
        "storageclass.beta.kubernetes.io/is-default-class",
    ),
}


@cache
def printer_for(group: str, resource: str) -> Printer | None:
    """None where a resource has only the general columns."""
    from kubegate.api.printers import core, policies, storage, workloads

    tables = (core.PRINTERS, workloads.PRINTERS, policies.PRINTERS, storage.PRINTERS)
    return next((table[(group, resource)] for table in tables if (group, resource) in table), None)


def default_marks(group: str, resource: str) -> tuple[str, ...]:
    """Annotations of which one that is "true" adds " (default)" to an object's name."""
    return _DEFAULTS.get((group, resource), ())
