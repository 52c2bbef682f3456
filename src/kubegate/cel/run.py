"""One evaluation of an expression."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Run:
    """The variables, which macros add theirs to, and what the evaluation cost until now."""

    __slots__ = ("cost", "limit", "values")

    def __init__(self, variables: Any, limit: int) -> None:
        self.values: dict[str, Any] = variables
        self.cost = 0
        self.limit = limit


Step = Callable[[Run], Any]
"""A part of an expression, ready to be evaluated."""
