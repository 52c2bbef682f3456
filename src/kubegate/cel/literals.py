"""What is wrong with literals, told once the types are known: they could never be evaluated, or mix types.

Follows cel-go's validators, in the words in which kube-apiserver hands their findings to clients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kubegate.cel import types, values
from kubegate.cel.checker import Checked
from kubegate.cel.libraries import regex, strings
from kubegate.cel.syntax import Call, Constant, ListLiteral, MapLiteral, Node, Problem, children
from kubegate.cel.types import CelType
from kubegate.cel.values import EvaluationError


def problems(checked: Checked) -> list[Problem]:
    return list(_Literals(checked).of(checked.tree.root, formatted=False))


def _is_timestamp(value: object) -> bool:
    try:
        return values.parse_timestamp(value) is not None if isinstance(value, str) else _in_range(value)
    except EvaluationError:
        return False


def _in_range(seconds: object) -> bool:
    return not isinstance(seconds, int) or values.checked_timestamp(seconds * 10**9) is not None


_ARGUMENTS: dict[str, Callable[[object], bool]] = {
    "duration": lambda value: not isinstance(value, str) or values.parse_duration(value) is not None,
    "timestamp": _is_timestamp,
    "matches": lambda value: not isinstance(value, str) or regex.is_valid(value),
}
"""Functions whose first argument is looked at where it is a literal."""


class _Literals:
    def __init__(self, checked: Checked) -> None:
        self._checked = checked

    def of(self, node: Node, *, formatted: bool) -> Iterator[Problem]:
        """`formatted`: the node is somewhere inside a call of `format`, where lists may mix types."""
        match node:
            case Call():
                yield from self._call(node)
                formatted = formatted or node.function == "format"
            case ListLiteral() if not formatted:
                yield from self._list(node)
            case MapLiteral() if not formatted:
                yield from self._map(node)
        for child in children(node):
            yield from self.of(child, formatted=formatted)

    def _problem(self, node: Node, message: str) -> Problem:
        return Problem(self._checked.tree.positions.get(node.id, 0), message)

    def _type(self, node: Node, *, optional: bool = False) -> CelType:
        kind = self._checked.types[node.id]
        return kind.parameters[0] if optional and kind.parameters else kind

    def _call(self, node: Call) -> Iterator[Problem]:
        is_good = _ARGUMENTS.get(node.function)
        if is_good is not None and node.arguments:
            argument = node.arguments[0]
            if isinstance(argument, Constant) and not is_good(argument.value):
                yield self._problem(argument, f"invalid {node.function} argument")
        if node.function == "format" and isinstance(node.target, Constant) and len(node.arguments) == 1:
            arguments = node.arguments[0]
            if isinstance(node.target.value, str) and isinstance(arguments, ListLiteral):
                yield from self._format(node, node.target.value, arguments.elements)

    def _list(self, node: ListLiteral) -> Iterator[Problem]:
        kinds = [self._type(e, optional=i in node.optional) for i, e in enumerate(node.elements)]
        for element, kind in zip(node.elements, kinds, strict=True):
            if kind != kinds[0]:
                yield self._mixed(element, kinds[0], kind)
                return

    def _map(self, node: MapLiteral) -> Iterator[Problem]:
        first: tuple[CelType, CelType] | None = None
        for entry in node.entries:
            assert not isinstance(entry.key, str)
            key, value = self._type(entry.key), self._type(entry.value, optional=entry.optional)
            first = first or (key, value)
            if key != first[0]:
                yield self._mixed(entry.key, first[0], key)
            if value != first[1]:
                yield self._mixed(entry.value, first[1], value)

    def _mixed(self, node: Node, wanted: CelType, found: CelType) -> Problem:
        return self._problem(
            node, f"expected type '{types.format_type(wanted)}' but found '{types.format_type(found)}'"
        )

    def _format(self, call: Call, template: str, arguments: tuple[Node, ...]) -> Iterator[Problem]:
        used = 0

        def put(position: int, verb: str, precision: int) -> str:
            nonlocal used
            used += 1
            bad = self._unfit(arguments[position], verb)
            if bad is not None:
                raise _Unfit(bad, verb)
            return ""

        try:
            strings.interpolate(template, len(arguments), put, early=False)
        except _Unfit as error:
            kind = types.runtime_name(self._type(error.node))
            yield self._problem(error.node, str(strings.unfit(error.verb, kind)))
        except EvaluationError as error:
            yield self._problem(call, str(error))
        else:
            if len(arguments) > used:
                message = f"too many arguments supplied to string.format (expected {used}, got {len(arguments)})"
                yield self._problem(call, message)

    def _unfit(self, node: Node, verb: str) -> Node | None:
        """The argument, or what inside it, cannot be written with this verb."""
        if self._type(node).kind not in _FIT[verb]:
            return node
        if verb == "s" and isinstance(node, (ListLiteral, MapLiteral)):
            return next((bad for child in children(node) if (bad := self._unfit(child, verb)) is not None), None)
        return None


_INTEGERS = frozenset(("dyn", "int", "uint"))
_FIT = {
    "s": _INTEGERS | {"list", "map", "double", "bool", "string", "timestamp", "bytes", "duration", "type", "null"},
    "d": _INTEGERS,
    "f": frozenset(("dyn", "double", "string")),
    "e": frozenset(("dyn", "double", "string")),
    "b": _INTEGERS | {"bool"},
    "o": _INTEGERS,
    "x": _INTEGERS | {"string", "bytes"},
    "X": _INTEGERS | {"string", "bytes"},
}
"""The kinds of type that each verb can write."""


class _Unfit(Exception):
    def __init__(self, node: Node, verb: str) -> None:
        super().__init__(verb)
        self.node, self.verb = node, verb
