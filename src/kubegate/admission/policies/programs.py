"""A policy's expressions, compiled: what they may refer to, and how their results are told.

Variables of a policy are worked out when an expression first asks for them, and once for all expressions of the same
sort (validations, messages, audit annotations), as kube-apiserver does it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from kubegate import cel
from kubegate.admission.webhooks.expressions import OBJECTS, OUT_OF_BUDGET, POLICY_VARIABLES
from kubegate.api import Object
from kubegate.api.field import quoted
from kubegate.cel import CelType, types

VARIABLES = types.object_of("kubernetes.variables")

Compiled = cel.Program | cel.CompileError


class OutOfBudget(Exception):
    """The policy's expressions cost more than they may together: none is evaluated any more."""

    def __init__(self) -> None:
        super().__init__(OUT_OF_BUDGET)


class Failed(Exception):
    """An expression that has no result; the text names it."""


class Environment(Struct, frozen=True):
    """What the expressions of one policy may refer to, and the policy's own variables by name."""

    has_params: bool
    variables: Mapping[str, Compiled]
    fields: Mapping[str, CelType]
    """The types of the variables."""

    def compile(
        self, expression: str, result: Sequence[CelType] | None, *, authorizer: bool = True, mutation: bool = False
    ) -> Compiled:
        return _compiled(expression, self.has_params, self.fields, result, authorizer, mutation)


def environment(spec: Object) -> Environment:
    """Compile the variables of a policy's spec, each of which may refer to those before it."""
    has_params = spec.get("paramKind") is not None
    programs: dict[str, Compiled] = {}
    fields: dict[str, CelType] = {}
    for variable in spec.get("variables") or ():
        name = variable.get("name", "")
        program = programs[name] = _compiled(variable.get("expression", ""), has_params, fields, None, True, False)
        fields[name] = types.declared(program.result) if isinstance(program, cel.Program) else types.DYN
    return Environment(has_params, programs, fields)


def declared(has_params: bool, authorizer: bool = True) -> dict[str, CelType]:
    """The types of what a policy's expressions may refer to, beside its variables."""
    found = dict(POLICY_VARIABLES)
    if has_params:
        found["params"] = types.DYN
    if not authorizer:
        del found["authorizer"], found["authorizer.requestResource"]
    return found


def _compiled(
    expression: str,
    has_params: bool,
    fields: Mapping[str, CelType],
    result: Sequence[CelType] | None,
    authorizer: bool,
    mutation: bool,
) -> Compiled:
    variables = {**declared(has_params, authorizer), "variables": VARIABLES}
    objects = {**OBJECTS, VARIABLES.name: fields}
    try:
        return cel.compile(expression, variables, result=result, objects=objects, mutation=mutation)
    except cel.CompileError as error:
        return error


class Variables:
    """The value of `variables` in one evaluation of expressions of one sort."""

    def __init__(self, programs: Mapping[str, Compiled], values: Mapping[str, Any], budget: cel.Budget) -> None:
        self._programs, self._values, self._budget = programs, values, budget
        self._known: dict[str, Any] = {}

    def select(self, name: str) -> Any:
        if name not in self._known:
            self._known[name] = self._evaluate(name)
        found = self._known[name]
        if isinstance(found, cel.EvaluationError):
            raise found
        return found

    def has(self, name: str) -> bool:
        return name in self._programs

    def _evaluate(self, name: str) -> Any:
        program = self._programs.get(name)
        if program is None:
            return cel.EvaluationError(f"no such key: {name}")
        if isinstance(program, cel.CompileError):
            return cel.EvaluationError(f"composited variable {quoted(name)} fails to compile: {describe(program)}")
        try:
            return program.evaluate(self._values, self._budget)
        except cel.EvaluationError as error:
            return cel.EvaluationError(f"composited variable {quoted(name)} fails to evaluate: {error}")


class Evaluation:
    """Evaluates expressions of one sort for one request, under what is left of the policy's budget."""

    def __init__(self, environment: Environment, values: Mapping[str, Any], budget: cel.Budget) -> None:
        self._budget = budget
        self._values = values
        if environment.variables:
            own = dict(values)
            own["variables"] = Variables(environment.variables, own, budget)
            self._values = own

    def result(self, program: Compiled, expression: str) -> Any:
        """Raises Failed, OutOfBudget; authorizer.DecisionNeeded, too."""
        if isinstance(program, cel.CompileError):
            raise Failed(f"compilation error: {describe(program)}")
        budget = self._budget
        try:
            found = program.evaluate(self._values, budget)
        except cel.EvaluationError as error:
            if budget.exceeded:
                raise OutOfBudget from None
            raise Failed(f"expression '{expression}' resulted in error: {error}") from None
        if budget.spent > budget.limit:
            raise OutOfBudget
        return found


def describe(error: cel.CompileError) -> str:
    """A compile error as kube-apiserver's validation and its evaluation tell it."""
    return f"compilation failed: {error.message}" if error.kind == "syntax" else error.message
