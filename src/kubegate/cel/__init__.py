"""Kubernetes' CEL: expressions are compiled once, then evaluated against objects under a cost limit.

`compile(expression, variables)` gives a `Program` or raises `CompileError`; `Program.evaluate(values)` gives a Python
value or raises `EvaluationError`. Texts of both are kube-apiserver's. The parser (Google's, in C++) gives the syntax
tree; types, evaluation and costs are worked out here, because kube-apiserver's limits are in the units of its own
evaluator and its clients see its own texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from kubegate.cel import types
from kubegate.cel.costs import PER_CALL
from kubegate.cel.run import Run, Step
from kubegate.cel.types import CelType
from kubegate.cel.values import CostExceeded, EvaluationError

__all__ = [
    "Budget",
    "CelType",
    "CompileError",
    "CostExceeded",
    "EvaluationError",
    "Program",
    "compile",
    "estimate",
    "types",
]


class CompileError(Exception):
    """The expression cannot be used. `kind` is `syntax` (parsing, types), `result` (it gives the wrong type) or
    `program` (a part of it that is the same in every evaluation fails)."""

    def __init__(self, message: str, kind: str = "syntax") -> None:
        super().__init__(message)
        self.message, self.kind = message, kind


class Budget(Struct):
    """What several evaluations may cost together; `spent` grows with each, also with those that fail."""

    limit: int
    spent: int = 0

    @property
    def exceeded(self) -> bool:
        return self.spent > self.limit


class Program(Struct, frozen=True):
    """A compiled expression; evaluating it changes nothing in it, so it may be shared."""

    expression: str
    result: CelType
    step: Step
    binds: bool = True
    """Whether it has variables of its own (those of macros)."""

    def evaluate(self, values: Mapping[str, Any], budget: Budget | None = None, limit: int = PER_CALL) -> Any:
        """The value, as plain Python (see `values`). Raises EvaluationError; CostExceeded at more than `limit`."""
        run = Run(dict(values) if self.binds else values, limit)
        try:
            result = self.step(run)
            if run.cost > limit:
                raise CostExceeded
        except RecursionError:
            raise EvaluationError("operation cancelled: nested too deeply") from None
        finally:
            if budget is not None:
                budget.spent += run.cost
        return result


def compile(
    expression: str,
    variables: Mapping[str, CelType],
    *,
    result: Sequence[CelType] | None = None,
    objects: Mapping[str, Mapping[str, CelType]] | None = None,
    mutation: bool = False,
) -> Program:
    """Compile for the given variables.

    `result` are the types that the expression may have (None: any); `objects` the fields of the object types among
    `variables`, by type name; `mutation` adds what MutatingAdmissionPolicies may make (`Object`, `JSONPatch`).
    Raises CompileError.
    """
    from kubegate.cel import environment

    return environment.compile_program(expression, variables, result, objects or {}, mutation)


def estimate(
    expression: str,
    variables: Mapping[str, CelType],
    size_at: Callable[[tuple[str, ...]], int | None],
    *,
    objects: Mapping[str, Mapping[str, CelType]] | None = None,
) -> int:
    """What evaluating costs at most, where `size_at` tells how large data may be (see `estimates`).

    Raises CompileError.
    """
    from kubegate.cel import environment, estimates

    return estimates.most(environment.check(expression, variables, objects or {}), size_at)
