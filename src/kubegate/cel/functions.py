"""How CEL functions are declared: a signature, what it does, what it costs.

`@overload("string.split(string) -> list(string)")` declares an overload of the member function `split`; without
a dot before the name, a global one: `quantity(string) -> quantity`. The implementation gets the arguments (a member's
target first) as Python values, of the declared types.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from msgspec import Struct

from kubegate.cel.types import CelType, parse, split_top

Implementation = Callable[..., Any]
_F = TypeVar("_F", bound=Implementation)


class Overload(Struct, frozen=True):
    """`arguments` begin with the target where it is a `member`. `id` is cel-go's, where costs tell by it."""

    id: str
    function: str
    member: bool
    arguments: tuple[CelType, ...]
    result: CelType
    implementation: Implementation


Functions = dict[str, list[Overload]]
"""Overloads by the function's name (`_+_`, `size`, `ip.isCanonical`), in the order in which they are tried."""

_NAMESPACES = frozenset({"cel", "format", "jsonpatch", "lists", "optional", "sets", "strings"})
"""What comes before the dot in the name of a global function. (`ip` is a type too: see `Library.overload`.)"""


def declaration(signature: str, implementation: Implementation, id_: str = "") -> Overload:
    """`list(T).indexOf(T) -> int` is a member of lists; `quantity(string) -> quantity` is global."""
    head, _, result = signature.rpartition(" -> ")
    depth, opening = 0, len(head)
    while depth or opening == len(head):
        opening -= 1
        depth += (head[opening] == ")") - (head[opening] == "(")
    arguments = [parse(part) for part in split_top(head[opening + 1 : -1])]
    target, dot, name = head[:opening].rpartition(".")
    member = bool(dot) and target not in _NAMESPACES
    if member:
        arguments.insert(0, parse(target))
    else:
        name = head[:opening]
    return Overload(id_ or signature, name, member, tuple(arguments), parse(result), implementation)


class Library:
    """Collects the overloads of one library: `library.overload(...)` decorates an implementation."""

    def __init__(self) -> None:
        self.overloads: list[Overload] = []

    def overload(self, *signatures: str, id: str = "", namespace: str = "") -> Callable[[_F], _F]:
        """Declare one implementation under each signature. `namespace` (`ip`) goes before a global function's name."""

        def declare(implementation: _F) -> _F:
            for signature in signatures:
                made = declaration(signature, implementation, id)
                if namespace:
                    name = f"{namespace}.{made.function}"
                    made = Overload(made.id, name, made.member, made.arguments, made.result, made.implementation)
                self.overloads.append(made)
            return implementation

        return declare


def collect(libraries: Sequence[Library]) -> Functions:
    functions: Functions = {}
    for library in libraries:
        for made in library.overloads:
            functions.setdefault(made.function, []).append(made)
    return functions
