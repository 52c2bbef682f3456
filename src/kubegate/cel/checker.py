"""The type checker: finds the type of each node and the overloads that each call may mean, or says what is wrong.

Follows cel-go's checker, whose texts kube-apiserver hands to clients; the error types and their order are its.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kubegate.cel import types
from kubegate.cel.functions import Functions, Overload
from kubegate.cel.standard import TYPE_VALUES
from kubegate.cel.syntax import (
    Call,
    Comprehension,
    Constant,
    Entry,
    Ident,
    ListLiteral,
    MapLiteral,
    Node,
    ObjectLiteral,
    Problem,
    Select,
    Tree,
)
from kubegate.cel.types import DYN, ERROR, CelType, Substitutions
from kubegate.cel.values import UInt

Fields = Mapping[str, CelType]


@dataclass(frozen=True, slots=True)
class Declarations:
    """What an expression may refer to: variables by name, objects' fields by the type's name, functions."""

    variables: Mapping[str, CelType]
    functions: Functions
    objects: Mapping[str, Fields] = field(default_factory=dict)


@dataclass(slots=True)
class Checked:
    """A tree with the type of each node and the overloads that each call may be, by node ids."""

    tree: Tree
    result: CelType
    types: dict[int, CelType]
    overloads: dict[int, tuple[Overload, ...]]
    names: dict[int, str] = field(default_factory=dict)
    """Of nodes that are a qualified name: `optional.none`, `google.protobuf.Duration`."""
    type_names: frozenset[int] = frozenset()
    """Nodes that name a type (`int`), and no variable that is called the same."""


def check(tree: Tree, declarations: Declarations) -> tuple[Checked, list[Problem]]:
    """Problems are in the order found; where there are any, types may be `error`."""
    checker = _Checker(tree, declarations)
    checker.check(tree.root)
    found = {node: types.substitute(checker.known, kind, to_dyn=True) for node, kind in checker.types.items()}
    checked = Checked(tree, found[tree.root.id], found, checker.overloads, checker.names, frozenset(checker.type_names))
    return checked, checker.problems


class _Checker:
    def __init__(self, tree: Tree, declarations: Declarations) -> None:
        self.declarations = declarations
        self.positions = tree.positions
        self.problems: list[Problem] = []
        self.types: dict[int, CelType] = {}
        self.overloads: dict[int, tuple[Overload, ...]] = {}
        self.names: dict[int, str] = {}
        self.type_names: set[int] = set()
        self.known = Substitutions()
        self._scopes: list[dict[str, CelType]] = []
        self._fresh = 0

    # --- helpers

    def problem(self, node: Node | Entry, message: str) -> None:
        self.problems.append(Problem(self.positions.get(node.id, 0), message))

    def type(self, node: Node) -> CelType:
        return self.types[node.id]

    def _variable(self) -> CelType:
        self._fresh += 1
        return types.parameter(f"_var{self._fresh - 1}")

    def _mismatch(self, node: Node, wanted: CelType, given: CelType) -> None:
        self.problem(node, f"expected type '{types.format_type(wanted)}' but found '{types.format_type(given)}'")

    def _assignable(self, wanted: CelType, given: CelType) -> bool:
        learnt = types.assignable(self.known, (wanted,), (given,))
        if learnt is None:
            return False
        self.known = learnt
        return True

    def _name(self, node: Node, name: str) -> CelType | None:
        """The type of what a (qualified) name stands for."""
        for scope in reversed(self._scopes):
            if name in scope:
                return scope[name]
        found = self.declarations.variables.get(name)
        if found is not None:
            return found
        if name in TYPE_VALUES:
            self.type_names.add(node.id)
            return types.type_of(TYPE_VALUES[name])
        if name in self.declarations.objects:
            return types.type_of(types.object_of(name))
        return None

    # --- nodes

    def check(self, node: Node) -> None:
        match node:
            case Constant():
                kind = _constant_type(node.value)
            case Ident():
                kind = self._ident(node)
            case Select():
                kind = self._select(node)
            case Call():
                kind = self._call(node)
            case ListLiteral():
                kind = self._list(node)
            case MapLiteral():
                kind = self._map(node)
            case ObjectLiteral():
                kind = self._object(node)
            case Comprehension():
                kind = self._comprehension(node)
        self.types[node.id] = kind

    def _ident(self, node: Ident) -> CelType:
        found = self._name(node, node.name.removeprefix("."))
        if found is None:
            self._undeclared(node, node.name)
            return ERROR
        return found

    def _undeclared(self, node: Node, name: str) -> None:
        self.problem(node, f"undeclared reference to '{name}' (in container '')")

    def _select(self, node: Select) -> CelType:
        qualified = _qualified_name(node)
        if qualified:
            found = self._name(node, qualified)
            if found is not None:
                if node.test_only:
                    self.problem(node, "expression does not select a field")
                    return types.BOOL
                self.names[node.id] = qualified
                return found
        self.check(node.operand)
        kind = self._selected(node, types.substitute(self.known, self.type(node.operand), to_dyn=False), node.field)
        return types.BOOL if node.test_only else types.substitute(self.known, kind, to_dyn=False)

    def _selected(self, node: Node, operand: CelType, name: str, *, optional: bool = False) -> CelType:
        through_optional = operand.kind == "opaque" and operand.name == "optional_type"
        target = operand.parameters[0] if through_optional else operand
        target = types.substitute(self.known, target, to_dyn=False)
        kind = ERROR
        match target.kind:
            case "map":
                kind = target.parameters[1]
            case "object" | "opaque" if target.name not in _WITHOUT_FIELDS:
                kind = self._field(node, target, name) or ERROR
            case "parameter":
                self._assignable(DYN, target)
                kind = DYN
            case _:
                if not types.is_dyn_or_error(target):
                    self.problem(node, f"type '{types.format_type(target)}' does not support field selection")
                kind = DYN
        return types.optional_of(kind) if through_optional or optional else kind

    def _field(self, node: Node | Entry, target: CelType, name: str) -> CelType | None:
        fields = self.declarations.objects.get(target.name)
        if fields is None:
            self.problem(node, f"unexpected failed resolution of '{target.name}'")
            return None
        found = fields.get(name)
        if found is None:
            self.problem(node, f"undefined field '{name}'")
        return found

    def _call(self, node: Call) -> CelType:
        if node.function == "_?._":
            return self._optional_select(node)
        for argument in node.arguments:
            self.check(argument)
        functions = self.declarations.functions
        if node.target is None:
            overloads = functions.get(node.function.removeprefix("."))
            if overloads is None:
                self._undeclared(node, node.function)
                return ERROR
            return self._resolve(node, node.function, overloads, None)
        prefix = _qualified_name(node.target)
        if prefix and f"{prefix}.{node.function}" in functions and self._shadowing(prefix) is None:
            name = f"{prefix}.{node.function}"
            self.names[node.id] = name
            return self._resolve(node, name, functions[name], None)
        self.check(node.target)
        overloads = functions.get(node.function)
        if overloads is None:
            self._undeclared(node, node.function)
            return ERROR
        return self._resolve(node, node.function, overloads, node.target)

    def _shadowing(self, prefix: str) -> CelType | None:
        for scope in reversed(self._scopes):
            if prefix in scope:
                return scope[prefix]
        return None

    def _optional_select(self, node: Call) -> CelType:
        operand, name = node.arguments
        self.check(operand)
        if not isinstance(name, Constant) or not isinstance(name.value, str):
            self.problem(node, "unsupported optional field selection")
            return ERROR
        self.types[name.id] = types.STRING
        kind = self._selected(node, self.type(operand), name.value, optional=True)
        return types.substitute(self.known, kind, to_dyn=False)

    def _resolve(self, node: Call, name: str, overloads: Sequence[Overload], target: Node | None) -> CelType:
        given = [self.type(n) for n in ([target] if target is not None else []) + list(node.arguments)]
        if name in ("_&&_", "_||_"):
            return self._logical(node)
        matching: list[Overload] = []
        result: CelType | None = None
        for overload in overloads:
            if overload.member != (target is not None):
                continue
            wanted, returned = self._instantiate(overload)
            if len(wanted) != len(given):
                continue
            learnt = types.assignable(self.known, given, wanted)
            if learnt is None:
                continue
            self.known = learnt
            matching.append(overload)
            returned = types.substitute(self.known, returned, to_dyn=False)
            if result is None:
                result = returned
            elif result.kind != "dyn" and returned != result:
                result = DYN
        if result is None:
            shown = [types.format_type(types.substitute(self.known, kind, to_dyn=True)) for kind in given]
            applied = f"{shown[0]}.({', '.join(shown[1:])})" if target is not None else f"({', '.join(shown)})"
            self.problem(node, f"found no matching overload for '{name}' applied to '{applied}'")
            return ERROR
        self.overloads[node.id] = tuple(matching)
        return result

    def _logical(self, node: Call) -> CelType:
        """Each side that is no boolean is told by itself."""
        bad = [argument for argument in node.arguments if not self._assignable(self.type(argument), types.BOOL)]
        for argument in bad:
            self._mismatch(argument, types.BOOL, self.type(argument))
        if bad:
            return ERROR
        self.overloads[node.id] = tuple(self.declarations.functions[node.function])
        return types.BOOL

    def _instantiate(self, overload: Overload) -> tuple[tuple[CelType, ...], CelType]:
        """The overload's types with its parameters replaced by new ones of this call's own."""
        names: set[str] = set()
        for kind in (*overload.arguments, overload.result):
            _parameters(kind, names)
        if not names:
            return overload.arguments, overload.result
        fresh = {name: self._variable() for name in sorted(names)}
        return tuple(_renamed(kind, fresh) for kind in overload.arguments), _renamed(overload.result, fresh)

    def _list(self, node: ListLiteral) -> CelType:
        element: CelType | None = None
        for position, child in enumerate(node.elements):
            self.check(child)
            kind = self.type(child)
            if position in node.optional:
                kind = self._unwrapped(child, kind)
            element = self._joined(element, kind)
        return types.list_of(element if element is not None else self._variable())

    def _unwrapped(self, node: Node, kind: CelType) -> CelType:
        if kind.kind == "opaque" and kind.name == "optional_type":
            return kind.parameters[0]
        if kind.kind != "dyn":
            self._mismatch(node, types.optional_of(kind), kind)
        return kind

    def _joined(self, previous: CelType | None, kind: CelType) -> CelType:
        if previous is None:
            return kind
        if self._assignable(previous, kind):
            return types.most_general(previous, kind)
        return DYN  # `literals` refuses it, but for the arguments of `format`

    def _map(self, node: MapLiteral) -> CelType:
        key: CelType | None = None
        value: CelType | None = None
        for entry in node.entries:
            assert not isinstance(entry.key, str)
            self.check(entry.key)
            key = self._joined(key, self.type(entry.key))
            self.check(entry.value)
            kind = self.type(entry.value)
            if entry.optional:
                kind = self._unwrapped(entry.value, kind)
            value = self._joined(value, kind)
        if key is None or value is None:
            return types.map_of(self._variable(), self._variable())
        return types.map_of(key, value)

    def _object(self, node: ObjectLiteral) -> CelType:
        kind = ERROR
        declared = self._name(node, node.name.removeprefix("."))
        if declared is None:
            self._undeclared(node, node.name)
            return ERROR
        if declared.kind != "type":
            self.problem(node, f"'{types.runtime_name(declared)}' is not a type")
        else:
            kind = declared.parameters[0]
            if kind.kind != "object":
                self.problem(node, f"'{types.runtime_name(kind)}' is not a message type")
                kind = ERROR
        for entry in node.entries:
            assert isinstance(entry.key, str)
            self.check(entry.value)
            wanted = (self._field(entry, kind, entry.key) if kind.kind == "object" else None) or ERROR
            given = self.type(entry.value)
            if entry.optional:
                given = self._unwrapped(entry.value, given)
            if not self._assignable(wanted, given):
                self.problem(
                    entry,
                    f"expected type of field '{entry.key}' is '{types.format_type(wanted)}'"
                    f" but provided type is '{types.format_type(given)}'",
                )
        return kind

    def _comprehension(self, node: Comprehension) -> CelType:
        self.check(node.range)
        self.check(node.initial)
        over = types.substitute(self.known, self.type(node.range), to_dyn=False)
        accumulated = self.type(node.initial)
        first, second = DYN, DYN
        match over.kind:
            case "list":
                first = over.parameters[0]
                if node.variable2:
                    first, second = types.INT, over.parameters[0]
            case "map":
                first = over.parameters[0]
                second = over.parameters[1]
            case "dyn" | "error" | "parameter" if over != types.ANY:
                self._assignable(DYN, over)
            case _:
                self.problem(
                    node.range,
                    f"expression of type '{types.format_type(over)}' cannot be range of a comprehension"
                    " (must be list, map, or dynamic)",
                )
                first = second = ERROR
        self._scopes.append({node.accumulator: accumulated})
        self._scopes.append({node.variable: first} | ({node.variable2: second} if node.variable2 else {}))
        self.check(node.condition)
        self._expect(node.condition, types.BOOL)
        self.check(node.step)
        self._expect(node.step, accumulated)
        self._scopes.pop()
        self.check(node.result)
        self._scopes.pop()
        return types.substitute(self.known, self.type(node.result), to_dyn=False)

    def _expect(self, node: Node, wanted: CelType) -> None:
        given = self.type(node)
        if not self._assignable(wanted, given):
            self._mismatch(node, wanted, given)


_WITHOUT_FIELDS = frozenset({"net.IP", "net.CIDR"})


def _constant_type(value: object) -> CelType:
    match value:
        case None:
            return types.NULL
        case bool():
            return types.BOOL
        case UInt():
            return types.UINT
        case int():
            return types.INT
        case float():
            return types.DOUBLE
        case str():
            return types.STRING
    return types.BYTES


def _qualified_name(node: Node) -> str:
    """`a.b.c` for selects on a name, "" for everything else."""
    if isinstance(node, Ident):
        return node.name.removeprefix(".")
    if isinstance(node, Select) and not node.test_only:
        operand = _qualified_name(node.operand)
        return f"{operand}.{node.field}" if operand else ""
    return ""


def _parameters(kind: CelType, names: set[str]) -> None:
    if kind.kind == "parameter":
        names.add(kind.name)
    for inner in kind.parameters:
        _parameters(inner, names)


def _renamed(kind: CelType, fresh: Mapping[str, CelType]) -> CelType:
    if kind.kind == "parameter":
        return fresh[kind.name]
    if not kind.parameters:
        return kind
    return CelType(kind.kind, kind.name, tuple(_renamed(p, fresh) for p in kind.parameters))
