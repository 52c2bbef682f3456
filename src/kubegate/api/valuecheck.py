"""Whether a custom resource's values are what its schema asks for, in the words of kube-apiserver.

Follows k8s.io/kube-openapi/pkg/validation/validate, and apiextensions-apiserver for what it adds: list types, and
leaving alone what an update did not touch (ratcheting).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson

from kubegate.api import field, formats, goregexp
from kubegate.api.field import FieldError
from kubegate.api.numbers import float_text
from kubegate.api.structural import MISSING, Structural

NO_PATH = "<nil>"
"""Where an error has no field of its own, kube-apiserver prints this."""


def check(value: Any, schema: Structural, old: Any = MISSING, path: str = "") -> list[FieldError]:
    """What is wrong with `value`. Parts that are as they were in `old` are not held against it."""
    return list(dict.fromkeys(_value(value, schema, old, path)))


def _invalid(path: str, value: Any, detail: str) -> FieldError:
    return field.invalid(path or NO_PATH, value, detail)


def _value(value: Any, schema: Structural, old: Any, path: str) -> Iterator[FieldError]:
    """The errors of a value, none where it is what it was."""
    errors = list(_errors(value, schema, old, path))
    if errors and old is not MISSING and same(value, old):
        return
    yield from errors


def _errors(value: Any, schema: Structural, old: Any, path: str) -> Iterator[FieldError]:
    yield from _type(value, schema, path)
    if value is None:
        if schema.raw.get("enum") is not None:
            yield from _enum(value, schema, path)
        return
    yield from _combined(value, schema, path)
    if isinstance(value, str):
        yield from _string(value, schema, path)
    elif isinstance(value, bool):
        pass
    elif isinstance(value, int | float):
        yield from _number(value, schema, path)
    elif isinstance(value, list):
        yield from _list(value, schema, old, path)
    if schema.raw.get("enum") is not None:
        yield from _enum(value, schema, path)
    if isinstance(value, dict):
        yield from _map(value, schema, old, path)


# ------------------------------------------------------------------ types
def _type(value: Any, schema: Structural, path: str) -> Iterator[FieldError]:
    wanted = ("integer", "string") if schema.int_or_string else ((schema.type,) if schema.type else ())
    format_ = _format(schema)
    found = type_of(value)
    if not wanted:
        if format_ and found not in ("string", "array", "null"):
            yield type_error(path, _FORMATS.get(found, ""), format_)
        return
    if found in wanted or (value is None and schema.nullable):
        return
    if found == "integer" and "number" in wanted:
        return
    if found == "number" and "integer" in wanted and _is_json_integer(value):
        return
    if format_ and found == "array" and schema.type not in ("integer", "number"):
        return  # a format is all that is asked, and says nothing of lists
    if format_ and found not in ("string", "array", "null"):  # those are told by their formats, and expected by them
        yield type_error(path, _FORMATS.get(found, ""), format_)
        return
    yield type_error(path, found, ",".join(wanted))


_FORMATS = {"integer": "int64", "number": "float64"}
_FORMATS_OF = {"integer": ("int32", "int64"), "number": ("float", "double"), "": formats.KNOWN, "string": formats.KNOWN}


def _format(schema: Structural) -> str:
    """The format that values must have; "" where the one that is named means nothing for the type."""
    name = schema.raw.get("format") or ""
    plain = formats.normalized(name) if schema.type in ("", "string") else name
    return name if plain in _FORMATS_OF.get(schema.type, ()) else ""


_MOST_EXACT = 2.0**53 - 1


def _is_json_integer(value: float) -> bool:
    """Whether a float is an integer that JSON tells exactly."""
    return abs(value) <= _MOST_EXACT and float(value).is_integer()


def type_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, dict):
        return "object"
    if isinstance(value, list):
        return "array"
    if isinstance(value, str):
        return "string"
    # Go keeps whole numbers that no int64 holds as floats.
    return "integer" if isinstance(value, int) and _INT64[0] <= value <= _INT64[1] else "number"


def type_error(path: str, found: str, wanted: str) -> FieldError:
    text = f"{path} in body must be of type {wanted}: {field.quoted(found)}"
    return field.type_invalid(path or NO_PATH, found, text)


# ------------------------------------------------------------------ scalars
def _string(value: str, schema: Structural, path: str) -> Iterator[FieldError]:
    raw = schema.raw
    longest, shortest, pattern = raw.get("maxLength"), raw.get("minLength"), raw.get("pattern")
    if longest is not None and len(value) > longest:
        yield field.too_long(path or NO_PATH, longest)
    elif shortest is not None and len(value) < shortest:
        yield _invalid(path, value, f"{path} in body should be at least {shortest} chars long")
    elif pattern:
        compiled = _pattern(pattern)
        if compiled is None or not compiled.search(value):
            yield _invalid(path, value, f"{path} in body should match '{pattern}'")
    name = _format(schema)
    if name and not formats.fits(name, value):
        text = f"{path} in body must be of type {name}: {field.quoted(value)}"
        yield field.type_invalid(path or NO_PATH, value, text)


def _pattern(text: str) -> Any:
    """A compiled pattern; None for one that cannot be compiled, so that nothing matches (fail closed)."""
    try:
        return goregexp.compiled(text)
    except goregexp.BadPattern:
        return None


def _number(value: float, schema: Structural, path: str) -> Iterator[FieldError]:
    kind, format_ = schema.type, _format(schema)
    yield from _range(value, kind, format_, "Checked", path)
    factor = schema.raw.get("multipleOf")
    if factor is not None:
        wrong = list(_range(factor, kind, format_, "MultipleOf", path))
        yield from wrong
        number, factor = _comparable(value, factor, whole=not wrong)
        if factor <= 0:
            yield _invalid(path, factor, f"factor MultipleOf declared for {path} must be positive: {_shown(factor)}")
        elif not _is_multiple(number, factor):
            yield _invalid(path, number, f"{path} in body should be a multiple of {_shown(factor)}")
    yield from _bound("minimum", value, schema, path)
    yield from _bound("maximum", value, schema, path)


def _bound(name: str, value: float, schema: Structural, path: str) -> Iterator[FieldError]:
    """Whether a number keeps to the schema's `minimum` or `maximum`."""
    bound = schema.raw.get(name)
    if bound is None:
        return
    wrong = list(_range(bound, schema.type, _format(schema), f"{name.capitalize()} boundary", path))
    yield from wrong
    number, bound = _comparable(value, bound, whole=not wrong)
    exclusive = bool(schema.raw.get(f"exclusive{name.capitalize()}"))
    lowest = name == "minimum"
    beyond = number < bound if lowest else number > bound
    if beyond or (exclusive and number == bound):
        words = f"{'greater' if lowest else 'less'} than{'' if exclusive else ' or equal to'}"
        yield _invalid(path, number, f"{path} in body should be {words} {_shown(bound)}")


_INTEGERS = {"int32": (-(2**31), 2**31 - 1), "uint32": (0, 2**32 - 1), "uint64": (0, 2**64 - 1)}
_INT64 = (-(2**63), 2**63 - 1)
_MAX_FLOAT32 = 3.4028235677973366e38


def _range(number: float, kind: str, format_: str, what: str, path: str) -> Iterator[FieldError]:
    """Whether a value, or a bound in its schema, is a number that the schema's type and format can hold."""
    if kind == "integer":
        lowest, highest = _INTEGERS.get(format_, _INT64)
        if float(number).is_integer() and lowest <= number <= highest:
            return
    elif format_ not in ("float", "float32") or abs(number) < _MAX_FLOAT32:
        return
    which = f"with format {format_}" if format_ else "(default format)"
    yield field.invalid(NO_PATH, "", f"{what} value must be of type {kind} {which} in {path}")


def _comparable(value: float, bound: float, *, whole: bool) -> tuple[float, float]:
    """A value and what it is compared with. `whole`: an integer is compared with what of the bound is one."""
    if not isinstance(value, int) or not whole:
        return float(value), float(bound)
    bound = int(bound)
    return value, bound if _INT64[0] <= bound <= _INT64[1] else _INT64[0]


def _is_multiple(value: float, factor: float) -> bool:
    if isinstance(value, int) and isinstance(factor, int):
        return value % factor == 0
    return _is_json_integer(1 / factor * value if factor < 1 else value / factor)


def _shown(value: float) -> str:
    return str(value) if isinstance(value, int) else float_text(value)


def _enum(value: Any, schema: Structural, path: str) -> Iterator[FieldError]:
    allowed = schema.raw["enum"]
    # Go converts what it compares: of a fraction, only the whole part is looked at. Null is no choice.
    whole = int(value) if isinstance(value, float) else value
    if not any(choice is not None and (same(value, choice) or same(whole, choice)) for choice in allowed):
        choices = [c if isinstance(c, str) else orjson.dumps(c, option=orjson.OPT_SORT_KEYS).decode() for c in allowed]
        yield field.not_supported(path or NO_PATH, value, choices)


# ------------------------------------------------------------------ lists and maps
def _list(value: list[Any], schema: Structural, old: Any, path: str) -> Iterator[FieldError]:
    raw = schema.raw
    if schema.items is not None:
        old_item = correlated(schema, old)
        for position, item in enumerate(value):
            yield from _value(item, schema.items, old_item(item), f"{path}[{position}]")
    fewest, most = raw.get("minItems"), raw.get("maxItems")
    if fewest is not None and len(value) < fewest:
        yield _invalid(path, len(value), f"{path} in body should have at least {fewest} items")
    if most is not None and len(value) > most:
        yield field.too_many(path or NO_PATH, len(value), most)
    if raw.get("uniqueItems") and len({_token(item) for item in value}) < len(value):
        yield _invalid(path, value, f"{path} in body shouldn't contain duplicates")


def correlated(schema: Structural, old: Any) -> Callable[[Any], Any]:
    """How to find the old value of an item: by its keys in a list of type map, not at all elsewhere."""
    if schema.list_type != "map" or not isinstance(old, list):
        return lambda item: MISSING
    by_key = {token: item for item in old if (token := map_key(schema, item)) is not None}

    def find(item: Any) -> Any:
        token = map_key(schema, item)
        return MISSING if token is None else by_key.get(token, MISSING)

    return find


def map_key(schema: Structural, item: Any) -> bytes | None:
    """What names an item of a list of type map, defaults of its keys included; None where it is no map."""
    if not isinstance(item, dict):
        return None
    keys = []
    for key in schema.list_map_keys:
        child = schema.items.child(key) if schema.items is not None else None
        keys.append(item.get(key, child.default if child is not None and child.has_default else None))
    return _token(keys)


def _map(value: dict[str, Any], schema: Structural, old: Any, path: str) -> Iterator[FieldError]:
    raw = schema.raw
    fewest, most = raw.get("minProperties"), raw.get("maxProperties")
    if fewest is not None and len(value) < fewest:
        yield _invalid(path, len(value), f"{path} in body should have at least {fewest} properties")
    if most is not None and len(value) > most:
        yield field.too_many(path or NO_PATH, len(value), most)
    old_map = old if isinstance(old, dict) else {}
    if isinstance(schema.additional, Structural):
        for name, child in value.items():
            if name not in schema.properties:
                yield from _value(child, schema.additional, old_map.get(name, MISSING), field.child(path, name))
    for name, known in schema.properties.items():
        if name in value:
            yield from _value(value[name], known, old_map.get(name, MISSING), field.child(path, name))
    for name in raw.get("required") or ():
        if name not in value:
            yield field.required(field.child(path, name))


# ------------------------------------------------------------------ allOf, anyOf, oneOf, not
def _combined(value: Any, schema: Structural, path: str) -> Iterator[FieldError]:
    quoted = field.quoted(path)
    if schema.any_of:
        results = [check(value, choice, path=path) for choice in schema.any_of]
        if all(results):
            yield _composite(f"{quoted} must validate at least one schema (anyOf)")
            yield from _best(value, schema.any_of, results)
    if schema.one_of:
        results = [check(value, choice, path=path) for choice in schema.one_of]
        fitting = sum(not errors for errors in results)
        if fitting != 1:
            found = f"Found {fitting} valid alternatives" if fitting else "Found none valid"
            yield _composite(f"{quoted} must validate one and only one schema (oneOf). {found}")
            if not fitting:
                yield from _best(value, schema.one_of, results)
    if schema.all_of:
        results = [check(value, choice, path=path) for choice in schema.all_of]
        for errors in results:
            yield from errors
        if any(results):
            none = ". None validated" if all(results) else ""
            yield _composite(f"{quoted} must validate all the schemas (allOf){none}")
    if schema.none_of is not None and not check(value, schema.none_of, path=path):
        yield _composite(f"{quoted} must not validate the schema (not)")


def _composite(text: str) -> FieldError:
    return field.invalid(NO_PATH, "", text)


def _best(value: Any, choices: list[Structural], results: list[list[FieldError]]) -> list[FieldError]:
    """The errors of the alternative that looked most closely; of the first of those."""
    checks = [_checks(value, choice) for choice in choices]
    return results[checks.index(max(checks))]


def _checks(value: Any, schema: Structural) -> int:
    """How many checks a value was put to, as Kubernetes counts them: most of them also where they fail."""
    fits = not any(_type(value, schema, ""))
    if value is None:
        return int(fits)
    format_ = _format(schema)
    count = 4
    if schema.type or schema.int_or_string or format_:
        count += 1 + fits
    if isinstance(value, str):
        count += 1 + bool(format_)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        count += 2
    elif isinstance(value, list):
        count += 2
        if schema.items is not None:
            count += sum(_checks(item, schema.items) for item in value)
    elif isinstance(value, dict):
        count += 1 + sum(_checks(item, child) for name, item in value.items() if (child := schema.child(name)))
    for choices in (schema.any_of, schema.one_of):
        if choices:
            fitting = [choice for choice in choices if not check(value, choice)]
            count += _checks(value, fitting[0]) if fitting else max(_checks(value, choice) for choice in choices)
    return count + sum(_checks(value, part) for part in schema.all_of)


# ------------------------------------------------------------------ list types
def check_lists(value: Any, schema: Structural | None, path: str = "") -> list[FieldError]:
    """Duplicates in lists of type set and map."""
    return list(_list_errors(value, schema, path))


def _list_errors(value: Any, schema: Structural | None, path: str) -> Iterator[FieldError]:
    if schema is None:
        return
    if isinstance(value, dict):
        for name, child in value.items():
            known = schema.child(name)
            if known is not None:
                below = field.child(path, name) if name in schema.properties else field.key(path, name)
                yield from _list_errors(child, known, below)
    elif isinstance(value, list):
        if schema.list_type in ("set", "map"):
            yield from _duplicates(value, schema, path)
        for position, item in enumerate(value):
            yield from _list_errors(item, schema.items, f"{path}[{position}]")


def _duplicates(value: list[Any], schema: Structural, path: str) -> Iterator[FieldError]:
    """Each value that is there more than once is told where it is there for the second time."""
    keys = value
    if schema.list_type == "map":
        for position, item in enumerate(value):
            if item is not None and not isinstance(item, dict):
                text = "must be an object for an array of list-type map"
                yield field.invalid(f"{path}[{position}]", item, text)
                return
        names = schema.list_map_keys
        keys = [{name: item[name] for name in names if name in item} if item else {} for item in value]
    times: dict[bytes, int] = {}
    for position, key in enumerate(keys):
        token = _token(key)
        times[token] = times.get(token, 0) + 1
        if times[token] == 2:
            yield field.duplicate(f"{path}[{position}]", orjson.loads(token))


def _token(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def same(one: Any, other: Any) -> bool:
    """Equality of JSON values: true is not 1, 1 is 1.0."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(child, other[name]) for name, child in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
