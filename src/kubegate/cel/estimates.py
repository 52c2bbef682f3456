"""What an expression can cost at most, told from the expression and from how large its data may become.

kube-apiserver refuses rules of CustomResourceDefinitions by this. Follows cel-go's checker/cost.go and Kubernetes' own
estimates for its libraries; the units are those of `costs`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from kubegate.cel import costs, types
from kubegate.cel.checker import Checked
from kubegate.cel.syntax import (
    ACCUMULATOR,
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

UNLIMITED: Final = 2**64 - 1
"""The largest size, and the largest cost: nothing grows beyond it."""

Path = tuple[str, ...]
"""From a variable to data in it: names of fields, `@items` of a list, `@keys` and `@values` of a map."""
SizeAt = Callable[[Path], int | None]
"""The largest size of what is at a path; None where nothing is known of it."""


class Size(NamedTuple):
    """Characters, bytes, elements or entries."""

    least: int
    most: int


class Entries(NamedTuple):
    """Sizes of what is in a list or map."""

    is_list: bool
    key: Size
    value: Size


class _Local(NamedTuple):
    """A macro's variable."""

    path: Path
    size: Size | None
    entries: Entries | None


_ONE: Final = Size(1, 1)
_UNKNOWN: Final = Size(0, UNLIMITED)
_ADDRESS: Final = 16
"""Bytes of an IP address."""
_LONGEST_FORMAT_PATTERN: Final = 128
_SCALARS: Final = frozenset({"bool", "double", "duration", "int", "timestamp", "uint"})
_COMPARISONS: Final = frozenset(
    {
        *("less_string", "greater_string", "less_equals_string", "greater_equals_string"),
        *("less_bytes", "greater_bytes", "less_equals_bytes", "greater_equals_bytes", "equals", "not_equals"),
    }
)
_PLAIN_EQUALITY: Final = frozenset(
    types.parse(name)
    for name in ("ip", "cidr", "quantity", "semver", "authorizer", "path_check", "group_check", "resource_check")
)


def most(checked: Checked, size_at: SizeAt) -> int:
    """The cost of the expression at worst."""
    return _Estimate(checked, size_at).cost(checked.tree.root)


def _capped(number: int) -> int:
    return min(number, UNLIMITED)


def _times(size: int, factor: float) -> int:
    return _capped(math.ceil(float(size) * factor))


def _walked(size: Size) -> int:
    return _times(size.most, costs.TRAVERSAL)


def _together(first: Size, second: Size) -> Size:
    return Size(_capped(first.least + second.least), _capped(first.most + second.most))


def _either(first: Size, second: Size) -> Size:
    return Size(min(first.least, second.least), max(first.most, second.most))


def _either_entries(first: Entries | None, second: Entries | None) -> Entries | None:
    if first is None or second is None:
        return None
    return Entries(first.is_list, _either(first.key, second.key), _either(first.value, second.value))


class _Estimate:
    def __init__(self, checked: Checked, size_at: SizeAt) -> None:
        self._checked, self._size_at = checked, size_at
        self._paths: dict[int, Path] = {}
        self._sizes: dict[int, Size] = {}
        self._entries: dict[int, Entries] = {}
        self._locals: dict[str, list[_Local]] = {}

    def cost(self, node: Node) -> int:
        match node:
            case Constant():
                return 0
            case Ident():
                local = self._local(node)
                self._paths[node.id] = local.path if local is not None else (node.name.removeprefix("."),)
                return 1
            case Select():
                return self._select(node)
            case Call():
                return self._call(node)
            case ListLiteral():
                found = sum(map(self.cost, node.elements))
                value = self._either_of(node.elements)
                self._entries[node.id] = Entries(True, _ONE, value)
                return _capped(found + costs.LIST)
            case MapLiteral():
                keys = [entry.key for entry in node.entries if not isinstance(entry.key, str)]
                kept = [entry.value for entry in node.entries]
                found = sum(map(self.cost, keys)) + sum(map(self.cost, kept))
                self._entries[node.id] = Entries(False, self._either_of(keys), self._either_of(kept))
                return _capped(found + costs.MAP)
            case ObjectLiteral():
                return _capped(sum(self.cost(entry.value) for entry in node.entries) + costs.OBJECT)
            case Comprehension():
                return self._comprehension(node)

    # --- sizes

    def _type(self, node: Node) -> CelType:
        return self._checked.types.get(node.id, types.DYN)

    def _local(self, node: Node) -> _Local | None:
        stack = self._locals.get(node.name) if isinstance(node, Ident) else None
        return stack[-1] if stack else None

    def _path(self, node: Node) -> Path:
        local = self._local(node)
        return local.path if local is not None else self._paths.get(node.id, ())

    def _size(self, node: Node) -> Size | None:
        known = self._sizes.get(node.id) or _written_size(node)
        if known is not None:
            return known
        found = self._at(self._path(node))
        if found is not None:
            self._sizes[node.id] = found
            return found
        kind = self._type(node)
        if kind.kind in _SCALARS or (kind.name == "optional_type" and kind.parameters[0].kind in _SCALARS):
            return _ONE
        local = self._local(node)
        return local.size if local is not None else None

    def _at(self, path: Path) -> Size | None:
        if not path or path[0] == ACCUMULATOR:
            return None
        found = self._size_at(path)
        return None if found is None else Size(0, found)

    def _size_or_unknown(self, node: Node) -> Size:
        return self._size(node) or _UNKNOWN

    def _either_of(self, nodes: Sequence[Node]) -> Size:
        sizes = [self._size_or_unknown(node) for node in nodes]
        return Size(min((s.least for s in sizes), default=0), max((s.most for s in sizes), default=0))

    def _entries_of(self, node: Node) -> Entries | None:
        known = self._entries.get(node.id)
        if known is not None:
            return known
        local = self._local(node)
        return local.entries if local is not None else None

    def _element(self, target: Node) -> tuple[CelType, Size] | None:
        """Type and size of a list's elements; None for what is no list."""
        parameters = self._type(target).parameters
        if not parameters:
            return None
        path = self._path(target)
        return parameters[0], (self._at((*path, "@items")) if path else None) or _UNKNOWN

    # --- steps

    def _select(self, node: Select) -> int:
        found = self.cost(node.operand)
        if node.test_only:
            return found
        if self._type(node.operand).kind in ("map", "object", "parameter"):
            found += 1
        self._paths[node.id] = (*self._path(node.operand), node.field)
        return found

    def _comprehension(self, node: Comprehension) -> int:
        found = self.cost(node.range) + self.cost(node.initial)
        names = [node.accumulator]
        self._push(node.accumulator, self._path(node.initial), self._size(node.initial), self._entries_of(node.initial))
        path, entries = self._path(node.range), self._entries_of(node.range)
        is_list = entries.is_list if entries is not None else self._type(node.range).kind == "list"
        key, value = (entries.key, entries.value) if entries is not None else (None, None)
        if node.variable2:
            self._push(node.variable, (*path, "@indices" if is_list else "@keys"), key)
            self._push(node.variable2, (*path, "@items" if is_list else "@values"), value)
            names += [node.variable, node.variable2]
        else:
            self._push(node.variable, (*path, "@items" if is_list else "@keys"), value if is_list else key)
            names.append(node.variable)
        each = self.cost(node.condition) + self.cost(node.step)
        for name in names[1:]:
            self._locals[name].pop()
        found += self.cost(node.result)
        self._locals[node.accumulator].pop()
        count = self._size_or_unknown(node.range)
        if isinstance(node.initial, Constant):
            size = _written_size(node.initial)
            if size is not None:
                self._sizes[node.id] = size
        elif isinstance(node.initial, (ListLiteral, MapLiteral)):
            self._sizes[node.id] = count
            made = self._entries_of(node.step)
            if made is not None:
                self._entries[node.id] = made
        return _capped(found + _capped(count.most * each))

    def _push(self, name: str, path: Path, size: Size | None, entries: Entries | None = None) -> None:
        self._locals.setdefault(name, []).append(_Local(path, size, entries))

    # --- calls

    def _call(self, node: Call) -> int:
        name = self._checked.names.get(node.id) or node.function.removeprefix(".")
        arguments = node.arguments
        if name == "dyn":
            found = self.cost(arguments[0])
            size, entries = self._size(arguments[0]), self._entries_of(arguments[0])
            if size is not None:
                self._sizes[node.id] = size
            if entries is not None:
                self._entries[node.id] = entries
            return found + 1
        given = [self.cost(argument) for argument in arguments]
        target = node.target if node.id not in self._checked.names else None
        of_target = self.cost(target) if target is not None else 0
        overloads = [overload.id for overload in self._checked.overloads.get(node.id, ())]
        dearest, sizes = 0, []
        for overload in overloads or [""]:
            own, size = self._invoked(node, name, overload, target, arguments, given)
            dearest = max(dearest, own)
            if overload in ("index_list", "index_map"):
                self._paths[node.id] = (*self._path(arguments[0]), "@items" if overload == "index_list" else "@values")
                entries = self._entries_of(arguments[0])
                size = entries.value if entries is not None else None
            if size is not None:
                sizes.append(size)
        if sizes:
            result = sizes[0]
            for size in sizes[1:]:
                result = _either(result, size)
            self._sizes[node.id] = result
        return _capped(of_target + dearest)

    def _invoked(
        self, node: Call, name: str, overload: str, target: Node | None, arguments: Sequence[Node], given: list[int]
    ) -> tuple[int, Size | None]:
        """What one overload costs with its arguments, and the size of its result where that is known."""
        match name:
            case "_&&_" | "_||_":
                return sum(given), None
            case "_?_:_":
                made = _either_entries(self._entries_of(arguments[1]), self._entries_of(arguments[2]))
                if made is not None:
                    self._entries[node.id] = made
                size = _either(self._size_or_unknown(arguments[1]), self._size_or_unknown(arguments[2]))
                return given[0] + max(given[1], given[2]), size
        own = self._of_library(name, overload, target, arguments) or self._standard(node, overload, target, arguments)
        return own[0] + sum(given), own[1]

    def _standard(
        self, node: Call, overload: str, target: Node | None, arguments: Sequence[Node]
    ) -> tuple[int, Size | None]:
        sizes = [self._size_or_unknown(argument) for argument in arguments]
        match overload:
            case "string_to_bytes":
                return _walked(sizes[0]), Size(sizes[0].least, _capped(sizes[0].most * 4))
            case "bytes_to_string":
                return _walked(sizes[0]), Size(sizes[0].least // 4, sizes[0].most)
            case "starts_with_string" | "ends_with_string":
                return _walked(sizes[0]), None
            case "in_list":
                return sizes[1].most, None
            case "matches_string" if target is not None:
                return self._searched(target, arguments[0]), None
            case "contains_string" if target is not None:
                return _capped(_walked(self._size_or_unknown(target)) * _walked(sizes[0])), None
            case "add_string" | "add_bytes" | "add_list":
                made = _either_entries(self._entries_of(arguments[0]), self._entries_of(arguments[1]))
                if made is not None:
                    self._entries[node.id] = made
                whole = _together(sizes[0], sizes[1])
                return 1 if overload == "add_list" else _walked(whole), whole
            case _ if overload in _COMPARISONS:
                return _times(min(sizes[0].most, sizes[1].most), costs.TRAVERSAL), None
        return 1, None

    def _searched(self, text: Node, pattern: Node) -> int:
        """A regular expression looked for in a text."""
        size = _together(self._size_or_unknown(text), _ONE)
        return _capped(_walked(size) * _times(self._size_or_unknown(pattern).most, costs.PATTERN))

    def _of_library(
        self, name: str, overload: str, target: Node | None, arguments: Sequence[Node]
    ) -> tuple[int, Size | None] | None:
        """Functions that Kubernetes adds (or counts in its own way); None for all others."""
        on = self._size_or_unknown(target) if target is not None else _UNKNOWN
        first = self._size_or_unknown(arguments[0]) if arguments else _UNKNOWN
        match name:
            case "check":
                return 350_000, None
            case "fieldSelector" | "labelSelector":
                return _capped(costs.LIST + _walked(first) + _times(_times(first.most, 0.5), 50)), None
            case "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" if target is not None:
                element = self._element(target)
                if element is None:
                    return _walked(on), None
                each = 1 + (_walked(element[1]) if element[0].kind in ("string", "bytes") else 0)
                return _capped(on.most * each), None
            case "url" | "jsonpatch.escapeKey":
                return _walked(first), first
            case "lowerAscii" | "upperAscii" | "substring" | "trim" if target is not None:
                return _walked(on), on
            case "format" if target is not None:
                return _walked(on), None
            case "strings.quote":
                return _walked(first), Size(first.least + 2, _capped(2 * first.most + 2))
            case "replace" if target is not None and len(arguments) >= 2:
                size = _replaced(on, first, self._size_or_unknown(arguments[1]))
                return _times(on.most, 2 * costs.TRAVERSAL), size
            case "split" if target is not None:
                limit = arguments[1] if len(arguments) > 1 else None
                longest = limit.value if isinstance(limit, Constant) and isinstance(limit.value, int) else on.most
                return _times(on.most, 2 * costs.TRAVERSAL), Size(0, longest if longest >= 0 else UNLIMITED)
            case "join" if target is not None:
                size = self._joined(target, on, arguments)
                return _walked(size), size
            case "find" | "findAll" if target is not None and arguments:
                return self._searched(target, arguments[0]), Size(0, on.most)
            case "ip" if target is not None and not arguments:
                return 1, None
            case "cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver":
                return _walked(first), None
            case "ip.isCanonical":
                return _times(first.most, 2 * costs.TRAVERSAL), None
            case "containsIP" | "containsCIDR":
                found = costs.walked(2 * _ADDRESS)
                if name == "containsCIDR":
                    found += costs.walked(_ADDRESS) + 1
                is_text = self._type(arguments[0]).kind == "string"
                return found + (_walked(first) if is_text else 0), None
            case "validate":
                return _times(_walked(first), _LONGEST_FORMAT_PATTERN * costs.PATTERN), None
            case "sets.contains" | "sets.intersects" | "sets.equivalent":
                product = _capped(first.most * self._size_or_unknown(arguments[1]).most)
                return _capped(product * (2 if name == "sets.equivalent" else 1) + 1), None
            case "slice" if target is not None:
                start, end = _written_number(arguments[0], 0), _written_number(arguments[1], on.most)
                return _made(1, end - start), Size(end - start, end - start)
            case "lists.range":
                count = _written_number(arguments[0], UNLIMITED)
                return _made(1, count), Size(count, count)
            case "reverse" if target is not None and self._type(target).kind != "string":
                return _made(1, on.most), on
            case "flatten" if target is not None:
                depth = _written_number(arguments[0], UNLIMITED) if arguments else 1
                return _made(depth, on.most), on
            case "sort" | "distinct" | "@sortByAssociatedKeys" if target is not None:
                return self._compared(arguments[0] if arguments else target)
            case "_==_" if self._type(arguments[0]) in _PLAIN_EQUALITY:
                return 1, None
        return None

    def _compared(self, node: Node) -> tuple[int, Size]:
        """Sorting, and looking for what is there twice: each element is compared with each other."""
        size = self._size_or_unknown(node)
        squared = Size(_capped(size.least**2), _capped(size.most**2))
        element = self._type(node).parameters[:1]
        text = bool(element) and element[0].kind in ("string", "bytes")
        return _made(2 + costs.TRAVERSAL if text else 2, squared.most), squared

    def _joined(self, target: Node, on: Size, arguments: Sequence[Node]) -> Size:
        size = Size(0, 0)
        element = self._element(target)
        if element is not None:
            size = Size(_capped(on.least * element[1].least), _capped(on.most * element[1].most))
        if arguments:
            between = self._size_or_unknown(arguments[0])
            least, longest = between.least * max(on.least - 1, 0), between.most * max(on.most - 1, 0)
            size = _together(size, Size(_capped(least), _capped(longest)))
        return size


def _made(factor: float, size: int) -> int:
    """A list is made of so many elements, each of which takes `factor` steps."""
    return _capped(_times(max(size, 0), factor) + costs.LIST + 1)


def _written_number(node: Node, otherwise: int) -> int:
    value = node.value if isinstance(node, Constant) else None
    return value if isinstance(value, int) and value >= 0 else otherwise


def _written_size(node: Node) -> Size | None:
    """The size of what is written in the expression."""
    match node:
        case Constant(value=str() | bytes() as value):
            return Size(len(value), len(value))
        case Constant():
            return _ONE
        case ListLiteral():
            return Size(len(node.elements), len(node.elements))
        case MapLiteral():
            return Size(len(node.entries), len(node.entries))
    return None


def _replaced(text: Size, old: Size, new: Size) -> Size:
    """The size of a text in which something was replaced."""
    if old.least == 0:
        longest = _capped(text.most + 1) * new.most + text.most
    elif new.most <= old.least:
        longest = text.most
    else:
        longest = math.ceil(text.most / old.least) * new.most
    if old.most == 0:
        shortest = _capped(text.least + 1) * new.least + text.least
    elif old.most <= new.least:
        shortest = text.least
    else:
        shortest = math.ceil(text.least / old.most) * new.least
    return Size(_capped(shortest), _capped(longest))
