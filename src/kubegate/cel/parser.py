"""A parser of our own for expressions that are deeper than Google's parser goes: 32 levels, where cel-go goes to 250.

It gives the same trees with the same positions. Chains (`a + b + …`, `a.b.c…`, `a ? b : c ? …`) may be as long as
cel-go allows, brackets within brackets as deep as Python's stack does. What is wrong in an expression that is not well
formed is told in fewer words than Google's parser has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from msgspec import Struct

from kubegate.cel.syntax import (
    ACCUMULATOR,
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
    SyntaxProblem,
    Tree,
    describe,
)
from kubegate.cel.values import INT_MAX, INT_MIN, UInt

DEEPEST = 250

_TOKEN = re.compile(
    r"(?P<space>[\t\r\n\f ]+|//[^\n]*)"
    r"|(?P<text>[bB]?(?:[rR](?:\"\"\".*?\"\"\"|'''.*?'''|\"[^\"\n\r]*\"|'[^'\n\r]*')"
    r"|\"\"\"(?:\\.|[^\\])*?\"\"\"|'''(?:\\.|[^\\])*?'''|\"(?:\\.|[^\\\"\n\r])*\"|'(?:\\.|[^\\'\n\r])*'))"
    r"|(?P<double>\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\.\d+(?:[eE][+-]?\d+)?)"
    r"|(?P<integer>(?:0x[0-9a-fA-F]+|\d+)[uU]?)"
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<sign>==|!=|<=|>=|&&|\|\||[<>\[\]{}().,\-!?:+*/%])",
    re.ASCII | re.DOTALL,
)
_RELATIONS = {"==": "_==_", "!=": "_!=_", "<": "_<_", "<=": "_<=_", ">": "_>_", ">=": "_>=_", "in": "@in"}
_SUMS = {"+": "_+_", "-": "_-_"}
_PRODUCTS = {"*": "_*_", "/": "_/_", "%": "_%_"}
_RESERVED = frozenset(
    [
        *("as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop", "package"),
        *("namespace", "return", "var", "void", "while"),
    ]
)
_NO_NAME = {
    "map": "argument is not an identifier",
    "filter": "argument is not an identifier",
    "optMap": "optMap() variable name must be a simple identifier",
    "optFlatMap": "optFlatMap() variable name must be a simple identifier",
}
_WORDS = {"true": True, "false": False, "null": None}
_ESCAPED = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, **{letter: ord(letter) for letter in "\\'\"`?"}}
_ESCAPE = re.compile(r"\\(?:([abfnrtv\\'\"`?])|([xX]..|u.{4}|U.{8}|[0-3][0-7]{2}))", re.DOTALL)


class _Token(Struct):
    kind: str
    text: str
    at: int


def parse(text: str) -> Tree:
    """The tree before the macros that Google's parser lacks are expanded. Raises SyntaxProblem."""
    return _Parser(text).tree()


def too_deep() -> SyntaxProblem:
    return SyntaxProblem(f"ERROR: <input>:-1:0: expression recursion limit exceeded: {DEEPEST}")


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(self._scan())
        self._next = 0
        self._positions: dict[int, int] = {}
        self._depths: dict[str, int] = {}

    def tree(self) -> Tree:
        try:
            root = self._expression()
        except RecursionError:
            raise too_deep() from None
        if self._peek().kind != "end":
            raise self._unexpected(self._peek())
        return Tree(root, self._text, self._positions)

    # --- tokens
    def _scan(self) -> Iterator[_Token]:
        at = 0
        while at < len(self._text):
            found = _TOKEN.match(self._text, at)
            if found is None:
                raise self._problem(at, f"Syntax error: token recognition error at: '{self._text[at]}'")
            if found.lastgroup != "space":
                yield _Token(found.lastgroup or "", found[0], at)
            at = found.end()
        yield _Token("end", "<EOF>", at)

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        self._next += 1
        return self._tokens[self._next - 1]

    def _taken(self, *signs: str) -> _Token | None:
        """The next token where it is one of these, which is then gone."""
        token = self._peek()
        return self._take() if token.text in signs and token.kind in ("sign", "word") else None

    def _expect(self, sign: str) -> _Token:
        token = self._taken(sign)
        if token is None:
            raise self._unexpected(self._peek())
        return token

    def _problem(self, at: int, message: str) -> SyntaxProblem:
        return SyntaxProblem(describe(self._text, [Problem(at, message)]))

    def _unexpected(self, token: _Token) -> SyntaxProblem:
        return self._problem(token.at, f"Syntax error: extraneous input '{token.text}'")

    def _new(self, at: int) -> int:
        self._positions[len(self._positions) + 1] = at
        return len(self._positions)

    def _call(self, at: int, function: str, *arguments: Node, target: Node | None = None) -> Call:
        return Call(self._new(at), function, target, arguments)

    # --- depth, counted as cel-go counts it: how often one rule of the grammar is within itself
    def _deeper(self, rule: str) -> None:
        self._depths[rule] = self._depths.get(rule, 0) + 1
        if self._depths[rule] > DEEPEST:
            raise too_deep()

    @contextmanager
    def _within(self, rule: str) -> Iterator[None]:
        before = self._depths.get(rule, 0)
        self._deeper(rule)
        yield
        self._depths[rule] = before

    # --- the grammar
    def _expression(self) -> Node:
        with self._within("expression"):
            branches: list[tuple[int, Node, Node]] = []
            last = self._or()
            while (mark := self._taken("?")) is not None:
                then = self._or()
                self._expect(":")
                branches.append((mark.at, last, then))
                self._deeper("expression")
                last = self._or()
            for at, condition, then in reversed(branches):
                last = self._call(at, "_?_:_", condition, then, last)
            return last

    def _or(self) -> Node:
        return self._balanced("||", "_||_", self._and)

    def _and(self) -> Node:
        return self._balanced("&&", "_&&_", lambda: self._chain("relation", _RELATIONS, self._sum))

    def _balanced(self, sign: str, function: str, term: Callable[[], Node]) -> Node:
        """`a && b && c && d` is `(a && b) && (c && d)`."""
        terms, marks = [term()], []
        while (mark := self._taken(sign)) is not None:
            marks.append(mark.at)
            terms.append(term())

        def together(low: int, high: int) -> Node:
            middle = (low + high + 1) // 2
            left = terms[middle] if middle == low else together(low, middle - 1)
            right = terms[middle + 1] if middle == high else together(middle + 1, high)
            return self._call(marks[middle], function, left, right)

        return together(0, len(marks) - 1) if marks else terms[0]

    def _sum(self) -> Node:
        return self._chain("calc", _SUMS, lambda: self._chain("calc", _PRODUCTS, self._unary))

    def _chain(self, rule: str, functions: dict[str, str], term: Callable[[], Node]) -> Node:
        with self._within(rule):
            left = term()
            while (mark := self._taken(*functions)) is not None:
                self._deeper(rule)
                left = self._call(mark.at, functions[mark.text], left, term())
            return left

    def _unary(self) -> Node:
        first = self._peek()
        if first.text == "-" and self._tokens[self._next + 1].kind in ("integer", "double"):
            return self._member()
        sign = first.text if first.kind == "sign" and first.text in ("-", "!") else ""
        count = 0
        while sign and self._taken(sign) is not None:
            count += 1
        operand = self._member()
        return self._call(first.at, f"{sign}_", operand) if count % 2 else operand

    def _member(self) -> Node:
        start = self._peek().at
        with self._within("member"):
            node = self._primary()
            while (mark := self._taken(".", "[")) is not None:
                self._deeper("member")
                optional = self._taken("?") is not None
                if mark.text == "[":
                    index = self._expression()
                    self._expect("]")
                    node = self._call(mark.at, "_[?_]" if optional else "_[_]", node, index)
                    continue
                name = self._take()
                if name.kind != "word" or name.text in ("in", *_WORDS):
                    raise self._unexpected(name)
                opened = None if optional else self._taken("(")
                if optional:
                    node = self._call(mark.at, "_?._", node, Constant(self._new(start), name.text))
                elif opened is not None:
                    node = self._called(opened.at, name.text, node, self._arguments(")"))
                else:
                    node = Select(self._new(mark.at), node, name.text)
            return node

    def _primary(self) -> Node:
        token = self._take()
        match token.kind, token.text:
            case "integer" | "double" | "text", _:
                return Constant(self._new(token.at), self._literal(token, ""))
            case "sign", "-":
                return Constant(self._new(token.at), self._literal(self._take(), "-"))
            case "sign", "(":
                inner = self._expression()
                self._expect(")")
                return inner
            case "sign", "[":
                return self._list(token.at)
            case "sign", "{":
                return MapLiteral(self._new(token.at), self._entries(named=False))
            case "sign", ".":
                return self._named(self._take(), ".")
            case "word", word if word in _WORDS:
                return Constant(self._new(token.at), _WORDS[word])
        return self._named(token, "")

    def _named(self, token: _Token, dot: str) -> Node:
        if token.kind != "word" or token.text in ("in", *_WORDS):
            raise self._unexpected(token)
        if self._peek().text == "{" or (self._peek().text == "." and self._is_message()):
            return self._message(token, dot)
        if token.text in _RESERVED:
            raise self._problem(token.at, f"reserved identifier: {token.text}")
        opened = self._taken("(")
        if opened is None:
            return Ident(self._new(token.at), dot + token.text)
        arguments = self._arguments(")")
        if token.text == "has" and len(arguments) == 1:
            tested = arguments[0]
            if not isinstance(tested, Select):
                raise self._problem(self._positions.get(tested.id, 0), "invalid argument to has() macro")
            return Select(self._new(opened.at), tested.operand, tested.field, test_only=True)
        return self._call(opened.at, dot + token.text, *arguments)

    def _is_message(self) -> bool:
        """Whether `.b.c{` follows."""
        at = self._next
        while self._tokens[at].text == "." and self._tokens[at + 1].kind == "word":
            at += 2
        return self._tokens[at].text == "{"

    def _message(self, token: _Token, dot: str) -> Node:
        name = dot + token.text
        while self._taken(".") is not None:
            name += "." + self._take().text
        opened = self._expect("{")
        return ObjectLiteral(self._new(opened.at), name, self._entries(named=True))

    def _arguments(self, end: str) -> tuple[Node, ...]:
        found: list[Node] = []
        if self._taken(end) is None:
            found.append(self._expression())
            while self._taken(",") is not None:
                found.append(self._expression())
            self._expect(end)
        return tuple(found)

    def _list(self, at: int) -> Node:
        identity = self._new(at)
        elements: list[Node] = []
        optional: set[int] = set()
        while self._taken("]") is None:
            if self._taken("?") is not None:
                optional.add(len(elements))
            elements.append(self._expression())
            if self._taken(",") is None:
                self._expect("]")
                break
        return ListLiteral(identity, tuple(elements), frozenset(optional))

    def _entries(self, *, named: bool) -> tuple[Entry, ...]:
        entries: list[Entry] = []
        while self._taken("}") is None:
            optional = self._taken("?") is not None
            key: Node | str = self._take().text if named else self._expression()
            mark = self._expect(":")
            entries.append(Entry(self._new(mark.at), key, self._expression(), optional))
            if self._taken(",") is None:
                self._expect("}")
                break
        return tuple(entries)

    # --- literals
    def _literal(self, token: _Token, sign: str) -> object:
        text = sign + token.text
        if token.kind == "text":
            return self._unquoted(token)
        if token.kind == "double":
            return float(text)
        unsigned = text[-1] in "uU"
        digits = text[:-1] if unsigned else text
        value = int(digits, 16 if "0x" in digits else 10)
        if unsigned:
            if not 0 <= value < 1 << 64:
                raise self._problem(token.at, "invalid uint literal")
            return UInt(value)
        if not INT_MIN <= value <= INT_MAX:
            raise self._problem(token.at - len(sign), "invalid int literal")
        return value

    def _unquoted(self, token: _Token) -> str | bytes:
        text = token.text
        binary = text[0] in "bB"
        text = text[1:] if binary else text
        raw = text[0] in "rR"
        text = text[1:] if raw else text
        quotes = 3 if text[:3] in ('"""', "'''") and len(text) >= 6 else 1
        text = text[quotes:-quotes].replace("\r\n", "\n").replace("\r", "\n")
        if raw:
            return text.encode() if binary else text
        made: list[str | bytes] = []
        at = 0
        while at < len(text):
            slash = text.find("\\", at)
            if slash < 0:
                made.append(text[at:])
                break
            made.append(text[at:slash])
            found = _ESCAPE.match(text, slash)
            if found is None:
                raise self._problem(token.at, "unable to unescape string")
            made.append(self._escaped(found, binary, token))
            at = found.end()
        if binary:
            return b"".join(part if isinstance(part, bytes) else part.encode() for part in made)
        return "".join(part for part in made if isinstance(part, str))

    def _escaped(self, found: re.Match[str], binary: bool, token: _Token) -> str | bytes:
        if found[1]:
            return chr(_ESCAPED[found[1]])
        sort, digits = found[2][0], found[2][1:]
        try:
            code = int(digits, 16) if sort in "xXuU" else int(found[2], 8)
        except ValueError:
            code = -1
        if code < 0 or code > 0x10FFFF or (binary and sort in "uU"):
            raise self._problem(token.at, "unable to unescape string")
        if binary:
            return bytes([code])
        return "\ufffd" if 0xD800 <= code < 0xE000 else chr(code)

    # --- macros
    def _called(self, at: int, function: str, target: Node, arguments: tuple[Node, ...]) -> Node:
        match function, len(arguments):
            case ("all" | "exists" | "exists_one" | "filter" | "map", 2) | ("map", 3):
                return self._comprehension(at, function, target, self._variable(function, arguments[0]), *arguments[1:])
            case ("optMap" | "optFlatMap", 2):
                return self._optional(at, function, target, arguments)
        return self._call(at, function, *arguments, target=target)

    def _variable(self, macro: str, node: Node) -> Ident:
        if not isinstance(node, Ident):
            raise self._problem(self._positions.get(node.id, 0), _NO_NAME.get(macro, "argument must be a simple name"))
        return node

    def _comprehension(self, at: int, macro: str, target: Node, variable: Ident, *arguments: Node) -> Node:
        def accumulated() -> Ident:
            return Ident(self._new(at), ACCUMULATOR)

        def constant(value: object) -> Constant:
            return Constant(self._new(at), value)

        def appended(value: Node) -> Call:
            return self._call(at, "_+_", accumulated(), ListLiteral(self._new(at), (value,)))

        initial: Node
        condition: Node = constant(True)
        result: Node = accumulated()
        match macro:
            case "all":
                initial = constant(True)
                condition = self._call(at, "@not_strictly_false", accumulated())
                step: Node = self._call(at, "_&&_", accumulated(), arguments[0])
            case "exists":
                initial = constant(False)
                condition = self._call(at, "@not_strictly_false", self._call(at, "!_", accumulated()))
                step = self._call(at, "_||_", accumulated(), arguments[0])
            case "exists_one":
                initial = constant(0)
                more = self._call(at, "_+_", accumulated(), constant(1))
                step = self._call(at, "_?_:_", arguments[0], more, accumulated())
                result = self._call(at, "_==_", accumulated(), constant(1))
            case _:
                initial = ListLiteral(self._new(at), ())
                *filters, value = arguments if macro == "map" else (arguments[0], variable)
                step = appended(value)
                for kept in filters:
                    step = self._call(at, "_?_:_", kept, step, accumulated())
        return Comprehension(self._new(at), target, variable.name, "", ACCUMULATOR, initial, condition, step, result)

    def _optional(self, at: int, macro: str, target: Node, arguments: tuple[Node, ...]) -> Node:
        """`o.optMap(v, e)`: e with v bound to what is in the optional, if there is anything."""
        variable = self._variable(macro, arguments[0])
        bound: Node = Comprehension(
            self._new(at),
            ListLiteral(self._new(at), ()),
            "#unused",
            "",
            variable.name,
            self._call(at, "value", target=target),
            Constant(self._new(at), False),
            variable,
            arguments[1],
        )
        if macro == "optMap":
            bound = self._call(at, "optional.of", bound)
        has_value = self._call(at, "hasValue", target=target)
        return self._call(at, "_?_:_", has_value, bound, self._call(at, "optional.none"))
