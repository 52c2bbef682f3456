"""Where the rules of each resource are found: group resource -> module, imported when first needed."""

from __future__ import annotations

import importlib
from functools import cache

from kubegate.registry import Rules

# A module has `RULES: Rules`. Resources that are not named here have the generic rules and their schema alone.
MODULES: dict[str, str] = {}


@cache
def rules_for(group_resource: str) -> Rules:
    """The rules of a built-in resource by `deployments.apps`."""
    module = MODULES.get(group_resource)
    if module is None:
        return Rules()
    found = importlib.import_module(f"kubegate.registry.{module}").RULES
    assert isinstance(found, Rules)
    return found
