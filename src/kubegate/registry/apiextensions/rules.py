"""x-kubernetes-validations: rules in CEL, checked after everything else about a custom resource is in order.

Follows k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kubegate.api import field, valuecheck
from kubegate.api.field import FieldError
from kubegate.api.structural import MISSING, Structural
from kubegate.cel import Budget, CompileError, CostExceeded, EvaluationError, Program, compile, estimate, types
from kubegate.cel.costs import POLICY_BUDGET
from kubegate.cel.types import CelType
from kubegate.cel.values import NONE, KeyedList, Optional, parse_duration, parse_timestamp
from kubegate.registry.apiextensions import fieldpaths, rulecosts, shapes
from kubegate.registry.apiextensions.rulecosts import Costs

_BLOCKING: Final = frozenset(
    {
        "FieldValueNotSupported",
        "FieldValueRequired",
        "FieldValueTooLong",
        "FieldValueTooMany",
        "FieldValueTypeInvalid",
    }
)
_NOT_CHECKED: Final = (
    "some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation"
)
# Words that CEL keeps for itself: as field names they stand between underscores, or as they are after a dot.
_RESERVED: Final = frozenset(
    re.findall(
        r"\w+",
        "true false null in as break const continue else for function if import let loop package namespace return var "
        "void while",
    )
)
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ESCAPES: Final = (("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__"))
_COMPILED = "rules"
_TOO_LITTLE: Final = (
    "internal error: failed to construct type information for x-kubernetes-validations rules: "
    "unable to convert structural schema to CEL declarations"
)
_MOST_OF_MESSAGE: Final = 5 * 1024


@dataclass(frozen=True, slots=True)
class _Rule:
    """A rule with its programs. `program` is None where the rule cannot be compiled: `error` says why."""

    definition: Mapping[str, Any]
    program: Program | None
    message: Program | None
    uses_old: bool
    error: str = ""
    message_error: str = ""

    @property
    def text(self) -> str:
        """What error texts call the rule."""
        return str(self.definition.get("message") or self.definition.get("rule") or "").strip()

    @property
    def default_message(self) -> str:
        message = str(self.definition.get("message") or "").strip()
        return message or f"failed rule: {self.text}"


def check(
    value: Any, old: Any, schema: Structural, errors: list[FieldError], warn: Callable[[str], object]
) -> list[FieldError]:
    """What the rules of a schema say against `value`; `errors` are those already found.

    `old` is the value before, MISSING where there was none. Rules about changes (`oldSelf`) look at what has an old
    value alone. What others say against a part that is as it was, is only warned of.
    """
    if not schema.has_rules:
        return []
    if any(error.reason in _BLOCKING for error in errors):
        return [field.invalid(valuecheck.NO_PATH, None, _NOT_CHECKED)]
    try:
        return list(_Checking(schema, warn).node(value, old, schema, ""))
    except _OutOfBudget as stop:
        return stop.errors


def check_default(value: Any, schema: Structural, path: str) -> list[FieldError]:
    """What the rules of a schema say against its default: as a value that stays, and as one that is new."""
    for old in (value, MISSING):
        try:
            errors = _Checking(None, _ignored).node(value, old, schema, path)
        except _OutOfBudget as stop:
            errors = stop.errors
        if errors:
            return errors
    return []


def _ignored(_: str) -> None:
    pass


def check_definition(openapi: Mapping[str, Any], path: str, wrong: Collection[str] = ()) -> list[FieldError]:
    """What is wrong with the expressions in a definition's schema.

    `wrong` are the places of other errors: rules there, and of what holds them, are not looked at.
    """
    found = _Definition(wrong)
    errors = list(found.errors(Structural(openapi), path, 1, root=True))
    return [*errors, *found.costs.errors(path)]


# ------------------------------------------------------------------ types
def escaped(name: str) -> str | None:
    """A field's name as expressions write it, None where they cannot."""
    if name in _RESERVED:
        return f"__{name}__"
    for text, escape in _ESCAPES:
        name = name.replace(text, escape)
    return name if _IDENTIFIER.fullmatch(name) else None


class _Types:
    """The CEL types of a schema; object types are named after their place."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, CelType]] = {}

    def of(self, schema: Structural, name: str, *, resource: bool = False) -> CelType | None:
        """None where the schema says too little."""
        if schema.int_or_string:
            return types.DYN
        match schema.type:
            case "array":
                items = self.of(schema.items, f"{name}.@idx", resource=schema.items.embedded) if schema.items else None
                return None if items is None else types.list_of(items)
            case "object" if isinstance(schema.additional, Structural):
                values = self.of(schema.additional, f"{name}.@elem", resource=schema.additional.embedded)
                return None if values is None else types.map_of(types.STRING, values)
            case "object":
                return self._object(schema, name, resource)
            case "string":
                formats = {"byte": types.BYTES, "duration": types.DURATION, "date": types.TIMESTAMP}
                return formats.get(str(schema.raw.get("format", "")).removesuffix("-time"), types.STRING)
            case "boolean":
                return types.BOOL
            case "integer":
                return types.INT
            case "number":
                return types.DOUBLE
        return None

    def _object(self, schema: Structural, name: str, resource: bool) -> CelType:
        fields: dict[str, CelType] = {}
        self.objects[name] = fields
        for property_name, child in schema.properties.items():
            known = escaped(property_name)
            kind = self.of(child, f"{name}.{property_name}", resource=child.embedded) if known else None
            if known is not None and kind is not None:
                fields[known] = kind
                if property_name in _RESERVED:
                    fields.setdefault(property_name, kind)
        if resource:
            meta = f"{name}.metadata"
            self.objects[meta] = {"name": types.STRING, "generateName": types.STRING}
            fields |= {"apiVersion": types.STRING, "kind": types.STRING, "metadata": types.object_of(meta)}
        return types.object_of(name)


def to_cel(value: Any, schema: Structural | None, *, resource: bool = False) -> Any:
    """A value as rules see it: names escaped, formats as their own types, unknown fields not at all."""
    if schema is None or value is None:
        return value
    if isinstance(value, dict):
        if isinstance(schema.additional, Structural):
            return {name: to_cel(child, schema.additional) for name, child in value.items()}
        found = {}
        for name, child in value.items():
            known = schema.properties.get(name)
            key = escaped(name)
            if key is not None and (known is not None or (resource and name in ("apiVersion", "kind", "metadata"))):
                found[key] = to_cel(child, known, resource=known is not None and known.embedded)
                if name in _RESERVED:
                    found.setdefault(name, found[key])
        return found
    if isinstance(value, list):
        items = [to_cel(item, schema.items, resource=bool(schema.items and schema.items.embedded)) for item in value]
        match schema.list_type:
            case "set":
                return KeyedList(items)
            case "map":
                return KeyedList(items, tuple(escaped(key) or key for key in schema.list_map_keys))
        return items
    if isinstance(value, str) and schema.type == "string":
        return _formatted(value, str(schema.raw.get("format", "")))
    if schema.type == "number" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def _formatted(value: str, name: str) -> Any:
    if name == "byte":
        try:
            return base64.b64decode(value)
        except (binascii.Error, ValueError):
            return value
    if name == "duration":
        found: Any = parse_duration(value)
    elif name in ("date", "date-time"):
        found = parse_timestamp(value if "T" in value else f"{value}T00:00:00Z")
    else:
        return value
    return value if found is None else found


# ------------------------------------------------------------------ compiling
def _compiled(schema: Structural, *, root: bool) -> list[_Rule]:
    found: list[_Rule] | None = schema.cache.get(_COMPILED)
    if found is None:
        found = schema.cache[_COMPILED] = [_compile(rule, schema, root) for rule in schema.rules]
    return found


def _compile(rule: Mapping[str, Any], schema: Structural, root: bool) -> _Rule:
    known = _Types()
    kind = known.of(schema, "selfType", resource=root or schema.embedded)
    text, message = str(rule.get("rule") or ""), str(rule.get("messageExpression") or "")
    if kind is None:
        return _Rule(rule, None, None, False, _TOO_LITTLE)
    old = types.optional_of(kind) if rule.get("optionalOldSelf") else kind
    alone, both = {"self": kind}, {"self": kind, "oldSelf": old}
    program: Program | None = None
    compiled_message: Program | None = None
    error = message_error = ""
    uses_old = False
    try:
        program = compile(text, alone, result=(types.BOOL,), objects=known.objects)
    except CompileError:
        try:
            program = compile(text, both, result=(types.BOOL,), objects=known.objects)
            uses_old = True
        except CompileError as problem:
            words = problem.message
            error = "cel expression must evaluate to a bool" if problem.kind == "result" else words
            if problem.kind == "syntax" and not words.startswith("compilation failed"):
                error = f"compilation failed: {words}"
    if message.strip():
        try:
            compiled_message = compile(message, both, result=(types.STRING,), objects=known.objects)
        except CompileError as problem:
            what = "messageExpression " + ("compilation failed: " if problem.kind == "syntax" else "")
            message_error = (
                "messageExpression must evaluate to a string"
                if problem.kind == "result"
                else what + problem.message.removeprefix("compilation failed: ")
            )
    return _Rule(rule, program, compiled_message, uses_old, error, message_error)


# ------------------------------------------------------------------ checking values
class _OutOfBudget(Exception):
    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__("out of budget")
        self.errors = errors


class _Checking:
    """One object against the rules of one schema, with one budget for all of them."""

    def __init__(self, root: Structural | None, warn: Callable[[str], object]) -> None:
        """Without a `root`, the values are defaults: what is as it was is not let off."""
        self._root, self._warn = root, warn
        self._budget = Budget(POLICY_BUDGET)
        self._errors: list[FieldError] = []

    def node(
        self, value: Any, old: Any, schema: Structural, path: str, *, within_unchanged: bool = False
    ) -> list[FieldError]:
        """All errors so far; those of this node and what is below it are added.

        `within_unchanged`: the nearest part above that can be told from its old value is as it was.
        """
        if value is None or not schema.has_rules:
            return self._errors
        unchanged = within_unchanged if old is MISSING else _is_unchanged(value, old, schema)
        if schema.rules:
            self._rules(value, old, schema, path, unchanged)
        if isinstance(value, dict):
            before = old if isinstance(old, dict) else {}
            for name, child in value.items():
                known = schema.child(name)
                if known is not None:
                    below = field.child(path, name) if name in schema.properties else field.key(path, name)
                    self.node(child, before.get(name, MISSING), known, below, within_unchanged=unchanged)
        elif isinstance(value, list) and schema.items is not None:
            find = valuecheck.correlated(schema, old)
            for position, item in enumerate(value):
                at = field.index(path, position)
                self.node(item, find(item), schema.items, at, within_unchanged=unchanged)
        return self._errors

    def _rules(self, value: Any, old: Any, schema: Structural, path: str, unchanged: bool) -> None:
        root = schema is self._root
        resource = root or schema.embedded
        values: dict[str, Any] = {"self": to_cel(value, schema, resource=resource)}
        present = old is not MISSING
        before = to_cel(old, schema, resource=resource) if present else None
        for rule in _compiled(schema, root=root):
            if rule.program is None:
                self._fail(path, schema, f"rule compile error: {rule.error}")
                continue
            if rule.uses_old:
                if rule.definition.get("optionalOldSelf"):
                    values["oldSelf"] = Optional(True, before) if present else NONE
                elif not present:
                    continue
                else:
                    values["oldSelf"] = before
            self._rule(rule, value, values, schema, path, unchanged)

    def _rule(
        self, rule: _Rule, value: Any, values: Mapping[str, Any], schema: Structural, path: str, unchanged: bool
    ) -> None:
        assert rule.program is not None
        try:
            passed = rule.program.evaluate(values, self._budget) is True
        except CostExceeded as error:
            text = f"'{error}': no further validation rules will be run due to call cost exceeds limit for rule: "
            self._fail(path, schema, text + rule.text)
            raise _OutOfBudget(self._errors) from None
        except EvaluationError as error:
            words = str(error)
            if words.startswith("no such overload"):
                words = f"'{words}': call arguments did not match a supported operator, function or macro signature"
                self._fail(path, schema, f"{words} for rule: {rule.text}")
            else:
                self._fail(path, schema, f"{words} evaluating rule: {rule.text}")
            return
        if self._budget.exceeded:
            text = "validation failed due to running out of cost budget, no further validation rules will be run"
            self._fail(path, schema, text)
            raise _OutOfBudget(self._errors)
        if passed:
            return
        at = _place(path, str(rule.definition.get("fieldPath") or ""), schema)
        shown = field.OMITTED if schema.type in ("object", "array") else value
        found = _broken(at, shown, self._message(rule, values), str(rule.definition.get("reason") or ""))
        if unchanged and not rule.uses_old and self._root is not None:
            self._warn(str(found))
        else:
            self._errors.append(found)

    def _message(self, rule: _Rule, values: Mapping[str, Any]) -> str:
        if rule.message is not None:
            try:
                text = str(rule.message.evaluate(values, self._budget)).strip()
            except EvaluationError:
                text = ""
            if text and "\n" not in text and len(text.encode()) <= _MOST_OF_MESSAGE:
                return text
        return rule.default_message

    def _fail(self, path: str, schema: Structural, text: str) -> None:
        """A rule that could not be asked: the type is told, not the value."""
        self._errors.append(field.invalid(path or valuecheck.NO_PATH, schema.type, text))


def _place(path: str, within: str, schema: Structural) -> str:
    """The path of what a rule's `fieldPath` names; that of the rule's own value where it names nothing."""
    try:
        names = fieldpaths.follow(within, schema)[0] if within else ()
    except fieldpaths.BadPath:
        return path
    node: Structural | None = schema
    for name in names:
        is_property = node is not None and name in node.properties
        path = field.child(path, name) if is_property else field.key(path, name)
        node = node.child(name) if node is not None else None
    return path


def _is_unchanged(value: Any, old: Any, schema: Structural) -> bool:
    """Whether a value is as it was, part by part; one that holds what the schema does not name never is."""
    if isinstance(value, dict) and isinstance(old, dict):
        return len(value) == len(old) and all(
            name in old and (known := schema.child(name)) is not None and _is_unchanged(child, old[name], known)
            for name, child in value.items()
        )
    if isinstance(value, list) and isinstance(old, list) and schema.list_type == "map" and schema.items is not None:
        items, find = schema.items, valuecheck.correlated(schema, old)
        return len(value) == len(old) and all(
            (before := find(item)) is not MISSING and _is_unchanged(item, before, items) for item in value
        )
    return valuecheck.same(value, old)


def _broken(path: str, value: Any, text: str, reason: str) -> FieldError:
    at = path or valuecheck.NO_PATH
    match reason:
        case "FieldValueForbidden":
            return field.forbidden(at, text)
        case "FieldValueRequired":
            return field.required(at, text)
        case "FieldValueDuplicate":
            return field.duplicate(at, value)
    return field.invalid(at, value, text)


# ------------------------------------------------------------------ checking definitions
class _Definition:
    """The rules of one schema, each node's after those of the nodes below it."""

    def __init__(self, wrong: Collection[str]) -> None:
        self._wrong, self.costs = wrong, Costs()

    def errors(
        self,
        schema: Structural,
        path: str,
        cardinality: int | None,
        *,
        root: bool = False,
        uncorrelatable: str = "",
    ) -> Iterator[FieldError]:
        """`cardinality` is how many such nodes an object has at most, None where there is no limit."""
        if not schema.has_rules:
            return
        times = rulecosts.most_elements(schema)
        below = None if cardinality is None or times is None else cardinality * times
        if isinstance(schema.additional, Structural):
            at = f"{path}.additionalProperties"
            yield from self.errors(schema.additional, at, below, uncorrelatable=uncorrelatable)
        for name, child in schema.properties.items():
            yield from self.errors(child, f"{path}.properties[{name}]", below, uncorrelatable=uncorrelatable)
        if schema.items is not None:
            within = uncorrelatable or ("" if schema.list_type == "map" else path)
            yield from self.errors(schema.items, f"{path}.items", below, uncorrelatable=within)
        if any(field == path or field.startswith((f"{path}.", f"{path}[")) for field in self._wrong):
            return  # what the schema means is not certain
        compiled = _compiled(schema, root=root)
        if any(rule.error == _TOO_LITTLE for rule in compiled):
            yield field.internal(f"{path}.x-kubernetes-validations", _TOO_LITTLE)
            return
        for position, rule in enumerate(compiled):
            at = f"{path}.x-kubernetes-validations[{position}]"
            yield from self._rule(rule, schema, at, uncorrelatable, cardinality, root)

    def _rule(
        self, rule: _Rule, schema: Structural, path: str, uncorrelatable: str, cardinality: int | None, root: bool
    ) -> Iterator[FieldError]:
        said = rule.definition
        costs = _cost_errors(rule, schema, path, self.costs, cardinality, root)
        yield from (error for error in costs if error.field == f"{path}.rule")
        if rule.error:
            yield field.invalid(f"{path}.rule", shapes.rule(said), rule.error)
        if rule.message_error:
            yield field.invalid(f"{path}.messageExpression", shapes.rule(said), rule.message_error)
        yield from (error for error in costs if error.field != f"{path}.rule")
        if rule.uses_old and uncorrelatable:
            words = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {uncorrelatable}"
            yield field.invalid(f"{path}.rule", said.get("rule"), words)
        if not rule.uses_old and said.get("optionalOldSelf") is not None:
            words = "may not be set if oldSelf is not used in rule"
            yield field.invalid(f"{path}.optionalOldSelf", said["optionalOldSelf"], words)


def _cost_errors(
    rule: _Rule, schema: Structural, path: str, costs: Costs, cardinality: int | None, root: bool
) -> list[FieldError]:
    """Rules that could cost too much, if data were as large as the schema lets them be."""
    resource = root or schema.embedded
    shape = rulecosts.shape(schema, resource=resource, escaped=escaped)
    if rule.program is None or shape is None:
        return []
    known, sizes = _Types(), rulecosts.sizes(shape)
    kind = known.of(schema, "selfType", resource=resource)
    assert kind is not None
    variables = {"self": kind}
    if rule.uses_old:
        variables["oldSelf"] = types.optional_of(kind) if rule.definition.get("optionalOldSelf") else kind
    cost = estimate(str(rule.definition["rule"]), variables, sizes, objects=known.objects)
    found = list(costs.add("rule", f"{path}.rule", rulecosts.times(cost, cardinality, shape)))
    if rule.message is not None:
        variables.setdefault("oldSelf", types.optional_of(kind) if rule.definition.get("optionalOldSelf") else kind)
        cost = estimate(str(rule.definition["messageExpression"]), variables, sizes, objects=known.objects)
        found += costs.add("messageExpression", f"{path}.messageExpression", cost)
    return found
