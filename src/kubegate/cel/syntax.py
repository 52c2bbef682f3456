"""From text to syntax tree, by Google's CEL parser (cel-expr-python), whose errors are worded as kube-apiserver's are.

The parser is loaded with the first expression. Its trees come serialized as cel.expr.ParsedExpr; only the few message
types that occur in it are decoded here. The macros with two variables, which it lacks, are expanded here. Expressions
that are too deep for it are left to `parser`.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

ACCUMULATOR = "@result"
LONGEST = 100_000
"""Characters that an expression may have."""


@dataclass(frozen=True, slots=True)
class Constant:
    """`value` is None, bool, int, values.UInt, float, str or bytes."""

    id: int
    value: Any


@dataclass(frozen=True, slots=True)
class Ident:
    id: int
    name: str


@dataclass(frozen=True, slots=True)
class Select:
    """`operand.field`; with `test_only`, `has(operand.field)`."""

    id: int
    operand: Node
    field: str
    test_only: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """`function` is an operator's name (`_+_`, `_[_]`, `_?_:_`) or a word; `target` what a member is called on."""

    id: int
    function: str
    target: Node | None
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class ListLiteral:
    """`optional` holds the positions of elements written `?x`."""

    id: int
    elements: tuple[Node, ...]
    optional: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Entry:
    """Of a map, where `key` is an expression, or of an object, where it is a field's name."""

    id: int
    key: Node | str
    value: Node
    optional: bool = False


@dataclass(frozen=True, slots=True)
class MapLiteral:
    id: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class ObjectLiteral:
    id: int
    name: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Comprehension:
    """What macros become: `accumulator` goes from `initial` through `step` while `condition`, then gives `result`.

    `variable` is an element (a key of a map); where there is `variable2`, index and element (key and value).
    """

    id: int
    range: Node
    variable: str
    variable2: str
    accumulator: str
    initial: Node
    condition: Node
    step: Node
    result: Node


Node = Constant | Ident | Select | Call | ListLiteral | MapLiteral | ObjectLiteral | Comprehension


def children(node: Node) -> list[Node]:
    """The nodes directly below it."""
    match node:
        case Select():
            return [node.operand]
        case Call():
            return [*([] if node.target is None else [node.target]), *node.arguments]
        case ListLiteral():
            return list(node.elements)
        case MapLiteral() | ObjectLiteral():
            below: list[Node] = []
            for entry in node.entries:
                if not isinstance(entry.key, str):
                    below.append(entry.key)
                below.append(entry.value)
            return below
        case Comprehension():
            return [node.range, node.initial, node.condition, node.step, node.result]
    return []


def nodes(root: Node) -> Iterator[Node]:
    """The node and all below it."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(children(node))


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong at an offset (in characters) of the text."""

    offset: int
    message: str


@dataclass(frozen=True, slots=True)
class Tree:
    """`positions` gives the offset in `text` of each node, by its id."""

    root: Node
    text: str
    positions: dict[int, int]


class SyntaxProblem(Exception):
    """The text is no expression. The exception's text is complete: positions, excerpts, all errors."""


def describe(text: str, problems: list[Problem]) -> str:
    """The problems in the order of their places, each with the line it is in and a mark under the place."""
    lines = text.split("\n")
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    described = []
    for problem in sorted(problems, key=lambda p: p.offset):
        row = max(i for i, start in enumerate(starts[:-1]) if start <= problem.offset) if problem.offset >= 0 else 0
        column = problem.offset - starts[row] if problem.offset >= 0 else -1
        text = f"ERROR: <input>:{row + 1}:{column + 1}: {problem.message}"
        if column >= 0:
            excerpt = lines[row].replace("\t", " ")
            wide = [len(letter.encode()) > 1 for letter in excerpt]
            dots = "".join("．" if w else "." for w in wide[:column]) + "." * max(0, column - len(wide))
            mark = "＾" if column < len(wide) and wide[column] else "^"
            text += f"\n | {excerpt}\n | {dots}{mark}"
        described.append(text)
    return "\n".join(described)


# What the parser's macros say, and what cel-go's say of the same mistake.
_REWORDED = (
    (re.compile(r"has\(\) argument must be a field selection"), "invalid argument to has() macro"),
    (re.compile(r"(?:map|filter)\(\) variable name must be a simple identifier"), "argument is not an identifier"),
    (re.compile(r"(?:all|exists\w*)\(\) variable name must be a simple identifier"), "argument must be a simple name"),
    # of what is missing after another mistake cel-go says nothing
    (re.compile(r"\nERROR: <input>:4294967295:0: [^\n]*"), ""),
    (re.compile(r"invalid hex (u?int) literal"), r"invalid \1 literal"),
    (re.compile(r"'\\u003F'"), "'?'"),
    (
        re.compile(r"no viable alternative at input '\.(true|false|null)'"),
        r"mismatched input '\1' expecting IDENTIFIER",
    ),
    (re.compile(r"Invalid (?:string|bytes) literal: Illegal escape sequence: [^\n]*"), "unable to unescape string"),
)

# Half of a surrogate pair, which the parser refuses; for cel-go it stands for the replacement character.
_SURROGATE = re.compile(r"(?<!\\)((?:\\\\)*\\)(u|U0000)[dD][89a-fA-F][0-9a-fA-F]{2}")


# Names in backticks, which kube-apiserver does not let expressions have; strings and comments may hold them.
_RAW = r"[bB]?[rR][bB]?"
_ESCAPED_NAME = re.compile(
    r"//[^\n]*"
    rf"|{_RAW}(?:\"\"\".*?\"\"\"|\'\'\'.*?\'\'\'|\"[^\"\n]*\"|'[^'\n]*')"
    r"|\"\"\"(?:\\.|.)*?\"\"\"|\'\'\'(?:\\.|.)*?\'\'\'|\"(?:\\.|[^\\\"\n])*\"|'(?:\\.|[^\\'\n])*'"
    r"|(?P<name>`[^`\n]+`)",
    re.DOTALL,
)


@lru_cache(maxsize=1)
def _parser() -> Any:
    from cel_expr_python import cel
    from cel_expr_python.ext import ext_optional

    return cel.NewEnv(extensions=[ext_optional.ExtOptional()])


def parse(text: str) -> Tree:
    """Raises SyntaxProblem."""
    if len(text) > LONGEST:
        size = f"expression code point size exceeds limit: size: {len(text)}, limit {LONGEST}"
        raise SyntaxProblem(f"ERROR: <input>:-1:0: {size}")
    try:
        serialized = _parsed(text)
    except RuntimeError as error:
        words = str(error)
        if "recursion" in words:
            from kubegate.cel import parser

            return _expanded(parser.parse(text))
        words = words.removeprefix("INVALID_ARGUMENT: ").removesuffix(" [INVALID_ARGUMENT]")
        for pattern, instead in _REWORDED:
            words = pattern.sub(instead, words)
        raise SyntaxProblem(_retold(text, words)) from None
    if "`" in text:
        escaped = [match.start() for match in _ESCAPED_NAME.finditer(text) if match["name"]]
        if escaped:
            raise SyntaxProblem(describe(text, [Problem(at, "unsupported syntax: '`'") for at in escaped]))
    parsed = _field(serialized, 2)
    root = _Decoder().node(_field(parsed, 2))
    positions = {}
    for number, value in _fields(_field(parsed, 3)):
        if number == 4:
            entry = dict(_fields(value))
            positions[int(entry.get(1, 0))] = int(entry.get(2, 0))
    for node in nodes(root):
        if isinstance(node, Constant) and node.value in (math.inf, -math.inf):
            raise SyntaxProblem(describe(text, [Problem(positions.get(node.id, 0), "invalid double literal")]))
        if isinstance(node, ObjectLiteral):  # cel-go tells of objects at their bracket
            positions[node.id] = max(text.find("{", positions.get(node.id, 0)), 0)
    return _expanded(Tree(root, text, positions))


_TOLD = re.compile(r"^ERROR: <input>:(\d+):(\d+): (.*)$", re.MULTILINE)
_UNKNOWN = "Syntax error: token recognition error at: '"
_ESCAPED_SPACE = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _retold(text: str, words: str) -> str:
    """The errors as cel-go tells them: with an excerpt also of an empty line, and unknown text as it stands."""
    starts = [0, *(at + 1 for at, letter in enumerate(text) if letter == "\n")]
    problems = []
    for found in _TOLD.finditer(words):
        row, column, message = int(found[1]), int(found[2]), found[3]
        if row > len(starts):
            return words
        offset = starts[row - 1] + column - 1
        if message.startswith(_UNKNOWN):
            escaped, length = message[len(_UNKNOWN) : -1], 0
            while escaped and offset + length < len(text):
                letter = text[offset + length]
                escaped = escaped[len(_ESCAPED_SPACE.get(letter, letter)) :]
                length += 1
            message = f"{_UNKNOWN}{text[offset : offset + length]}'"
        problems.append(Problem(offset, message))
    return describe(text, problems) if problems and text else words


def _expanded(tree: Tree) -> Tree:
    try:
        return Tree(_Macros(tree.positions).expand(tree.root), tree.text, tree.positions)
    except _BadName as error:
        problem = Problem(error.offset, error.message)
        raise SyntaxProblem(describe(tree.text, [problem])) from None


def _parsed(text: str) -> bytes:
    """Raises RuntimeError with what is wrong."""
    serialized: bytes
    try:
        serialized = _parser().compile(text, disable_check=True).serialize()
    except RuntimeError as error:
        if "Unicode value" not in str(error):
            raise
        replaced = _SURROGATE.sub(r"\1\2fffd", text)
        serialized = _parser().compile(replaced, disable_check=True).serialize()
    return serialized


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protobuf message: varints as int, fixed64 as 8 bytes, the rest as bytes."""
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        value: Any
        if wire == 0:
            value, at = _varint(message, at)
        elif wire == 1:
            value, at = message[at : at + 8], at + 8
        else:
            length, at = _varint(message, at)
            value, at = message[at : at + length], at + length
        yield number, value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _field(message: bytes, number: int) -> Any:
    for found, value in _fields(message):
        if found == number:
            return value
    return b""


class _Decoder:
    """cel.expr.Expr (cel/expr/syntax.proto) into nodes."""

    def node(self, message: bytes) -> Node:
        id_, kind, body = 0, 0, b""
        for number, value in _fields(message):
            if number == 2:
                id_ = value
            else:
                kind, body = number, value
        match kind:
            case 3:
                return Constant(id_, _constant(body))
            case 4:
                return Ident(id_, _field(body, 1).decode())
            case 5:
                parts = dict(_fields(body))
                return Select(id_, self.node(parts[1]), parts[2].decode(), bool(parts.get(3)))
            case 6:
                return self.call(id_, body)
            case 7:
                return self.list_literal(id_, body)
            case 8:
                return self.struct(id_, body)
            case 9:
                parts = dict(_fields(body))
                accumulator, initial, condition, step, result = (parts[n] for n in (3, 4, 5, 6, 7))
                return Comprehension(
                    id_,
                    self.node(parts[2]),
                    parts[1].decode(),
                    parts.get(8, b"").decode(),
                    accumulator.decode(),
                    self.node(initial),
                    self.node(condition),
                    self.node(step),
                    self.node(result),
                )
        raise SyntaxProblem("ERROR: <input>:1:1: unsupported expression")

    def call(self, id_: int, body: bytes) -> Call:
        function, target, arguments = "", None, []
        for number, value in _fields(body):
            if number == 1:
                target = self.node(value)
            elif number == 2:
                function = value.decode()
            else:
                arguments.append(self.node(value))
        return Call(id_, function, target, tuple(arguments))

    def list_literal(self, id_: int, body: bytes) -> ListLiteral:
        elements: list[Node] = []
        optional: set[int] = set()
        for number, value in _fields(body):
            if number == 1:
                elements.append(self.node(value))
            elif isinstance(value, int):
                optional.add(value)
            else:
                at = 0
                while at < len(value):
                    position, at = _varint(value, at)
                    optional.add(position)
        return ListLiteral(id_, tuple(elements), frozenset(optional))

    def struct(self, id_: int, body: bytes) -> MapLiteral | ObjectLiteral:
        name, entries = "", []
        for number, value in _fields(body):
            if number == 1:
                name = value.decode()
                continue
            parts = dict(_fields(value))
            key: Node | str = self.node(parts[3]) if 3 in parts else parts.get(2, b"").decode()
            entries.append(Entry(int(parts.get(1, 0)), key, self.node(parts[4]), bool(parts.get(5))))
        if name:
            return ObjectLiteral(id_, name, tuple(entries))
        return MapLiteral(id_, tuple(entries))


def _constant(body: bytes) -> Any:
    from kubegate.cel.values import UInt

    for number, value in _fields(body):
        match number:
            case 1:
                return None
            case 2:
                return bool(value)
            case 3:
                return value - (1 << 64) if value >= 1 << 63 else value
            case 4:
                return UInt(value)
            case 5:
                return struct.unpack("<d", value)[0]
            case 6:
                return value.decode()
            case 7:
                return bytes(value)
    return None


class _Macros:
    """The macros that the parser leaves as calls: those of cel-go's TwoVarComprehensions, `sortBy`, `existsOne`."""

    def __init__(self, positions: dict[int, int]) -> None:
        self._positions = positions
        self._last = max(positions, default=0)

    def expand(self, node: Node) -> Node:
        match node:
            case Select():
                return Select(node.id, self.expand(node.operand), node.field, node.test_only)
            case Call():
                target = None if node.target is None else self.expand(node.target)
                call = Call(node.id, node.function, target, tuple(self.expand(a) for a in node.arguments))
                return self._macro(call) if target is not None else call
            case ListLiteral():
                return ListLiteral(node.id, tuple(self.expand(e) for e in node.elements), node.optional)
            case MapLiteral() | ObjectLiteral():
                entries = tuple(
                    Entry(
                        e.id, e.key if isinstance(e.key, str) else self.expand(e.key), self.expand(e.value), e.optional
                    )
                    for e in node.entries
                )
                if isinstance(node, MapLiteral):
                    return MapLiteral(node.id, entries)
                return ObjectLiteral(node.id, node.name, entries)
            case Comprehension():
                return Comprehension(
                    node.id,
                    self.expand(node.range),
                    node.variable,
                    node.variable2,
                    node.accumulator,
                    self.expand(node.initial),
                    self.expand(node.condition),
                    self.expand(node.step),
                    self.expand(node.result),
                )
        return node

    def _macro(self, call: Call) -> Node:
        count = len(call.arguments)
        match call.function:
            case "all" | "exists" | "existsOne" | "exists_one" if count == 3:
                return self._quantifier(call)
            case "existsOne" if count == 2:
                return self._exists_one(call, 1)
            case "transformList" | "transformMap" | "transformMapEntry" if count in (3, 4):
                return self._transform(call)
            case "sortBy" if count == 2:
                return self._sort_by(call)
        return call

    def _new(self, near: Node) -> int:
        self._last += 1
        self._positions[self._last] = self._positions.get(near.id, 0)
        return self._last

    def _call(self, near: Node, function: str, *arguments: Node) -> Call:
        return Call(self._new(near), function, None, arguments)

    def _accumulated(self, near: Node) -> Ident:
        return Ident(self._new(near), ACCUMULATOR)

    def _names(self, call: Call, count: int, wrong: str = "argument must be a simple name") -> list[str]:
        names: list[str] = []
        for argument in call.arguments[:count]:
            # cel-go reports it at the argument; the text that it is found in is not known here
            here = self._positions.get(argument.id, 0)
            if not isinstance(argument, Ident):
                raise _BadName(here, wrong)
            if argument.name in names:
                raise _BadName(here, f"duplicate variable name: {argument.name}")
            names.append(argument.name)
        return names

    def _fold(
        self, call: Call, initial: Node, condition: Node, step: Node, result: Node, variables: int = 2
    ) -> Comprehension:
        first, second = (*self._names(call, variables), "")[:2]
        assert call.target is not None
        return Comprehension(call.id, call.target, first, second, ACCUMULATOR, initial, condition, step, result)

    def _quantifier(self, call: Call) -> Node:
        predicate = call.arguments[2]
        accumulated = self._accumulated(call)
        if call.function == "all":
            condition = self._call(call, "@not_strictly_false", self._accumulated(call))
            step = self._call(call, "_&&_", self._accumulated(call), predicate)
            return self._fold(call, Constant(self._new(call), True), condition, step, accumulated)
        if call.function == "exists":
            negated = self._call(call, "!_", self._accumulated(call))
            condition = self._call(call, "@not_strictly_false", negated)
            step = self._call(call, "_||_", self._accumulated(call), predicate)
            return self._fold(call, Constant(self._new(call), False), condition, step, accumulated)
        return self._exists_one(call, 2)

    def _exists_one(self, call: Call, variables: int) -> Node:
        one = Constant(self._new(call), 1)
        more = self._call(call, "_+_", self._accumulated(call), one)
        step = self._call(call, "_?_:_", call.arguments[variables], more, self._accumulated(call))
        result = self._call(call, "_==_", self._accumulated(call), Constant(self._new(call), 1))
        return self._fold(call, Constant(self._new(call), 0), Constant(self._new(call), True), step, result, variables)

    def _transform(self, call: Call) -> Node:
        *filters, value = call.arguments[2:]
        initial: Node
        if call.function == "transformList":
            initial = ListLiteral(self._new(call), ())
            step = self._call(call, "_+_", self._accumulated(call), ListLiteral(self._new(call), (value,)))
        else:
            initial = MapLiteral(self._new(call), ())
            if call.function == "transformMap":
                key = Ident(self._new(call), self._names(call, 1)[0])
                step = self._call(call, "cel.@mapInsert", self._accumulated(call), key, value)
            else:
                step = self._call(call, "cel.@mapInsert", self._accumulated(call), value)
        if filters:
            step = self._call(call, "_?_:_", filters[0], step, self._accumulated(call))
        condition = Constant(self._new(call), True)
        return self._fold(call, initial, condition, step, self._accumulated(call))

    def _sort_by(self, call: Call) -> Node:
        """`l.sortBy(e, key)` is `v.@sortByAssociatedKeys(v.map(e, key))`, where the variable `v` holds `l`."""
        target = call.target
        assert target is not None
        if isinstance(target, (Constant, MapLiteral, ObjectLiteral)):
            words = "sortBy can only be applied to a list, identifier, comprehension, call or select expression"
            raise _BadName(self._positions.get(target.id, 0), words)
        name = self._names(call, 1, "argument is not an identifier")[0]
        key = ListLiteral(self._new(call), (call.arguments[1],))
        step = self._call(call, "_+_", self._accumulated(call), key)
        keys = Comprehension(
            self._new(call),
            Ident(self._new(call), _SORTED),
            name,
            "",
            ACCUMULATOR,
            ListLiteral(self._new(call), ()),
            Constant(self._new(call), True),
            step,
            self._accumulated(call),
        )
        made = Call(self._new(call), "@sortByAssociatedKeys", Ident(self._new(call), _SORTED), (keys,))
        return Comprehension(
            call.id,
            ListLiteral(self._new(call), ()),
            "#unused",
            "",
            _SORTED,
            target,
            Constant(self._new(call), False),
            Ident(self._new(call), _SORTED),
            made,
        )


_SORTED = "@__sortBy_input__"


class _BadName(Exception):
    """What is wrong with a macro's variable at this offset."""

    def __init__(self, offset: int, message: str) -> None:
        super().__init__(message)
        self.offset, self.message = offset, message
