"""What decoding into Go types does to an object of a built-in kind.

Unknown fields are dropped and told, values of the wrong type are refused, nulls are as good as absent, empty values go
where Go's encoder leaves them out and appear where it does not, and quantities, times and bytes get their one form. One
walker is compiled for each type when it is first met. Follows sigs.k8s.io/json and the types of k8s.io/api.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any, Final

from msgspec import Struct, field

from kubegate.api import Object, clone, gotypes, quantity
from kubegate.api.codec import Document, decode_object, handled_as, json_type, strict_error, warnings
from kubegate.api.schema import Schema, from_openapi, named, schema_for

_MAX_UNKNOWN = 100
_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"

# Types that read themselves, whatever is in them.
_RAW = frozenset({f"{_META}FieldsV1", f"{_META}Patch", "io.k8s.apimachinery.pkg.runtime.RawExtension"})
_APIEXTENSIONS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1."
_JSON_SCHEMA = f"{_APIEXTENSIONS}JSONSchemaProps"
# Types that are a JSON schema or something else, and read themselves as such.
_SCHEMA_OR = frozenset(f"{_JSON_SCHEMA}Or{other}" for other in ("Bool", "Array", "StringArray"))
# Types whose empty lists are told apart from absent ones up to the store, which makes them null (`registry.generic`).
_KEPT_EMPTY = frozenset(
    {"io.k8s.api.rbac.v1.ClusterRole", "io.k8s.api.rbac.v1.Role", "io.k8s.api.discovery.v1.EndpointSlice"}
)
# Objects of these groups are stored as JSON: empty lists stay what they are, elsewhere protobuf makes them null.
_STORED_AS_JSON = ("io.k8s.apiextensions-apiserver.", "io.k8s.kube-aggregator.")

Path = tuple[Any, ...] | None
"""Where the walker is: (parent, name or index, whether it is a map's key), from the leaf up. Texts are made of it only
when something is wrong."""
Walk = Callable[[Any, Path, "_Found"], Any]


class TypeMismatch(ValueError):
    """A value does not fit its field's type; the message is Go's (`json: cannot unmarshal number into …`).

    `conversion` is what is said where the object was not read from JSON but converted after a strategic merge patch:
    `cannot convert int64 to string`.
    """

    def __init__(self, message: str, conversion: str = "") -> None:
        super().__init__(message)
        self.conversion = conversion or message


class _Mismatch(Exception):
    """A TypeMismatch before it is known in which struct: the value, and the Go type it should have been.

    `kind` is what that type is underneath (`string` of v1.PullPolicy): a scalar, slice, map or struct. `final`: said
    by a type that reads itself, after which Go reads no further.
    """

    def __init__(self, value: Any, wanted: str, kind: str = "", *, final: bool = False) -> None:
        self.value, self.wanted, self.kind, self.final = value, wanted, kind or wanted, final


class _Found(Struct):
    """What goes along: whether zero values are to be filled in, and paths of unknown fields in the document's order.

    `mismatches`: where given, values of the wrong type are put there instead of being raised. `converting`: the object
    was not read from JSON, but made by a patch: Go's converter takes whole numbers for integers, and cuts off what is
    too large for them.
    """

    complete: bool = False
    converting: bool = False
    unknown: dict[str, None] = field(default_factory=dict)
    mismatches: list[TypeMismatch] | None = None

    def add(self, path: Path, name: str) -> None:
        if len(self.unknown) < _MAX_UNKNOWN:
            self.unknown[strict_path((path, name, False))] = None

    def refuse(self, error: _Mismatch, struct: str, path: Path) -> None:
        """Raise the error of a struct's field, or note it."""
        mismatch = _mismatch(error, struct, path)
        if self.mismatches is None or error.final:
            raise mismatch from None
        self.mismatches.append(mismatch)


class Normalized(Struct, frozen=True):
    """`unknown` are the paths of fields that the type does not have; they are no longer in `value`."""

    value: Object
    unknown: tuple[str, ...] = ()


def normalize(
    value: Mapping[str, Any], schema: Schema, *, completing: bool = False, converting: bool = False
) -> Normalized:
    """An object (or any struct) as Go has it after decoding. `value` is not changed. Raises TypeMismatch.

    What Go would write for fields that were not sent (`resources: {}`, `rules: null`) is there with `completing` alone:
    see `complete`. `converting`: see `_Found`.
    """
    found = _Found(completing, converting)
    walked = walker(schema)(value, None, found)
    return Normalized(walked, tuple(found.unknown))


def of_document(document: Document, schema: Schema, *, completing: bool = False) -> Normalized:
    """`normalize` of what a document holds. Raises the TypeMismatch that Go tells.

    Go reads on after a value of the wrong type. It tells of the first one, unless it comes to a value (a time, a
    quantity) that cannot be read at all. Numbers are told as the document writes them.
    """
    try:
        return normalize(document.value, schema, completing=completing)
    except TypeMismatch:
        as_written = document.with_numbers_as_written()
        found = _Found(mismatches=[])
        walker(schema)(document.value if as_written is None else as_written, None, found)
        if found.mismatches:
            raise found.mismatches[0] from None
        raise


def complete(value: Mapping[str, Any], schema: Schema) -> Object:
    """An object as Go writes it: after `normalize` and defaulting, with the zero values that Go does not leave out.

    `value` is not changed. Raises TypeMismatch.
    """
    found: Object = walker(schema)(value, None, _Found(complete=True))
    return found


def is_plain_text(schema: Schema) -> bool:
    """Whether a value that is a text, and not empty, is right as it stands."""
    formless = not schema.format and not schema.int_or_string and schema.name != _QUANTITY
    return schema.type == "string" and formless


def defaulted(merged: Object, schema: Schema, default: Callable[[Object], None]) -> Object:
    """What `default` makes of an object that was put together, not read. Raises TypeMismatch.

    The values of such an object are converted: some fit that would not, if they were sent.
    """
    result = clone(merged)
    try:
        default(result)
    except TypeMismatch:
        result = clone(normalize(merged, schema, converting=True).value)
        default(result)
    return result


def normalize_metadata(meta: Any) -> Normalized:
    """The metadata of a custom object, which alone is typed. Raises TypeMismatch."""
    found = _Found()
    try:
        walked = walker(named(f"{_META}ObjectMeta"))(meta, (None, "metadata", False), found)
    except TypeMismatch as error:  # metadata is decoded by itself: its fields are told without it
        raise TypeMismatch(_IN_METADATA.sub(r"\1.", str(error)), error.conversion) from None
    except _Mismatch:
        raise TypeMismatch(f"json: cannot unmarshal {json_type(meta)} into Go value of type v1.ObjectMeta") from None
    return Normalized(walked, tuple(found.unknown))


_IN_METADATA = re.compile(r"(Go struct field \w+)\.metadata\.")


def strict_errors(document: Document, unknown: Sequence[str], schema: Schema | None) -> list[str]:
    """The texts of strict decoding for a document whose type, `schema`, does not have the fields `unknown`.

    Without a schema it is a custom resource, whose unknown fields are found after it was decoded, and told as they are.
    """
    if schema is None:
        return [*document.duplicates, *(f'unknown field "{path}"' for path in unknown)]
    return document.strict_errors(unknown, partial(_reads_itself, schema))


def _reads_itself(schema: Schema, place: Sequence[str | int]) -> bool:
    """Whether what is at `place` is of a type that reads itself, so that nothing is said of fields in it."""
    found: Schema | None = schema
    for step in place:
        if found is None or found.name in _RAW or not found.type:
            return True
        found = found.items if isinstance(step, int) else found.properties.get(step) or found.additional
    return found is not None and (found.name in _RAW or not found.type)


def read(
    body: bytes, media_type: str, expected: tuple[str, str, str], field_validation: str = "Warn"
) -> tuple[Object, list[str]]:
    """The body of a create or an update of a built-in kind (group, version, kind): the object, and warnings.

    Raises StatusError 400 in kube-apiserver's words: for what cannot be read, is of another kind, has values of the
    wrong type, and, where `field_validation` is Strict, fields that are unknown or there twice.
    """
    group, version, kind = expected
    schema = schema_for(group, version, kind)
    document = decode_object(body, media_type, expected, gotypes.registered, strict=field_validation != "Ignore")
    if schema is None:
        return document.value, []
    try:
        normalized = of_document(document, schema)
    except TypeMismatch as error:
        raise handled_as(kind, version, kind, str(error)) from None
    if field_validation == "Ignore" or not (document.duplicates or normalized.unknown):
        return normalized.value, []
    errors = strict_errors(document, normalized.unknown, schema)
    if field_validation == "Strict":
        raise strict_error(kind, version, errors)
    return normalized.value, warnings(errors)


# --- walkers -----------------------------------------------------------------------------------------------------

_walkers: dict[str, Walk] = {}


def walker(schema: Schema) -> Walk:
    """The compiled walker of a type. One for each named type, however it is used."""
    name = schema.name
    if not name:
        return _compile(schema)
    found = _walkers.get(name)
    if found is None:
        # A recursive type meets itself before it is done.
        _walkers[name] = lambda value, path, seen: _walkers[name](value, path, seen)
        try:
            found = _walkers[name] = _compile(schema)
        except BaseException:
            del _walkers[name]
            raise
    return found


def _compile(schema: Schema) -> Walk:
    if schema.name in _SCHEMA_OR:
        return _schema_or(schema.name)
    if schema.name in _RAW or (schema.type == "" and not schema.int_or_string and schema.name != _QUANTITY):
        return _as_it_is
    if schema.name == _QUANTITY:
        return _quantity
    if schema.int_or_string:
        return _int_or_string
    if schema.type == "object":
        if schema.properties:
            return _struct(schema)
        return _map(schema, "map[string]string") if schema.additional is not None else _struct(schema)
    if schema.type == "array":
        return _list(schema, "[]string")
    return _scalar(schema, _plain_type(schema))


def _plain_type(schema: Schema) -> str:
    if schema.type == "integer":
        return schema.format or "int64"
    return {"number": "float64", "boolean": "bool"}.get(schema.type, "string")


def _as_it_is(value: Any, path: Path, found: _Found) -> Any:
    return value


def _schema_or(name: str) -> Walk:
    """Of fields that are unknown in such a schema nothing is told."""

    def as_schema(value: Any, complete: bool) -> Any:
        try:
            return walker(named(_JSON_SCHEMA))(value, None, _Found(complete))
        except _Mismatch as error:
            error.final = True
            raise

    def walk(value: Any, path: Path, found: _Found) -> Any:
        if type(value) is dict:
            return as_schema(value, found.complete)
        if name == f"{_JSON_SCHEMA}OrBool":
            if type(value) is not bool:
                raise TypeMismatch("boolean or JSON schema expected")
            return value
        if type(value) is not list or not value:
            return None
        if name == f"{_JSON_SCHEMA}OrArray":
            return [as_schema({} if item is None else item, found.complete) for item in value]
        return strings(value, path, found)

    strings = _list(from_openapi({"type": "array", "items": {"type": "string"}}), "[]string")
    return walk


def _scalar(schema: Schema, go: str) -> Walk:
    """`go` is the type's text in errors."""
    if schema.type == "integer":
        return _integer(32 if schema.format == "int32" else 64, go)
    if schema.type == "number":
        return _number
    if schema.format == "byte":
        return _bytes
    if schema.format == "date-time":
        return _micro_time if schema.name == f"{_META}MicroTime" else _time
    expected = bool if schema.type == "boolean" else str
    kind = "bool" if schema.type == "boolean" else "string"

    def walk(value: Any, path: Path, found: _Found) -> Any:
        if type(value) is not expected:
            raise _Mismatch(value, go, kind)
        return value

    return walk


def _integer(bits: int, go: str) -> Walk:
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    kind = f"int{bits}"

    def walk(value: Any, path: Path, found: _Found) -> Any:
        if type(value) is not int or not low <= value <= high:
            if found.converting and (type(value) is int or (type(value) is float and value.is_integer())):
                return (int(value) - low) % (1 << bits) + low
            raise _Mismatch(value, go, kind)
        return value

    return walk


def _number(value: Any, path: Path, found: _Found) -> Any:
    if type(value) is not int and not isinstance(value, float):
        raise _Mismatch(value, "float64")
    return value


def _int_or_string(value: Any, path: Path, found: _Found) -> Any:
    if type(value) is str:
        return value
    try:
        return _INT32(value, path, _READING)
    except _Mismatch as error:
        error.final = True
        raise


_INT32 = _integer(32, "int32")
_READING = _Found()


def _quantity(value: Any, path: Path, found: _Found) -> Any:
    return str(_parsed_quantity(value))


def _parsed_quantity(value: Any) -> quantity.Quantity:
    if type(value) is not str:
        if type(value) is not int and not isinstance(value, float):
            # The text is the raw value's, which no longer is a quantity.
            raise TypeMismatch(quantity.FORMAT_ERROR)
        value = repr(value)
    try:
        return quantity.parse(value.strip())
    except quantity.QuantityError as error:
        raise TypeMismatch(str(error)) from None


def _resource_amount(value: Any, path: Path, found: _Found) -> Any:
    """An amount in a ResourceList: nothing finer than a thousandth is kept."""
    return str(_parsed_quantity(value).round_up(-3))


def _list(schema: Schema, go: str) -> Walk:
    items = schema.items
    element = _walker_of(items, go.removeprefix("[]")) if items is not None else _as_it_is
    if items is not None and items.type == "string" and not items.format and items.name != _QUANTITY:
        element_go = go.removeprefix("[]")

        def walk_strings(value: Any, path: Path, found: _Found) -> Any:
            if type(value) is not list:
                raise _Mismatch(value, go, "slice")
            for item in value:
                if type(item) is not str:
                    if item is None:
                        return ["" if one is None else element(one, path, found) for one in value]
                    raise _Mismatch(item, element_go, "string")
            return value[:]

        return walk_strings
    zero = _zero(items) if items is not None else lambda: None

    def walk(value: Any, path: Path, found: _Found) -> Any:
        if type(value) is not list:
            raise _Mismatch(value, go, "slice")
        return [
            zero() if item is None else element(item, (path, position, False), found)
            for position, item in enumerate(value)
        ]

    return walk


def _map(schema: Schema, go: str) -> Walk:
    values = schema.additional
    assert values is not None
    element_go = go.partition("]")[2] or "string"
    if values.name == _QUANTITY:
        element: Walk = _resource_amount
    else:
        element = _walker_of(values, element_go)
    if values.type == "string" and not values.format and values.name != _QUANTITY:

        def walk_strings(value: Any, path: Path, found: _Found) -> Any:
            if type(value) is not dict:
                raise _Mismatch(value, go, "map")
            for item in value.values():
                if type(item) is not str:
                    if item is None:
                        return by_name(
                            {name: "" if one is None else element(one, path, found) for name, one in value.items()}
                        )
                    raise _Mismatch(item, element_go, "string")
            return by_name(value.copy())

        return walk_strings
    zero = _zero(values)

    def walk(value: Any, path: Path, found: _Found) -> Any:
        if type(value) is not dict:
            raise _Mismatch(value, go, "map")
        return by_name(
            {name: zero() if item is None else element(item, (path, name, True), found) for name, item in value.items()}
        )

    return walk


def by_name(value: dict[str, Any]) -> dict[str, Any]:
    """A map in the order in which Go writes it: itself, where it is in that order already."""
    if len(value) < 2:
        return value
    names = list(value)
    names.sort()
    return value if names == list(value) else {name: value[name] for name in names}


def _walker_of(schema: Schema, go: str) -> Walk:
    """The walker of a list's elements, a map's values or a field, with the Go type's text for its errors."""
    if schema.name and (schema.type == "object" or not schema.type or schema.format):
        return walker(schema)
    if schema.type == "array":
        return _list(schema, go)
    if schema.type == "object" and not schema.properties and schema.additional is not None:
        return _map(schema, go)
    if schema.type in ("string", "integer", "boolean"):
        return _scalar(schema, go)
    return walker(schema)


def _struct(schema: Schema) -> Walk:
    go_fields = gotypes.fields_of(schema.name)
    go_name = schema.kind_name
    whole = "v1." + go_name if "." in schema.name else "map[string]interface {}"
    if schema.name:
        whole = f"{schema.name.split('.')[-2]}.{go_name}"
    # name -> (Python type checked here, or None; walker; whether an empty value is left out; Go type for errors)
    fields: dict[str, tuple[type | None, Walk, bool, str]] = {}
    # Of those whose values need nothing but to be of a Python type: most fields of most objects.
    plain_types: dict[str, type] = {}
    # What is there even when nothing was sent: name -> a function that makes it.
    always: list[tuple[str, Callable[[], Any]]] = []
    nullable_lists: set[str] = set()
    for name, child in schema.properties.items():
        go = go_fields.get(name)
        text = go.text if go is not None else _plain_type(child)
        plain: type | None = bool if child.type == "boolean" and not child.format else None
        if is_plain_text(child):
            plain = str
        value_type = _is_struct(child)
        drop = go is not None and go.omit_empty and not go.pointer and not value_type
        fields[name] = (plain, _walker_of(child, text), drop, text)
        if plain is not None:
            plain_types[name] = plain
        if go is None or go.pointer:
            if go is not None and not go.omit_empty:
                always.append((name, _none))
            continue
        if go.omit_zero or (go.omit_empty and not value_type):
            continue
        always.append((name, _zero(child)))
        if child.type == "array" and not schema.name.startswith(_STORED_AS_JSON) and schema.name not in _KEPT_EMPTY:
            nullable_lists.add(name)
    always_there = tuple(always)
    nullable = frozenset(nullable_lists)

    def walk(value: Any, path: Path, found: _Found) -> Any:
        if type(value) is not dict:
            raise _Mismatch(value, whole, "struct")
        out: dict[str, Any] = {}
        for name, item in value.items():
            if item and plain_types.get(name) is type(item):
                out[name] = item
                continue
            known = fields.get(name)
            if known is None:
                found.add(path, name)
                continue
            if item is None:
                continue
            expected, walk_field, drop, text = known
            if expected is not None:
                if type(item) is not expected:
                    kind = "bool" if expected is bool else "string"
                    found.refuse(_Mismatch(item, text, kind), go_name, (path, name, False))
            else:
                place = (path, name, False)
                try:
                    item = walk_field(item, place, found)
                except _Mismatch as error:
                    found.refuse(error, go_name, place)
            if not item and (drop or name in nullable):
                continue
            out[name] = item
        if found.complete:
            for name, make in always_there:
                if name not in out:
                    out[name] = make()
        return out

    return walk


def _is_struct(schema: Schema) -> bool:
    """Whether Go's omitempty has no effect: structs, and what is one in Go though it is a scalar in JSON."""
    if schema.name == _QUANTITY or schema.int_or_string or schema.format == "date-time" or schema.name in _RAW:
        return True
    return schema.type == "object" and schema.additional is None


def _none() -> None:
    return None


def _zero(schema: Schema) -> Callable[[], Any]:
    """What Go writes for a type's zero value."""
    if schema.name == _QUANTITY:
        return lambda: "0"
    if schema.int_or_string:
        return lambda: 0
    if schema.format == "date-time" or schema.name in _RAW or not schema.type:
        return _none
    if schema.type == "object" and schema.additional is None:
        return lambda: walker(schema)({}, None, _Found(complete=True))
    made: Any = {"string": "", "integer": 0, "number": 0, "boolean": False}.get(schema.type)
    return lambda: made


# --- scalars with a form of their own ----------------------------------------------------------------------------


def _bytes(value: Any, path: Path, found: _Found) -> Any:
    if type(value) is list:
        return base64.b64encode(bytes(map(_byte, value))).decode()
    if type(value) is not str:
        raise _Mismatch(value, "[]uint8", "slice")
    try:
        binascii.a2b_base64(value, strict_mode=True)
    except (ValueError, binascii.Error):
        return base64.b64encode(decode_base64(value)).decode()
    return value


def _byte(value: Any) -> int:
    if value is None:
        return 0
    if type(value) is not int or not 0 <= value <= 255:
        raise _Mismatch(value, "uint8", "int8")
    return value


_BASE64 = re.compile(r"[A-Za-z0-9+/]")


def decode_base64(text: str) -> bytes:
    """Standard base64, line breaks allowed. Raises TypeMismatch with Go's text, which tells the byte where it ends."""
    encoded = text.encode()
    chars: list[int] = []
    position, size = 0, len(encoded)

    def bad(offset: int) -> TypeMismatch:
        text = f"illegal base64 data at input byte {offset}"
        return TypeMismatch(text, f"error decoding from json: {text}")

    while True:
        place = 0
        while place < 4:
            if position == size:
                if place == 0:
                    return binascii.a2b_base64(bytes(chars))
                raise bad(position - place)
            char = encoded[position]
            position += 1
            if char in b"\r\n":
                continue
            if char == ord("="):
                if place < 2:
                    raise bad(position - 1)
                position = _skip_breaks(encoded, position)
                if place == 2:
                    if position == size:
                        raise bad(size)
                    if encoded[position] != ord("="):
                        raise bad(position - 1)
                    position += 1
                position = _skip_breaks(encoded, position)
                if position < size:
                    raise bad(position)
                return binascii.a2b_base64(bytes(chars) + b"=" * (4 - place))
            if not _BASE64.match(chr(char)):
                raise bad(position - 1)
            chars.append(char)
            place += 1


def _skip_breaks(encoded: bytes, position: int) -> int:
    while position < len(encoded) and encoded[position] in b"\r\n":
        position += 1
    return position


_RFC3339: Final = "2006-01-02T15:04:05Z07:00"
_RFC3339_MICRO: Final = "2006-01-02T15:04:05.000000Z07:00"
_ZERO_TIME: Final = "0001-01-01T00:00:00Z"


def _time(value: Any, path: Path, found: _Found) -> Any:
    if type(value) is not str:
        raise _Mismatch(value, "string", final=True)
    return _in_utc(value)


def _micro_time(value: Any, path: Path, found: _Found) -> Any:
    if type(value) is not str:
        raise _Mismatch(value, "string", final=True)
    return _micro_in_utc(value)


@lru_cache(4096)
def _in_utc(text: str) -> str | None:
    written = parse_time(text).isoformat(timespec="seconds").removesuffix("+00:00") + "Z"
    return written if written != _ZERO_TIME else None


@lru_cache(4096)
def _micro_in_utc(text: str) -> str | None:
    written = parse_time(text, micro=True).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
    return written if not written.startswith("0001-01-01T00:00:00.000000") else None


# The parts of the layout as Go names them in errors: its text, the pattern that it reads, its bounds, and their name.
_PARTS: Final = (
    ("2006", re.compile(r"[0-9]{4}"), 0, 9999, "year"),
    ("-", re.compile("-"), 0, 0, ""),
    ("01", re.compile(r"[0-9]{2}"), 1, 12, "month"),
    ("-", re.compile("-"), 0, 0, ""),
    ("02", re.compile(r"[0-9]{2}"), 1, 31, "day"),
    ("T", re.compile("T"), 0, 0, ""),
    ("15", re.compile(r"[0-9]{1,2}"), 0, 23, "hour"),
    (":", re.compile(":"), 0, 0, ""),
    ("04", re.compile(r"[0-9]{2}"), 0, 59, "minute"),
    (":", re.compile(":"), 0, 0, ""),
    ("05", re.compile(r"[0-9]{2}"), 0, 59, "second"),
)
_FRACTION = re.compile(r"[.,][0-9]+")
_MICROS = re.compile(r"\.[0-9]{6}")
_ZONE = re.compile(r"Z|([+-])([0-9]{2}):([0-9]{2})")


def parse_time(text: str, *, micro: bool = False) -> datetime:
    """An RFC 3339 time in UTC; `micro`: with six digits after the second. Raises TypeMismatch with Go's text."""
    layout = _RFC3339_MICRO if micro else _RFC3339
    numbers = []
    position = 0

    def bad(element: str = "", more: str = "") -> TypeMismatch:
        if more:
            return TypeMismatch(f'parsing time "{_shown(text)}"{more}')
        rest = _shown(text[position:])
        return TypeMismatch(f'parsing time "{_shown(text)}" as "{layout}": cannot parse "{rest}" as "{element}"')

    for element, pattern, low, high, name in _PARTS:
        match = pattern.match(text, position)
        if match is None:
            raise bad(element)
        if name:
            number = int(match.group())
            if not low <= number <= high:
                raise bad(more=f": {name} out of range")
            numbers.append(number)
        position = match.end()
    micros = 0
    fraction = (_MICROS if micro else _FRACTION).match(text, position)
    if fraction is not None:
        micros = int(fraction.group()[1:7].ljust(6, "0"))
        position = fraction.end()
    elif micro:
        raise bad(".000000")
    zone = _ZONE.match(text, position)
    if zone is None:
        raise bad("Z07:00")
    if zone.end() < len(text):
        raise bad(more=f': extra text: "{_shown(text[zone.end() :])}"')
    try:
        moment = datetime(*numbers, micros, tzinfo=UTC)  # type: ignore[misc,arg-type]
    except ValueError:
        raise bad(more=": day out of range") from None
    if zone.group() != "Z":
        offset = (int(zone.group(2)) * 60 + int(zone.group(3))) * (1 if zone.group(1) == "+" else -1)
        try:
            moment = datetime.fromtimestamp(moment.timestamp() - 60 * offset, UTC).replace(microsecond=micros)
        except (OverflowError, ValueError, OSError):
            raise bad(more=": year out of range") from None
    return moment


def _shown(text: str) -> str:
    """As Go's time package quotes: every byte that is not plain ASCII by its number."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return "".join(chr(byte) if 0x20 <= byte < 0x80 else f"\\x{byte:02x}" for byte in escaped.encode())


# --- paths -------------------------------------------------------------------------------------------------------


def strict_path(path: Path) -> str:
    """`spec.containers[0].image`, as strict errors name fields."""
    parts = []
    while path is not None:
        path, name, _ = path
        parts.append(f"[{name}]" if isinstance(name, int) else f".{name}")
    return "".join(reversed(parts)).removeprefix(".")


def _mismatch(error: _Mismatch, struct: str, path: Path) -> TypeMismatch:
    """Go names fields only: no places in lists, no keys of maps."""
    parts = []
    while path is not None:
        path, name, key = path
        if isinstance(name, str) and not key:
            parts.append(name)
    place = ".".join(reversed(parts))
    found = json_type(error.value)
    if found == "number" and error.kind.startswith("int"):
        found = f"number {error.value!r}"
    text = f"json: cannot unmarshal {found} into Go struct field {struct}.{place} of type {error.wanted}"
    return TypeMismatch(text, _conversion(error))


def _conversion(error: _Mismatch) -> str:
    """What Go's converter of unstructured objects says."""
    value = error.value
    if error.final:
        return f"json: cannot unmarshal {json_type(value)} into Go value of type {error.wanted}"
    names = {str: "string", bool: "bool", int: "int64", list: "slice", dict: "map"}
    found = "float64" if isinstance(value, float) else names[type(value)]
    if error.kind in ("map", "slice"):
        return f"cannot restore {error.kind} from {found}"
    if error.kind == "struct":
        return f"cannot restore struct from: {found}"
    # Go can turn numbers into each other and, as a rune, an integer into text; it will not, and says so.
    numbers = found in ("int64", "float64") and error.kind.startswith(("int", "float"))
    if numbers or (found == "int64" and error.kind == "string"):
        return f"cannot convert {found} to {error.wanted}"
    return f"unrecognized type: {error.kind}"
