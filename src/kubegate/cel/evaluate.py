"""From a checked tree to nested Python functions that evaluate it, counting what that costs as kube-apiserver does.

Each node becomes a function of a `Run`. Errors are exceptions; where cel-go lets them be values (`||`, `&&`, the
accumulator of a macro) they are caught and kept. The cost limit is looked at in every loop and after every call, so
that an expression made to be slow is stopped soon after it has used up what it may.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kubegate.cel import costs, standard, types, values
from kubegate.cel.checker import Checked
from kubegate.cel.functions import Overload
from kubegate.cel.libraries import regex
from kubegate.cel.run import Run, Step
from kubegate.cel.syntax import (
    Call,
    Comprehension,
    Constant,
    Ident,
    ListLiteral,
    MapLiteral,
    Node,
    ObjectLiteral,
    Select,
)
from kubegate.cel.types import CelType
from kubegate.cel.values import CostExceeded, EvaluationError, ObjectValue, Optional, no_such_overload


class ConstantError(Exception):
    """A part of the expression that is the same in every evaluation fails: it need never be evaluated."""


def build(checked: Checked, mutation: bool = False) -> Step:
    """Raises ConstantError. In a `mutation`, lists and maps that the expression makes are told from others."""
    return _Builder(checked, mutation).build(checked.tree.root)


_CONVERSIONS = frozenset({"bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "type", "uint"})
_SPLITTING = frozenset({"findAll", "split"})
_ARRANGING = frozenset({"@sortByAssociatedKeys", "distinct", "flatten", "lists.range", "reverse", "slice", "sort"})
_FINDING = frozenset({"find", "findAll", "matches"})
_KEYS = frozenset({str, int, bool, values.UInt, float, type(None)})
_LOOKED_UP = frozenset({str, int, bool, values.UInt, float, type(None)})


class _Builder:
    def __init__(self, checked: Checked, mutation: bool) -> None:
        self._checked, self._mutation = checked, mutation
        self._accumulators: set[str] = set()
        self._constants: dict[int, Any] = {}
        """The values of nodes that are the same in every evaluation, by node ids; they cost nothing."""

    def build(self, node: Node) -> Step:
        if isinstance(node, Constant):
            return self._known(node, node.value)
        if node.id in self._checked.type_names:
            name = node.name if isinstance(node, Ident) else self._checked.names[node.id]
            return self._known(node, standard.TYPE_VALUES[name.removeprefix(".")])
        if node.id in self._checked.names and isinstance(node, Select):
            return self._ident(self._checked.names[node.id])
        match node:
            case Ident():
                return self._ident(node.name.removeprefix("."))
            case Select():
                return self._select(node)
            case Call():
                return self._call(node)
            case ListLiteral():
                return self._list(node)
            case MapLiteral():
                return self._map(node)
            case ObjectLiteral():
                return self._object(node)
            case Comprehension():
                return self._comprehension(node)

    def _known(self, node: Node, value: Any) -> Step:
        self._constants[node.id] = value
        return lambda run: value

    def _folded(self, node: Node, step: Step) -> Step:
        """What has the same value in every evaluation, worked out once."""
        try:
            value = step(Run({}, costs.PER_CALL))
        except EvaluationError as error:
            raise ConstantError(str(error)) from None
        return self._known(node, value)

    # --- names and fields

    def _ident(self, name: str) -> Step:
        if name in self._accumulators:
            return _accumulated(name)

        def ident(run: Run) -> Any:
            run.cost += 1
            try:
                return run.values[name]
            except KeyError:
                raise EvaluationError(f"no such attribute(s): {name}") from None

        return ident

    def _select(self, node: Select) -> Step:
        fields = [node.field]
        operand = node.operand
        while isinstance(operand, Select) and not operand.test_only and operand.id not in self._checked.names:
            fields.insert(0, operand.field)
            operand = operand.operand
        base = self.build(operand)
        cost = len(fields) + _base_cost(operand)
        if node.test_only:
            return _has(
                base, tuple(fields[:-1]), fields[-1], cost - (1 if _is_attribute(operand) else _base_cost(operand))
            )
        if isinstance(operand, Ident) and not self._is_special(operand):
            return _path(operand.name.removeprefix("."), tuple(fields))
        return _selected(base, tuple(fields), cost)

    def _is_special(self, node: Ident) -> bool:
        """Whether a name is no variable: a type, or the accumulator of a macro, which may hold an error."""
        return node.id in self._checked.type_names or node.name in self._accumulators

    # --- calls

    def _call(self, node: Call) -> Step:
        match node.function:
            case "_&&_":
                return _and(self.build(node.arguments[0]), self.build(node.arguments[1]))
            case "_||_":
                return _or(self.build(node.arguments[0]), self.build(node.arguments[1]))
            case "_?_:_":
                condition, then, otherwise = (self.build(a) for a in node.arguments)
                return _conditional(condition, then, otherwise, *map(_saved, node.arguments[1:]))
            case "@not_strictly_false":
                return _not_strictly_false(self.build(node.arguments[0]))
            case "_[_]":
                return self._index(node, standard.index)
            case "_[?_]":
                return self._index(node, standard.optional_index)
            case "_?._":
                return self._index(node, standard.optional_index)
            case "or" | "orValue" if node.target is not None and node.id not in self._checked.names:
                return _or_else(self.build(node.target), self.build(node.arguments[0]), node.function == "orValue")
        overloads = self._checked.overloads[node.id]
        name = self._checked.names.get(node.id) or node.function.removeprefix(".")
        parts = list(node.arguments)
        if node.target is not None and node.id not in self._checked.names:
            parts.insert(0, node.target)
        arguments = [self.build(part) for part in parts]
        if name == "@in" and (items := _simple_list(self._constants.get(parts[1].id))) is not None:
            return _member_of(arguments[0], items)
        step = self._invoke(name, overloads, parts, arguments)
        if name in _FINDING and isinstance(pattern := self._constants.get(parts[1].id), str):
            _check_pattern(pattern)
        if name in _CONVERSIONS and node.target is None and parts[0].id in self._constants:
            return self._folded(node, step)
        return step

    def _index(self, node: Call, function: Callable[[Any, Any], Any]) -> Step:
        operand, key = node.arguments
        container, index = self.build(operand), self.build(key)
        cost = 1 + _base_cost(operand) - _saved(key)
        optional = function is standard.optional_index

        def indexed(run: Run) -> Any:
            run.cost += cost
            found = function(container(run), index(run))
            if optional and not found.present:
                run.cost -= 1
            return found

        return indexed

    def _invoke(self, name: str, overloads: tuple[Overload, ...], parts: Sequence[Node], arguments: list[Step]) -> Step:
        cost = costs.of_call(name, overloads[0].id if len(overloads) == 1 else "")
        implementation = _dispatcher(name, overloads, [self._checked.types[p.id] for p in parts])
        if name == "type":
            implementation = standard.type_value
        if self._mutation and name in _SPLITTING:
            return self._own(_general(implementation, tuple(arguments), cost), values.OwnTexts)
        if self._mutation and name in _ARRANGING:
            return self._own(_general(implementation, tuple(arguments), cost))
        if isinstance(cost, int):
            if len(arguments) == 1:
                return _unary(implementation, arguments[0], cost)
            if len(arguments) == 2:
                return _binary(implementation, arguments[0], arguments[1], cost)
        return _general(implementation, tuple(arguments), cost)

    # --- aggregates

    def _list(self, node: ListLiteral) -> Step:
        elements = [self.build(e) for e in node.elements]
        optional = node.optional

        def made(run: Run) -> list[Any]:
            result = []
            for position, element in enumerate(elements):
                value = element(run)
                if position in optional:
                    value = _as_optional(value, "list element")
                    if not value.present:
                        continue
                    value = value.value
                result.append(value)
            run.cost += costs.LIST
            return result

        known = not optional and all(e.id in self._constants for e in node.elements)
        step = self._own(made)
        return self._folded(node, step) if known else step

    def _map(self, node: MapLiteral) -> Step:
        entries = [
            (self.build(e.key), self.build(e.value), e.optional) for e in node.entries if not isinstance(e.key, str)
        ]

        def made(run: Run) -> dict[Any, Any]:
            result: dict[Any, Any] = {}
            for make_key, make_value, optional in entries:
                key, value = make_key(run), make_value(run)
                if type(key) not in _KEYS:
                    raise EvaluationError(f"unsupported key type: {values.type_name(key)}")
                if optional:
                    value = _as_optional(value, f"entry '{values.plain_text(key)}'")
                    if not value.present:
                        continue
                    value = value.value
                result[key] = value
            run.cost += costs.MAP
            return result

        known = all(
            not e.optional
            and e.value.id in self._constants
            and not isinstance(e.key, str)
            and e.key.id in self._constants
            for e in node.entries
        )
        step = self._own(made)
        return self._folded(node, step) if known else step

    def _own(self, step: Step, make: Callable[[Any], Any] = values.own) -> Step:
        """The step, whose result is told from an object's lists and maps where that matters."""
        return (lambda run: make(step(run))) if self._mutation else step

    def _object(self, node: ObjectLiteral) -> Step:
        entries = [(str(e.key), self.build(e.value), e.optional) for e in node.entries]
        name = node.name.removeprefix(".")

        def made(run: Run) -> ObjectValue:
            fields = {}
            for field, make, optional in entries:
                value = make(run)
                if optional:
                    value = _as_optional(value, f"entry '{field}'")
                    if not value.present:
                        continue
                    value = value.value
                fields[field] = value
            run.cost += costs.OBJECT
            return ObjectValue(name, fields)

        return made

    # --- macros

    def _comprehension(self, node: Comprehension) -> Step:
        # each part is built once: nested macros would otherwise take exponential time
        iterable = self.build(node.range)
        outer = set(self._accumulators)
        inner = (outer | {node.accumulator}) - {node.variable, node.variable2}
        try:
            self._accumulators = set(inner)
            predicate = self._predicate(node)
            if predicate is not None:
                kind, function = predicate
                return _quantified(iterable, node.variable, node.variable2, function, kind)
            collected = self._collected(node)
            if collected is not None:
                return self._own(_gathered(node, iterable, collected))
            condition, step = self.build(node.condition), self.build(node.step)
            self._accumulators = outer | {node.accumulator}
            result = self.build(node.result)
        finally:
            self._accumulators = outer
        return _fold(node, iterable, self.build(node.initial), condition, step, result)

    def _predicate(self, node: Comprehension) -> tuple[bool, Step] | None:
        """Of `all` and `exists`, which are most comprehensions: whether it is `all`, and what each element is asked."""
        match node:
            case Comprehension(
                initial=Constant(value=bool(start)),
                condition=Call(function="@not_strictly_false"),
                step=Call(function="_&&_" | "_||_" as operator, arguments=(Ident(name=name), question)),
                result=Ident(),
            ) if name == node.accumulator and start == (operator == "_&&_"):
                return start, self.build(question)
        return None

    def _collected(self, node: Comprehension) -> _Collected | None:
        """Of `map`, `filter` and the transformations, which make a list or map one entry after the other.

        To add each entry to a copy of what is there already, as the comprehension says, takes quadratic time.
        """
        match node:
            case Comprehension(
                initial=ListLiteral(elements=()) | MapLiteral(entries=()),
                condition=Constant(value=True),
                result=Ident(),
            ):
                pass
            case _:
                return None
        step, question = node.step, None
        match step:
            case Call(function="_?_:_", arguments=(asked, then, Ident(name=name))) if name == node.accumulator:
                step, question = then, self.build(asked)
        match step:
            case Call(function="_+_", arguments=(Ident(name=name), ListLiteral(elements=(element,)) as single)) if (
                name == node.accumulator and not single.optional and isinstance(node.initial, ListLiteral)
            ):
                part = self.build(element)
                cost = 2 if element.id in self._constants else 2 + costs.LIST
                return _Collected(question, (part,), cost, "list")
            case Call(function="cel.@mapInsert", arguments=(Ident(name=name), *entry)) if name == node.accumulator:
                return _Collected(question, tuple(self.build(e) for e in entry), 2, "map")
        return None


class _Collected:
    """How a macro makes its list or map: which items count (all where `question` is None), and what each becomes.

    `parts` are the element, the key and the value, or a map of entries; `cost` that of adding one.
    """

    __slots__ = ("cost", "kind", "parts", "question")

    def __init__(self, question: Step | None, parts: tuple[Step, ...], cost: int, kind: str) -> None:
        self.question, self.parts, self.cost, self.kind = question, parts, cost, kind


def _is_attribute(node: Node) -> bool:
    """Whether cel-go plans the node as something that fields are read from step by step."""
    return isinstance(node, (Ident, Select)) or (isinstance(node, Call) and node.function in ("_[_]", "_[?_]", "_?._"))


def _saved(node: Node) -> int:
    """What a variable costs is not counted where cel-go makes it a part of something else: a branch, an index."""
    return 1 if _is_attribute(node) and not (isinstance(node, Select) and node.test_only) else 0


def _base_cost(node: Node) -> int:
    """A field of what is no attribute (a call's result) costs one for the start of a new attribute."""
    return 0 if _is_attribute(node) or (isinstance(node, Call) and node.function == "_?_:_") else 1


def _simple_list(value: Any) -> list[Any] | None:
    """A list of which cel-go makes a set, to look values up in it; None for all else."""
    return value if isinstance(value, list) and all(type(item) in _LOOKED_UP for item in value) else None


def _check_pattern(pattern: str) -> None:
    try:
        regex.compiled(pattern)
    except EvaluationError as error:
        raise ConstantError(str(error)) from None


def _accumulated(name: str) -> Step:
    def accumulated(run: Run) -> Any:
        run.cost += 1
        value = run.values[name]
        if isinstance(value, EvaluationError):
            raise value
        return value

    return accumulated


def _as_optional(value: Any, what: str) -> Optional:
    if isinstance(value, Optional):
        return value
    raise EvaluationError(f"cannot initialize optional {what} from non-optional value {values.plain_text(value)}")


def select(value: Any, field: str) -> Any:
    """`value.field`."""
    if isinstance(value, dict):
        found = value.get(field, values.MISSING)
        if found is values.MISSING:
            raise values.no_such_key(field)
        return found
    if isinstance(value, Optional):
        return standard.optional_index(value, field)
    if hasattr(value, "select"):
        return value.select(field)
    if isinstance(value, (list, tuple)):
        raise standard.no_such_index(field)
    raise values.no_such_key(field)


def has_field(value: Any, field: str) -> bool:
    """`has(value.field)`."""
    if isinstance(value, dict):
        return field in value
    if isinstance(value, Optional):
        return value.present and has_field(value.value, field)
    if hasattr(value, "has"):
        return bool(value.has(field))
    if isinstance(value, (list, tuple)):
        raise standard.no_such_index(field)
    return False


def _path(name: str, fields: tuple[str, ...]) -> Step:
    """`object.spec.replicas`, the most frequent of all steps."""
    cost = 1 + len(fields)

    def path(run: Run) -> Any:
        run.cost += cost
        try:
            value = run.values[name]
        except KeyError:
            raise EvaluationError(f"no such attribute(s): {name}") from None
        for field in fields:
            if type(value) is dict:
                try:
                    value = value[field]
                except KeyError:
                    raise values.no_such_key(field) from None
            else:
                value = select(value, field)
        return value

    return path


def _selected(base: Step, fields: tuple[str, ...], cost: int) -> Step:
    def selected(run: Run) -> Any:
        value = base(run)
        run.cost += cost
        for field in fields:
            value = select(value, field)
            if type(value) is Optional and not value.present:
                run.cost -= 1
        return value

    return selected


def _has(base: Step, fields: tuple[str, ...], last: str, cost: int) -> Step:
    def has(run: Run) -> bool:
        value = base(run)
        run.cost += cost
        for field in fields:
            value = select(value, field)
        return has_field(value, last)

    return has


def _and(left: Step, right: Step) -> Step:
    def both(run: Run) -> bool:
        try:
            first = left(run)
        except CostExceeded:
            raise
        except EvaluationError as error:
            if right(run) is False:
                return False
            raise error from None
        if first is False:
            return False
        second = right(run)
        if second is False:
            return False
        if first is True is second:
            return True
        raise no_such_overload()

    return both


def _or(left: Step, right: Step) -> Step:
    def either(run: Run) -> bool:
        try:
            first = left(run)
        except CostExceeded:
            raise
        except EvaluationError as error:
            if _quietly(right, run) is True:
                return True
            raise error from None
        if first is True:
            return True
        second = right(run)
        if second is True:
            return True
        if first is False is second:
            return False
        raise no_such_overload()

    return either


def _quietly(step: Step, run: Run) -> Any:
    """The value, or None where there is an error that another one comes before."""
    try:
        return step(run)
    except CostExceeded:
        raise
    except EvaluationError:
        return None


def _conditional(condition: Step, then: Step, otherwise: Step, then_saved: int, otherwise_saved: int) -> Step:
    def conditional(run: Run) -> Any:
        chosen = condition(run)
        if chosen is True:
            run.cost -= then_saved
            return then(run)
        if chosen is False:
            run.cost -= otherwise_saved
            return otherwise(run)
        raise no_such_overload()

    return conditional


def _not_strictly_false(operand: Step) -> Step:
    def not_strictly_false(run: Run) -> bool:
        run.cost += 1
        try:
            return operand(run) is not False
        except CostExceeded:
            raise
        except EvaluationError:
            return True

    return not_strictly_false


def _or_else(optional: Step, alternative: Step, unwrap: bool) -> Step:
    def or_else(run: Run) -> Any:
        value = optional(run)
        if not isinstance(value, Optional):
            raise no_such_overload()
        if value.present:
            return value.value if unwrap else value
        return alternative(run)

    return or_else


def _member_of(wanted: Step, items: list[Any]) -> Step:
    """`x in ['a', 'b']`: the list is looked up, not walked, and costs nothing."""
    texts = frozenset(item for item in items if isinstance(item, str))

    def member_of(run: Run) -> bool:
        value = wanted(run)
        if type(value) is str:
            return value in texts
        return values.contains(items, value)

    return member_of


_BY_VALUE = frozenset(
    {"_+_", "_-_", "_*_", "_/_", "_%_", "-_", "!_", "_<_", "_<=_", "_>_", "_>=_", "_==_", "_!=_", "@in"}
)
"""Functions whose one implementation looks at the values itself."""


def _dispatcher(name: str, overloads: tuple[Overload, ...], given: list[CelType]) -> Callable[..., Any]:
    """A function that checks, where the checker could not, that the values are what the overload takes."""
    if name in _BY_VALUE:
        return overloads[0].implementation
    if len(overloads) == 1 and not any(map(_unsure, given)):
        return overloads[0].implementation

    wanted = [(overload.implementation, [_wanted(kind) for kind in overload.arguments]) for overload in overloads]
    guarded = name != "flatten"

    def dispatched(*arguments: Any) -> Any:
        names = [values.type_name(argument) for argument in arguments]
        for implementation, kinds in wanted:
            for kind, found, argument in zip(kinds, names, arguments):  # noqa: B905 (as many, and this is run often)
                if kind is not None and (kind[0] != found or (guarded and kind[1] and not _fits(kind[1], argument))):
                    break
            else:
                return implementation(*arguments)
        raise _no_such_function(name, arguments)

    return dispatched


def _unsure(kind: CelType) -> bool:
    """Whether there may be values of a type that the overload does not take."""
    return kind.kind in ("dyn", "parameter", "null") or (
        kind.kind in ("list", "map") and any(map(_unsure, kind.parameters))
    )


def _wanted(kind: CelType) -> tuple[str, CelType | None] | None:
    """The run-time name of the types of the values that may be given for a parameter; None: of all types.

    Of lists and maps whose elements are to be of certain types, the type stands there too.
    """
    if kind.kind in ("dyn", "parameter"):
        return None
    inner = kind.kind in ("list", "map") and any(_wanted(p) for p in kind.parameters)
    return types.runtime_name(kind), kind if inner else None


def _fits(kind: CelType, value: Any) -> bool:
    """Whether a value is of a type, as far as its first element tells."""
    wanted = _wanted(kind)
    if wanted is None:
        return True
    if wanted[0] != values.type_name(value):
        return False
    if kind.kind == "list":
        return not value or _fits(kind.parameters[0], value[0])
    if kind.kind == "map":
        return all(_fits(k, v) for k, v in zip(kind.parameters, next(iter(value.items()), ()), strict=False))
    return True


_UNNAMED = frozenset({"contains", "startsWith", "endsWith", "matches"})
_UNNAMED_UNLESS_TEXT = frozenset({"find", "findAll"})
_WITHOUT_TYPES = frozenset({"size", "sort"})


def _no_such_function(name: str, arguments: tuple[Any, ...]) -> EvaluationError:
    text = isinstance(arguments[0], str)
    if name in _UNNAMED or (name == "sort" and text) or (name in _UNNAMED_UNLESS_TEXT and not text):
        return no_such_overload()
    if name in _WITHOUT_TYPES:
        return EvaluationError(f"no such overload: {name}")
    return no_such_overload(name, *arguments)


def _unary(function: Callable[[Any], Any], operand: Step, cost: int) -> Step:
    def unary(run: Run) -> Any:
        value = operand(run)
        run.cost += cost
        if run.cost > run.limit:
            raise CostExceeded
        return function(value)

    return unary


def _binary(function: Callable[[Any, Any], Any], left: Step, right: Step, cost: int) -> Step:
    def binary(run: Run) -> Any:
        first, second = left(run), right(run)
        run.cost += cost
        if run.cost > run.limit:
            raise CostExceeded
        return function(first, second)

    return binary


def _general(function: Callable[..., Any], operands: tuple[Step, ...], cost: int | costs.Cost) -> Step:
    def general(run: Run) -> Any:
        arguments = [operand(run) for operand in operands]
        result = function(*arguments)
        run.cost += cost if isinstance(cost, int) else cost(arguments, result)
        if run.cost > run.limit:
            raise CostExceeded
        return result

    return general


def _items(value: Any, pairs: bool) -> Any:
    """What a macro goes through: elements or keys; with `pairs`, (index, element) or (key, value)."""
    if isinstance(value, (list, tuple)):
        return enumerate(value) if pairs else value
    if isinstance(value, dict):
        return value.items() if pairs else value
    kind = values.go_type_name(value)
    unfit = f"unsupported comprehension range type: {kind}" if pairs else f"got '{kind}', expected iterable type"
    raise EvaluationError(unfit)


def _quantified(iterable: Step, variable: str, variable2: str, question: Step, every: bool) -> Step:
    """`all` (`every`) and `exists`, at the cost of the comprehensions that they stand for."""
    until = not every
    # condition: accumulator, (negation,) @not_strictly_false; step: accumulator
    condition_cost = 2 if every else 3
    pairs = bool(variable2)

    def quantified(run: Run) -> bool:
        items = _items(iterable(run), pairs)
        scope = run.values
        before = {name: scope.get(name, values.MISSING) for name in (variable, variable2) if name}
        limit = run.limit
        failure: EvaluationError | None = None
        found = False
        for item in items:
            run.cost += condition_cost
            if found:
                break
            run.cost += 1
            if run.cost > limit:
                raise CostExceeded
            if pairs:
                scope[variable], scope[variable2] = item
            else:
                scope[variable] = item
            try:
                answer = question(run)
            except CostExceeded:
                raise
            except EvaluationError as error:
                failure = failure or error
                continue
            if answer is until:
                found = True
            elif answer is not every:
                failure = failure or no_such_overload()
        run.cost += 1
        _restore(scope, before)
        if found:
            return until
        if failure is not None:
            raise failure
        return every

    return quantified


def _restore(scope: dict[str, Any], before: dict[str, Any]) -> None:
    for name, value in before.items():
        if value is values.MISSING:
            scope.pop(name, None)
        else:
            scope[name] = value


def _gathered(node: Comprehension, iterable: Step, collected: _Collected) -> Step:
    variable, variable2 = node.variable, node.variable2
    pairs = bool(variable2)
    names = [name for name in (variable, variable2) if name]
    question, parts, cost = collected.question, collected.parts, collected.cost

    def gathered(run: Run) -> Any:
        items = _items(iterable(run), pairs)
        scope = run.values
        before = {name: scope.get(name, values.MISSING) for name in names}
        found: list[Any] = []
        entries: dict[Any, Any] = {}
        failure: EvaluationError | None = None
        try:
            for item in items:
                if run.cost > run.limit:
                    raise CostExceeded
                if pairs:
                    scope[variable], scope[variable2] = item
                else:
                    scope[variable] = item
                try:
                    if question is not None:
                        answer = question(run)
                        if answer is False:
                            continue
                        if answer is not True:
                            raise no_such_overload()
                except CostExceeded:
                    raise
                except EvaluationError as error:
                    failure = error  # the comprehension goes on: of several errors, the last one is told
                    continue
                run.cost += cost
                try:
                    made = [part(run) for part in parts]
                    if failure is not None:
                        continue
                    if collected.kind == "list":
                        found.append(made[0])
                    else:
                        _insert(entries, made)
                except CostExceeded:
                    raise
                except EvaluationError as error:
                    failure = failure or error
        finally:
            _restore(scope, before)
        run.cost += 1
        if failure is not None:
            raise failure
        return found if collected.kind == "list" else entries

    return gathered


def _insert(entries: dict[Any, Any], made: list[Any]) -> None:
    for key, value in [(made[0], made[1])] if len(made) == 2 else made[0].items():
        if values.find(entries, key) is not values.MISSING:
            raise EvaluationError(f"insert failed: key {values.plain_text(key)} already exists")
        entries[key] = value


def _fold(node: Comprehension, iterable: Step, initial: Step, condition: Step, step: Step, result: Step) -> Step:
    """Any other comprehension."""
    variable, variable2, accumulator = node.variable, node.variable2, node.accumulator
    pairs = bool(variable2)
    names = [name for name in (variable, variable2, accumulator) if name]
    unconditional = isinstance(node.condition, Constant) and node.condition.value is True

    def fold(run: Run) -> Any:
        items = _items(iterable(run), pairs)
        scope = run.values
        start = initial(run)
        before = {name: scope.get(name, values.MISSING) for name in names}
        scope[accumulator] = start
        try:
            for item in items:
                if run.cost > run.limit:
                    raise CostExceeded
                if pairs:
                    scope[variable], scope[variable2] = item
                elif variable != accumulator:
                    scope[variable] = item
                if not unconditional and condition(run) is not True:
                    break
                try:
                    scope[accumulator] = step(run)
                except CostExceeded:
                    raise
                except EvaluationError as error:
                    scope[accumulator] = error
            return result(run)
        finally:
            _restore(scope, before)

    return fold
