"""AlwaysAdmit: no opinion about anything; kept because configurations name it."""

from __future__ import annotations

from kubegate.admission import Attributes, Operation
from kubegate.admission.dependencies import Dependencies


class AlwaysAdmit:
    name = "AlwaysAdmit"
    handles = frozenset(Operation)
    resources: frozenset[str] | None = frozenset()
    changes = False

    async def validate(self, attributes: Attributes) -> None:
        """Is never asked: it wants to see no resource."""


def build(dependencies: Dependencies) -> AlwaysAdmit:
    return AlwaysAdmit()
