"""Sets of field paths, as managedFields keeps them (FieldsV1), and what may be done with them.

A set is the JSON that FieldsV1 is: `{"f:spec": {"f:ports": {".": {}, "k:{\\"port\\":1}": {}}}}`. A node without
children is a member; a node with children is one if it has ".". The root is never a member, so `{}` is the empty set.
Sets are never changed: what comes out shares what it can with what went in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

FieldSet = dict[str, Any]
Path = tuple[str, ...]
"""Path elements as they stand in FieldsV1: `f:NAME`, `k:{...}`, `v:VALUE`, `i:INDEX`."""

MEMBER: FieldSet = {}
"""A node that is a member and has nothing below. Shared by all sets."""


def is_member(node: FieldSet) -> bool:
    return not node or "." in node


def union(one: FieldSet, other: FieldSet) -> FieldSet:
    """All members of both. `{}` is the empty set."""
    if not one:
        return other
    return _union_below(one, other) if other else one


def difference(one: FieldSet, other: FieldSet) -> FieldSet:
    """The members of `one` that are not members of `other`."""
    if not one or not other:
        return one
    return _difference_below(one, other) or {}


def intersection(one: FieldSet, other: FieldSet) -> FieldSet:
    if not one or not other:
        return {}
    return _intersection_below(one, other)


def without(one: FieldSet, prefixes: FieldSet) -> FieldSet:
    """`one` without the members of `prefixes` and everything below them."""
    if not one or not prefixes:
        return one
    changed: FieldSet | None = None
    for element, below in prefixes.items():
        node = one.get(element)
        if node is None:
            continue
        rest = _without_below(node, below)
        if rest is node:
            continue
        changed = dict(one) if changed is None else changed
        if rest is None:
            del changed[element]
        else:
            changed[element] = rest
    return one if changed is None else changed


def _without_below(node: FieldSet, prefixes: FieldSet) -> FieldSet | None:
    """What is left of a node that is not the root, None where nothing is."""
    if is_member(prefixes):
        return None
    if not node:
        return node
    rest = without(node, prefixes)
    return rest if rest is node else (_tidy(rest) if rest else None)


def only(one: FieldSet, prefixes: FieldSet) -> FieldSet:
    """The members of `one` that are members of `prefixes` or below them."""
    kept: FieldSet = {}
    for element, below in prefixes.items():
        node = one.get(element)
        if node is None:
            continue
        if is_member(below):
            kept[element] = node
        elif node and (rest := only(node, below)):
            kept[element] = rest
    return kept


def has(one: FieldSet, path: Path) -> bool:
    """Whether `path` itself is a member."""
    node: FieldSet | None = one
    for element in path:
        node = node.get(element) if node else None
        if node is None:
            return False
    return is_member(node) if node is not None else False


def of_path(path: Path) -> FieldSet:
    """The set that has `path` alone."""
    node: FieldSet = MEMBER
    for element in reversed(path):
        node = {element: node}
    return node


def of(*paths: Path) -> FieldSet:
    found: FieldSet = {}
    for path in paths:
        found = union(found, of_path(path))
    return found


def members(one: FieldSet, prefix: Path = ()) -> Iterator[Path]:
    """All members: at each level the members of that level first, in order, then what lies below."""
    elements = sorted((element for element in one if element != "."), key=_order)
    for element in elements:
        if is_member(one[element]):
            yield (*prefix, element)
    for element in elements:
        if one[element]:
            yield from members(one[element], (*prefix, element))


def path_text(path: Path) -> str:
    """A path as clients are shown it: `.spec.ports[port=2,protocol="TCP"].name`."""
    return "".join(map(_element_text, path))


def in_order(one: FieldSet) -> FieldSet:
    """The same set with its elements in the order in which Kubernetes writes them."""
    return {element: in_order(one[element]) if one[element] else MEMBER for element in sorted(one)}


def check(fields: Any) -> FieldSet:
    """A set as a client sent it. Raises ValueError where it is none."""
    if not isinstance(fields, dict):
        raise ValueError("fields must be an object")
    found: FieldSet = {}
    for element, below in fields.items():
        if element == ".":
            continue
        found[_canonical(element)] = _checked_below(below)
    return found


def _checked_below(fields: Any) -> FieldSet:
    found = check(fields)
    if not found:
        return MEMBER
    if "." in fields:
        found["."] = MEMBER
    return found


def _canonical(element: str) -> str:
    """A path element with its JSON written as Kubernetes writes it."""
    sort, colon, rest = element.partition(":")
    if not colon:
        raise ValueError(f"parsing key as path element: missing colon: {element}")
    if sort not in ("f", "k", "v", "i"):
        raise ValueError(f"unrecognized path element {element!r}")
    if sort == "f":
        return element
    try:
        value = orjson.loads(rest)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"path element {element!r} is no JSON") from error
    if (sort == "k" and not isinstance(value, dict)) or (sort == "i" and not isinstance(value, int)):
        raise ValueError(f"path element {element!r} has the wrong type")
    try:
        return f"{sort}:{orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()}"
    except TypeError:
        raise ValueError(f"path element {element[:50]!r} is nested too deeply") from None


def _union_below(one: FieldSet, other: FieldSet) -> FieldSet:
    """The union of two nodes that are not the root."""
    if not one or not other:
        rest = one or other
        return rest if is_member(rest) else {".": MEMBER, **rest}
    changed: FieldSet | None = None
    for element, theirs in other.items():
        ours = one.get(element)
        both = theirs if ours is None else _union_below(ours, theirs)
        if both is not ours:
            changed = dict(one) if changed is None else changed
            changed[element] = both
    return one if changed is None else changed


def _difference_below(one: FieldSet, other: FieldSet) -> FieldSet | None:
    """What is left of a node that is not the root, None where nothing is."""
    if not one:
        return None if is_member(other) else one
    if not other:
        other = _ITSELF
    changed: FieldSet | None = None
    for element, theirs in other.items():
        ours = one.get(element)
        if ours is None:
            continue
        rest = _difference_below(ours, theirs)
        if rest is ours:
            continue
        changed = dict(one) if changed is None else changed
        if rest is None:
            del changed[element]
        else:
            changed[element] = rest
    if changed is None:
        return one
    return _tidy(changed) if changed else None


_ITSELF: FieldSet = {".": MEMBER}


def _intersection_below(one: FieldSet, other: FieldSet) -> FieldSet:
    """The common children of two nodes; "." among them where both are members."""
    common: FieldSet = {}
    for element, ours in one.items():
        theirs = other.get(element)
        if theirs is None or element == ".":
            continue
        both = _intersection_below(ours, theirs) if ours and theirs else {}
        if is_member(ours) and is_member(theirs):
            common[element] = {".": MEMBER, **both} if both else MEMBER
        elif both:
            common[element] = both
    return common


def _tidy(node: FieldSet) -> FieldSet:
    """A node that has nothing but "." is written `{}`."""
    return MEMBER if len(node) == 1 and "." in node else node


def _element_text(element: str) -> str:
    sort, _, rest = element.partition(":")
    if sort == "f":
        return f".{rest}"
    if sort == "k":
        pairs = orjson.loads(rest)
        return "[" + ",".join(f"{name}={orjson.dumps(pairs[name]).decode()}" for name in sorted(pairs)) + "]"
    return f"[={rest}]" if sort == "v" else f"[{rest}]"


def _order(element: str) -> tuple[int, Any]:
    """Fields, then keys, then values, then indices; numbers before text within keys."""
    sort, _, rest = element.partition(":")
    if sort == "k":
        pairs = orjson.loads(rest)
        return 1, [(name, _value_order(pairs[name])) for name in sorted(pairs)]
    if sort == "v":
        return 2, _value_order(orjson.loads(rest))
    return (0, rest) if sort == "f" else (3, int(rest))


def _value_order(value: Any) -> tuple[int, Any]:
    if isinstance(value, bool):
        return 2, value
    if isinstance(value, int | float):
        return 0, value
    return (1, value) if isinstance(value, str) else (3, orjson.dumps(value))
