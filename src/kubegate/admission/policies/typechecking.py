"""Whether a ValidatingAdmissionPolicy's expressions fit the kinds that its rules name.

What does not fit is told in the policy's status, and changes nothing else. Follows typechecking.go of
k8s.io/apiserver/pkg/admission/plugin/policy/validating.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from kubegate import cel
from kubegate.admission import GroupVersionKind
from kubegate.admission.policies import programs
from kubegate.admission.webhooks.expressions import OBJECTS
from kubegate.api import Object
from kubegate.api.codec import split_api_version
from kubegate.api.field import child, index
from kubegate.api.resources import Resources
from kubegate.api.schema import Schema
from kubegate.cel import CelType, types
from kubegate.cel.schema import Types

MOST_KINDS = 10

Schemas = Callable[[GroupVersionKind], Schema | None]


def check(spec: Object, resources: Resources, schemas: Schemas) -> list[Object]:
    """The ExpressionWarnings of a policy's spec: {"fieldRef", "warning"}."""
    warnings: list[Object] = []
    kinds = [(kind, schema) for kind in _kinds(spec, resources) if (schema := schemas(kind)) is not None]
    checkers = [_Checker(spec, kind, schema, schemas) for kind, schema in kinds]
    for position, validation in enumerate(spec.get("validations") or ()):
        path = index("spec.validations", position)
        for name in ("expression", "messageExpression"):
            expression = validation.get(name)
            found = [text for checker in checkers if (text := checker.warning(expression))] if expression else []
            if found:
                warnings.append({"fieldRef": child(path, name), "warning": "\n".join(found)})
    return warnings


def _kinds(spec: Object, resources: Resources) -> list[GroupVersionKind]:
    """The kinds that rules name in full; wildcards and subresources name none."""
    found: set[GroupVersionKind] = set()
    for rule in (spec.get("matchConstraints") or {}).get("resourceRules") or ():
        of_rule = list(islice(_of_rule(rule, resources), MOST_KINDS))
        found.update(of_rule)
        if len(of_rule) == MOST_KINDS:
            break
    return sorted(found, key=lambda kind: (kind.group, kind.version, kind.kind))


def _of_rule(rule: Object, resources: Resources) -> Iterator[GroupVersionKind]:
    groups = sorted(g for g in rule.get("apiGroups") or () if "*" not in g)
    versions = sorted(v for v in rule.get("apiVersions") or () if "*" not in v)
    names = sorted(r for r in rule.get("resources") or () if "*" not in r and "/" not in r)
    for group in groups:
        for version in versions:
            for name in names:
                # the core group's name is empty, and so stands for every group that has such a resource
                for resource in resources:
                    if (resource.version, resource.resource) == (version, name) and group in ("", resource.group):
                        yield GroupVersionKind(resource.group, version, resource.kind)


class _Checker:
    """Checks expressions of one policy against objects of one kind."""

    def __init__(self, spec: Object, kind: GroupVersionKind, schema: Schema, schemas: Schemas) -> None:
        self._kind = kind
        self._fields: dict[str, CelType] = {}
        self._types = Types({**OBJECTS, programs.VARIABLES.name: self._fields})
        self._variables: dict[str, CelType] = programs.declared(has_params=False)
        # kube-apiserver does not know of it here, and warns of those who use it
        del self._variables["authorizer.requestResource"]
        declared = self._types.of(schema, kind.kind)
        assert declared is not None
        self._variables["object"] = self._variables["oldObject"] = declared
        parameter = spec.get("paramKind")
        if parameter is not None:
            group, version = split_api_version(parameter.get("apiVersion", ""))
            found = schemas(GroupVersionKind(group, version, parameter.get("kind", "")))
            params = self._types.of(found, "params") if found is not None else None
            if params is not None:
                self._variables["params"] = params
        self._variables["variables"] = programs.VARIABLES
        for variable in spec.get("variables") or ():
            try:
                self._fields[variable["name"]] = types.declared(self._type(variable["expression"]))
            except cel.CompileError:
                self._fields[variable["name"]] = types.DYN

    def warning(self, expression: str) -> str:
        """What is wrong with it, "" where it fits."""
        try:
            self._type(expression)
        except cel.CompileError as error:
            group_version = f"{self._kind.group}/{self._kind.version}"
            return f"{group_version}, Kind={self._kind.kind}: {error.message}\n"
        return ""

    def _type(self, expression: str) -> CelType:
        from kubegate.cel import environment

        return environment.check(expression, self._variables, self._types).result
