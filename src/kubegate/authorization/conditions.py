"""Match conditions of an authorization webhook: CEL over the spec of a v1 SubjectAccessReview, as `request`.

Follows k8s.io/apiserver/pkg/authorization/cel: all fields are there, empty ones too, so that a condition need not ask
`has()` about them; a condition that is false decides, whatever errors others have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubegate import cel
from kubegate.api import Object
from kubegate.api.field import aggregate
from kubegate.authorization.webhook import ConditionError
from kubegate.cel import types

_SPEC = "kubernetes.SubjectAccessReviewSpec"
_RESOURCE = "kubernetes.ResourceAttributes"
_PATH = "kubernetes.NonResourceAttributes"
_SELECTORS = {
    "fieldSelector": "kubernetes.FieldSelectorAttributes",
    "labelSelector": "kubernetes.LabelSelectorAttributes",
}
_REQUIREMENT = "kubernetes.SelectorRequirement"
_STRINGS = ("namespace", "verb", "group", "version", "resource", "subresource", "name")
_TEXTS = types.list_of(types.STRING)

OBJECTS = {
    _SPEC: {
        "resourceAttributes": types.object_of(_RESOURCE),
        "nonResourceAttributes": types.object_of(_PATH),
        "user": types.STRING,
        "groups": _TEXTS,
        "extra": types.map_of(types.STRING, _TEXTS),
        "uid": types.STRING,
    },
    _RESOURCE: {
        **{name: types.STRING for name in _STRINGS},
        **{name: types.object_of(kind) for name, kind in _SELECTORS.items()},
    },
    _PATH: {"path": types.STRING, "verb": types.STRING},
    **{
        kind: {"rawSelector": types.STRING, "requirements": types.list_of(types.object_of(_REQUIREMENT))}
        for kind in _SELECTORS.values()
    },
    _REQUIREMENT: {"key": types.STRING, "operator": types.STRING, "values": _TEXTS},
}


class MatchConditions:
    """All of them compiled. Raises cel.CompileError where one cannot be used."""

    def __init__(self, expressions: Sequence[str]) -> None:
        self._programs = [compile_condition(expression) for expression in expressions]

    def match(self, spec: Object) -> bool:
        """Whether all are true. Raises ConditionError where some cannot be evaluated and none is false."""
        request = {"request": _all_fields(spec)}
        errors: list[str] = []
        for program in self._programs:
            try:
                if program.evaluate(request) is not True:
                    return False
            except cel.EvaluationError as error:
                text = f"cel evaluation error: expression '{program.expression}' resulted in error: {error}"
                errors.append(text)
        if errors:
            raise ConditionError(aggregate(errors))
        return True


def compile_condition(expression: str) -> cel.Program:
    """Raises cel.CompileError."""
    return cel.compile(expression, {"request": types.object_of(_SPEC)}, result=[types.BOOL], objects=OBJECTS)


def _all_fields(spec: Object) -> dict[str, Any]:
    request: dict[str, Any] = {
        "user": spec.get("user", ""),
        "groups": spec.get("groups", []),
        "uid": spec.get("uid", ""),
        "extra": spec.get("extra", {}),
    }
    resource = spec.get("resourceAttributes")
    if resource is not None:
        found = request["resourceAttributes"] = {**dict.fromkeys(_STRINGS, ""), **resource}
        for name in _SELECTORS:
            if name in found:
                requirements = [{"values": [], **each} for each in found[name]["requirements"]]
                found[name] = {"requirements": requirements}
    path = spec.get("nonResourceAttributes")
    if path is not None:
        request["nonResourceAttributes"] = {"path": "", "verb": "", **path}
    return request
