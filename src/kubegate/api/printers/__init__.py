"""The cells of built-in kinds in Table answers, as `kubectl get` shows them: one function for each resource.

A printer takes an object (complete, as stored) and the time now, and gives the cells after the name in the order of
`data/table-columns.json`; those of wide output are among them always. Follows kubernetes/pkg/printers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

Printer = Callable[[Mapping[str, Any], float], list[Any]]


@cache
def printer_for(group: str, resource: str) -> Printer | None:
    """None where a resource has only the general columns."""
    from kubegate.api.printers import core, policies, storage, workloads

    tables = (core.PRINTERS, workloads.PRINTERS, policies.PRINTERS, storage.PRINTERS)
    return next((table[(group, resource)] for table in tables if (group, resource) in table), None)
