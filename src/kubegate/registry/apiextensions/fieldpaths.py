"""Paths in definitions that name fields of their schema: `.spec.color`, `.spec['a.b']`.

Follows ValidFieldPath of k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kubegate.api.structural import Structural

_TOKENS = re.compile(r"'(?:\\.|[^'\\])*'|[.\[\]]|[^.\[\]]+")


class BadPath(ValueError):
    """The text is kube-apiserver's."""


def follow(path: str, schema: Structural, *, arrays: bool = True) -> tuple[tuple[str, ...], Structural | None]:
    """The names on a path, and the schema that it leads to. Raises BadPath.

    `arrays`: whether `['name']` may be said.
    """
    tokens = iter(_TOKENS.findall(path))
    names: list[str] = []
    node: Structural | None = schema
    for token in tokens:
        if token == "[":
            if not arrays:
                raise BadPath("array notation is not allowed")
            found = _next(tokens)
            if len(found) < 2 or found[0] != "'" or found[-1] != "'":
                raise BadPath(f"expected single quoted string but got {found}")
            name = re.sub(r"\\(.)", r"\1", found[1:-1])
            node = _below(node, name)
            closing = _next(tokens)
            if closing != "]":
                raise BadPath(f"expected ] but got {closing}")
        elif token == ".":
            name = _next(tokens)
            node = _below(node, name)
        else:
            raise BadPath(f"expected [ or . but got: {token}")
        names.append(name)
    return tuple(names), node


def _next(tokens: Iterator[str]) -> str:
    token = next(tokens, None)
    if token is None:
        raise BadPath("unexpected end of JSON path")
    return token


def _below(node: Structural | None, name: str) -> Structural | None:
    if node is not None:
        if node.properties:
            if name in node.properties:
                return node.properties[name]
        elif node.additional is not None:
            return node.additional if isinstance(node.additional, Structural) else None
    raise BadPath("does not refer to a valid field")
