"""CEL in webhook configurations and policies: what cannot be compiled is refused in kube-apiserver's words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from kubegate import cel
from kubegate.admission.policies import programs
from kubegate.admission.webhooks.expressions import OBJECTS
from kubegate.api import Object, field, names
from kubegate.api.field import FieldError, child, index
from kubegate.cel import CelType, types

MOST_CONDITIONS = 64
_IDENTIFIER = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_RESERVED = frozenset(
    {
        *("true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if"),
        *("import", "let", "loop", "package", "namespace", "return", "var", "void", "while"),
    }
)


def invalid(path: str, expression: str, error: cel.CompileError) -> FieldError:
    if error.kind == "program":
        return field.internal(path, error.message)
    return field.invalid(path, expression, programs.describe(error))


def validate_conditions(
    conditions: Sequence[Object] | None, path: str, variables: Mapping[str, CelType]
) -> list[FieldError]:
    """matchConditions, which see `variables`."""
    conditions = conditions or ()
    errors: list[FieldError] = []
    if len(conditions) > MOST_CONDITIONS:
        errors.append(field.too_many(path, len(conditions), MOST_CONDITIONS))
    seen: set[str] = set()
    for position, condition in enumerate(conditions):
        where = index(path, position)
        expression, name = (condition.get("expression") or "").strip(), condition.get("name") or ""
        if not expression:
            errors.append(field.required(child(where, "expression")))
        else:
            try:
                cel.compile(expression, variables, result=(types.BOOL,), objects=OBJECTS)
            except cel.CompileError as error:
                errors.append(invalid(child(where, "expression"), expression, error))
        if not name:
            errors.append(field.required(child(where, "name")))
        else:
            errors += [field.invalid(child(where, "name"), name, text) for text in names.is_qualified_name(name)]
            if name in seen:
                errors.append(field.duplicate(child(where, "name"), name))
            seen.add(name)
    return errors


class Compiler:
    """Compiles a policy's expressions one after the other: each may refer to the variables before it."""

    def __init__(self, spec: Object) -> None:
        self._has_params = spec.get("paramKind") is not None
        self._composed = bool(spec.get("variables"))
        self._fields: dict[str, CelType] = {}

    def errors(
        self,
        expression: str,
        path: str,
        result: Sequence[CelType] | None,
        *,
        authorizer: bool = True,
        mutation: bool = False,
        shown: str | None = None,
    ) -> list[FieldError]:
        """`shown` is what the error names instead of the expression."""
        try:
            self._compile(expression, result, authorizer, mutation)
        except cel.CompileError as error:
            return [invalid(path, expression if shown is None else shown, error)]
        return []

    def variable(self, variable: Object, path: str) -> list[FieldError]:
        name, expression = variable.get("name") or "", variable.get("expression") or ""
        errors: list[FieldError] = []
        if not name.strip():
            errors.append(field.required(child(path, "name"), "name is not specified"))
        elif not _IDENTIFIER.fullmatch(name) or name in _RESERVED:
            errors.append(field.invalid(child(path, "name"), name, "must be a valid CEL identifier"))
        if not expression.strip():
            errors.append(field.required(child(path, "expression"), "expression is not specified"))
            return errors
        try:
            self._fields[name] = types.declared(self._compile(expression, None, True, False).result)
        except cel.CompileError as error:
            self._fields[name] = types.DYN
            errors.append(invalid(child(path, "expression"), expression, error))
        return errors

    def _compile(
        self, expression: str, result: Sequence[CelType] | None, authorizer: bool, mutation: bool
    ) -> cel.Program:
        variables = programs.declared(self._has_params, authorizer)
        objects: dict[str, Mapping[str, CelType]] = dict(OBJECTS)
        if self._composed:
            variables["variables"] = programs.VARIABLES
            objects[programs.VARIABLES.name] = self._fields
        return cel.compile(expression, variables, result=result, objects=objects, mutation=mutation)
