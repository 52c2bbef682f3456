"""From what admission has at hand to the two policy plugins."""

from __future__ import annotations

from kubegate.admission import Plugin
from kubegate.admission.dependencies import Dependencies
from kubegate.admission.policies import mutating, validating
from kubegate.admission.webhooks.matching import Equivalents


def build_plugins(dependencies: Dependencies) -> dict[str, Plugin]:
    """Both plugins by name."""
    d = dependencies
    equivalents = Equivalents(d.resources)
    return {
        mutating.NAME: mutating.MutatingPolicies(d.reader, d.authorize, d.resources, d.objects, equivalents),
        validating.NAME: validating.ValidatingPolicies(d.reader, d.authorize, d.resources, d.objects, equivalents),
    }
