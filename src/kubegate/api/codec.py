"""Bytes to objects and back: JSON and YAML (and protobuf), with the words in which Go's decoders refuse.

The fast path is orjson. What is slow and exact (Go's syntax errors, duplicate fields) runs only when the fast path
fails or finds a reason. Follows sigs.k8s.io/json and sigs.k8s.io/yaml as kube-apiserver v1.36 uses them.
"""

from __future__ import annotations

import json
import math
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

import orjson
from msgspec import Struct

from kubegate.api import Object, protobuf
from kubegate.api.field import ESCAPES, quoted
from kubegate.api.schema import named, schema_for
from kubegate.api.status import StatusError, bad_request

JSON: Final = "application/json"
YAML: Final = "application/yaml"
PROTOBUF: Final = "application/vnd.kubernetes.protobuf"

MAX_DEPTH: Final = 200
"""Deeper documents are refused. Go stops at 10,000; orjson writes no more than 254, and what is stored must be written
within lists, tables, reviews and audit events, too, and leads to managed fields that are somewhat deeper.
"""

# Above this the exact scanner would hold up the event loop; a shorter message has to do.
_EXACT_ERRORS_UP_TO = 64 * 1024
_MAX_STRICT_ERRORS = 100


class DecodeError(ValueError):
    """The bytes are no document of their media type; the message is the decoder's, as kube-apiserver tells it."""


# --- JSON ------------------------------------------------------------------------------------------------------


def decode_json(body: bytes) -> Any:
    """The value of a JSON document. Raises DecodeError; nothing is deeper than MAX_DEPTH and all text is valid."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return _decode_slowly(body, error)
    # Most documents have fewer brackets than the limit, which answers the question without looking closer.
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and _depth(body) > MAX_DEPTH:
        raise DecodeError("exceeded max depth")
    return value


def too_deep(value: Any) -> bool:
    """Whether what was made of decoded documents is deeper than a document may be."""
    try:
        data = orjson.dumps(value)
    except TypeError:  # it gave up
        return True
    return data.count(b"{") + data.count(b"[") > MAX_DEPTH and _depth(data) > MAX_DEPTH


def duplicate_fields(body: bytes, value: Any) -> list[str]:
    """Paths of fields that the JSON document `body` (decoded: `value`) has more than once, in its order."""
    # A field that is given twice has its colon in the text twice, and once in the value when it is written again. Those
    # within texts are in both, but where they are told by number.
    if body.count(b":") == orjson.dumps(value).count(b":") and not _told_by_number(body):
        return []
    found: dict[str, None] = {}
    try:
        pairs = json.loads(body, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        return []
    for path in _duplicates(pairs, ""):
        found[path] = None
        if len(found) == _MAX_STRICT_ERRORS:
            break
    return list(found)


def _told_by_number(body: bytes) -> bool:
    return b"\\u003a" in body or b"\\u003A" in body


class _Pairs(list[tuple[str, Any]]):
    """An object's members as they stand."""

    def __init__(self, members: Iterable[tuple[str, Any]]) -> None:
        super().__init__([(_whole(name), member) for name, member in members])


def _duplicates(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, _Pairs):
        seen = set()
        for key, member in value:
            place = f"{path}.{key}" if path else key
            if key in seen:
                yield place
            seen.add(key)
            if isinstance(member, list):
                yield from _duplicates(member, place)
    elif isinstance(value, list):
        for position, member in enumerate(value):
            if isinstance(member, list):
                yield from _duplicates(member, f"{path}[{position}]")


_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"{}[]"))
# One deeper, one less deep, as signed bytes.
_STEPS = bytes.maketrans(b"{[}]", b"\x01\x01\xff\xff")


def _depth(body: bytes) -> int:
    """How deep a well-formed document goes."""
    steps = array("b", _TEXT.sub(b"", body).translate(_STEPS, _NOT_BRACKETS))
    return max(accumulate(steps), default=0)


def _decode_slowly(body: bytes, error: orjson.JSONDecodeError) -> Any:
    """Go's words for what is wrong; or the value, where Go is more lenient than orjson (lone surrogates)."""
    if len(body) > _EXACT_ERRORS_UP_TO:
        if _depth(body) > MAX_DEPTH:
            raise DecodeError("exceeded max depth")
        offset = len(error.doc[: error.pos].encode("utf-8", "replace")) if error.doc else 0
        if offset >= len(body):
            raise DecodeError("unexpected end of JSON input")
        raise DecodeError(f"invalid character {_quoted_char(chr(body[offset]))} looking for beginning of value")
    problem = _syntax_error(body.decode("latin-1"))
    if problem is not None:
        raise DecodeError(problem)
    try:
        value = _with_whole_characters(json.loads(_in_utf8(body)))
    except (OverflowError, RecursionError):
        raise DecodeError("json: cannot unmarshal number into Go value of type float64") from None
    return value


def _in_utf8(body: bytes) -> bytes:
    """The body itself, or with U+FFFD for each byte that belongs to no character, as Go reads strings."""
    try:
        body.decode()
    except UnicodeDecodeError:
        text = body.decode(errors="surrogateescape")
        return re.sub("[\udc80-\udcff]", "\ufffd", text).encode()
    return body


def _whole(text: str) -> str:
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _with_whole_characters(value: Any) -> Any:
    """Lone halves of surrogate pairs become U+FFFD, as Go has it."""
    if isinstance(value, str):
        return _whole(value)
    if isinstance(value, dict):
        return {_whole(key): _with_whole_characters(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_with_whole_characters(member) for member in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        value = float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise DecodeError("json: cannot unmarshal number into Go value of type float64")
    return value


_SPACES = re.compile(r"[ \t\r\n]*")
_STRING_BODY = re.compile(r'(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)?(?:\.[0-9]*)?(?:[eE][+-]?[0-9]*)?")
_BEGIN_VALUE = "looking for beginning of value"
_BEGIN_KEY = "looking for beginning of object key string"


def _syntax_error(text: str) -> str | None:
    """What Go's scanner says of a document given as one character for each byte; None where it finds no fault."""
    text += " "  # with which Go's scanner looks whether a document may end
    position = 0
    # Of each open object or array what must follow next; the outermost is the document itself.
    stack = ["value"]
    while True:
        position = _SPACES.match(text, position).end()  # type: ignore[union-attr]
        state = stack[-1]
        if position == len(text):
            return None if state == "end" else "unexpected end of JSON input"
        char = text[position]
        if state == "end":
            return _invalid(char, "after top-level value")
        if state in ("key", "first key"):
            if char == "}" and state == "first key":
                stack.pop()
                position += 1
                continue
            if char != '"':
                return _invalid(char, _BEGIN_KEY)
            problem, position = _scan_string(text, position)
            stack[-1] = "colon"
        elif state == "colon":
            if char != ":":
                return _invalid(char, "after object key")
            problem, position = None, position + 1
            stack[-1] = "member"
        elif state in ("after member", "after element"):
            closing = "}" if state == "after member" else "]"
            if char not in (",", closing):
                where = "after object key:value pair" if state == "after member" else "after array element"
                return _invalid(char, where)
            problem, position = None, position + 1
            if char == closing:
                stack.pop()
            else:
                stack[-1] = "key" if state == "after member" else "element"
        elif char == "]" and state == "first element":
            stack.pop()
            problem, position = None, position + 1
        else:
            stack[-1] = {"value": "end", "member": "after member"}.get(state, "after element")
            if char in "{[":
                stack.append("first key" if char == "{" else "first element")
                problem, position = None, position + 1
                if len(stack) > MAX_DEPTH + 1:
                    return "exceeded max depth"
            else:
                problem, position = _scan_scalar(text, position)
        if problem is not None:
            return problem


def _scan_scalar(text: str, position: int) -> tuple[str | None, int]:
    char = text[position]
    if char == '"':
        return _scan_string(text, position)
    if char in "-0123456789":
        return _scan_number(text, position)
    for word in ("true", "false", "null"):
        if char == word[0]:
            for offset, expected in enumerate(word):
                if position + offset >= len(text):
                    return "unexpected end of JSON input", position
                found = text[position + offset]
                if found != expected:
                    return _invalid(found, f"in literal {word} (expecting '{expected}')"), position
            return None, position + len(word)
    return _invalid(char, _BEGIN_VALUE), position


def _scan_string(text: str, position: int) -> tuple[str | None, int]:
    end = _STRING_BODY.match(text, position + 1).end()  # type: ignore[union-attr]
    if end >= len(text):
        return "unexpected end of JSON input", end
    if text[end] == '"':
        return None, end + 1
    if text[end] != "\\":
        return _invalid(text[end], "in string literal"), end
    escaped = text[end + 1 : end + 2]
    if not escaped:
        return "unexpected end of JSON input", end
    if escaped != "u":
        return _invalid(escaped, "in string escape code"), end
    for char in text[end + 2 : end + 6]:
        if char not in "0123456789abcdefABCDEF":
            return _invalid(char, "in \\u hexadecimal character escape"), end
    return "unexpected end of JSON input", end


def _scan_number(text: str, position: int) -> tuple[str | None, int]:
    number = _NUMBER.match(text, position).group()  # type: ignore[union-attr]
    end = position + len(number)
    follows = text[end : end + 1]
    where = {
        "-": "in numeric literal",
        ".": "after decimal point in numeric literal",
        "e": "in exponent of numeric literal",
        "+": "in exponent of numeric literal",
    }.get("e" if number[-1] in "eE" or number[-2:].lower() == "e-" else number[-1])
    # `-.5` and `.e` stop at the first character that is not a digit where one must be.
    broken = re.search(r"^-(?=[.eE])|\.(?=[eE])", number)
    if broken:
        where = "in numeric literal" if broken.group() == "-" else "after decimal point in numeric literal"
        follows = number[broken.end()]
    if where is None:
        return None, end
    return (_invalid(follows, where) if follows else "unexpected end of JSON input"), end


def _invalid(char: str, where: str) -> str:
    return f"invalid character {_quoted_char(char)} {where}"


def _quoted_char(char: str) -> str:
    """One byte as Go's scanner shows it."""
    if char == "'":
        return "'\\''"
    if char in ESCAPES and char != '"':
        return f"'{ESCAPES[char]}'"
    code = ord(char)
    if code < 0x20 or code == 0x7F:
        return f"'\\x{code:02x}'"
    return f"'{char}'" if char.isprintable() else f"'\\u{code:04x}'"


def decode_yaml(body: bytes) -> tuple[Any, list[str]]:
    """The value of the first YAML document as JSON would hold it, and what Go's strict decoder says of duplicates.

    Raises DecodeError. See `yamlcodec`, which is imported when it is first needed.
    """
    from kubegate.api import yamlcodec

    return yamlcodec.decode(body)


def encode_yaml(value: Any) -> bytes:
    """Keys in order, as kube-apiserver answers `Accept: application/yaml`."""
    from kubegate.api import yamlcodec

    return yamlcodec.encode(value)


def encode_protobuf(value: Mapping[str, Any]) -> bytes:
    """An object in its envelope. See `protobufwriter`, which is imported when it is first needed."""
    from kubegate.api import protobufwriter

    return protobufwriter.document(value)


# --- objects ---------------------------------------------------------------------------------------------------

_SCHEME = "k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30"
# Definitions of custom resources are read by a server of their own, which knows no other kinds.
_APIEXTENSIONS = "apiextensions.k8s.io"
_APIEXTENSIONS_SCHEME = "k8s.io/apiextensions-apiserver/pkg/apiserver/apiserver.go:55"
_DELETE_OPTIONS = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"
_TYPE_META = 'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'


class Document(Struct, frozen=True):
    """A decoded body that is an object (or empty).

    `duplicates` are texts of strict decoding about fields that are there twice, as Strict refuses with them; what
    `warnings` makes of them is told where they are only warned about.
    """

    value: Object
    duplicates: tuple[str, ...] = ()
    body: bytes = b""
    is_yaml: bool = False

    def strict_errors(self, unknown: Sequence[str] = (), raw: Callable[[Place], bool] | None = None) -> list[str]:
        """Duplicate and `unknown` fields (paths) as strict decoding tells them: in the order in which it meets them.

        YAML's duplicates come first and in one text; its fields are met in the order of their names. `raw` tells of
        what it does not look into.
        """
        if self.is_yaml:
            return [*self.duplicates, *(f"unknown field {quoted(path)}" for path in sorted(unknown, key=_by_place))]
        if not self.duplicates:
            return [f"unknown field {quoted(path)}" for path in unknown]
        pairs = json.loads(self.body, object_pairs_hook=_Pairs)
        return list(dict.fromkeys(_strict(pairs, "", (), frozenset(unknown), raw)))[:_MAX_STRICT_ERRORS]

    def with_numbers_as_written(self) -> Any:
        """The value with numbers that keep their texts; None where it was not read from JSON."""
        if self.is_yaml or not self.body.lstrip().startswith(b"{"):
            return None
        try:
            return json.loads(self.body, parse_float=_WrittenNumber)
        except (ValueError, RecursionError):
            return None


Place = tuple[str | int, ...]
"""The way to a value: names of fields and indices."""


class _WrittenNumber(float):
    """A number that shows itself as it was written: `1.0`, `1e3`."""

    def __new__(cls, text: str) -> _WrittenNumber:
        number = super().__new__(cls, text)
        number.text = text
        return number

    text: str

    def __repr__(self) -> str:
        return self.text


def _strict(
    value: Any, path: str, place: Place, unknown: frozenset[str], raw: Callable[[Place], bool] | None
) -> Iterator[str]:
    """Nothing is said of what is below an unknown field, or where `raw` says so."""
    if isinstance(value, _Pairs):
        if raw is not None and raw(place):
            return
        seen = set()
        for key, member in value:
            name = f"{path}.{key}" if path else key
            if name in unknown:
                yield f"unknown field {quoted(name)}"
                continue
            if key in seen:
                yield f"duplicate field {quoted(name)}"
            seen.add(key)
            if isinstance(member, list):
                yield from _strict(member, name, (*place, key), unknown, raw)
    elif isinstance(value, list):
        for position, member in enumerate(value):
            if isinstance(member, list):
                yield from _strict(member, f"{path}[{position}]", (*place, position), unknown, raw)


def _by_place(path: str) -> list[tuple[int, int, str]]:
    """Fields by name, elements by number."""
    parts = re.findall(r"\[([0-9]+)\]|([^.\[]+)", path)
    return [(0, int(number), "") if number else (1, 0, name) for number, name in parts]


def decode_document(body: bytes, media_type: str, *, strict: bool = True) -> Document:
    """A body as an object. `strict`: look for duplicate fields. Raises DecodeError in the words of kube-apiserver."""
    value: Any
    duplicates: list[str] = []
    if media_type == PROTOBUF:
        value = _decode_protobuf(body)
    elif media_type == YAML:
        value, lines = decode_yaml(body)
        duplicates = ["yaml: unmarshal errors:\n  " + "\n  ".join(lines)] if lines and strict else []
    else:
        try:
            value = decode_json(body)
        except DecodeError as error:
            raise DecodeError(f"couldn't get version/kind; json parse error: {error}") from None
        if not body.isascii():
            body = _in_utf8(body)
        if strict and (paths := duplicate_fields(body, value)):
            duplicates = [f"duplicate field {quoted(path)}" for path in paths]
    if value is None:
        value = {}
    if not isinstance(value, dict):
        found = f"json: cannot unmarshal {json_type(value)} into Go value of type {_TYPE_META}"
        raise DecodeError(f"couldn't get version/kind; json parse error: {found}")
    check_type_meta(value)
    return Document(value, tuple(duplicates), body, media_type == YAML)


def check_type_meta(value: Mapping[str, Any]) -> None:
    """Raises DecodeError where apiVersion and kind are not what they must be."""
    api_version, kind = value.get("apiVersion"), value.get("kind")
    if api_version is not None and type(api_version) is not str:
        raise _no_text("apiVersion", api_version)
    if kind is not None and type(kind) is not str:
        raise _no_text("kind", kind)
    if api_version and api_version.count("/") > 1:
        raise DecodeError(f"unexpected GroupVersion string: {api_version}")


def _no_text(name: str, value: Any) -> DecodeError:
    found = f"json: cannot unmarshal {json_type(value)} into Go struct field .{name} of type string"
    return DecodeError(f"couldn't get version/kind; json parse error: {found}")


def _decode_protobuf(body: bytes) -> Object:
    """An object whose envelope says what it is, in JSON form."""
    try:
        api_version, kind, raw = protobuf.envelope(body)
        group, version = split_api_version(api_version)
        # Options belong to every group, and to none in particular.
        schema = named(_DELETE_OPTIONS) if kind == "DeleteOptions" else schema_for(group, version, kind)
        if schema is None or not protobuf.known(schema.name):
            raise DecodeError(not_registered(kind, api_version))
        return {**protobuf.decode(raw, schema.name), "apiVersion": api_version, "kind": kind}
    except protobuf.ProtobufError as error:
        raise DecodeError(str(error)) from None


def decode_object(
    body: bytes,
    media_type: str,
    expected: tuple[str, str, str],
    registered: Callable[[str, str, str], bool] | None,
    *,
    strict: bool = True,
) -> Document:
    """The body of a create or an update: an object of the kind `expected` (group, version, kind).

    A built-in object need not say what it is; afterwards it has apiVersion and kind. `registered` tells whether there
    is a built-in kind of that group, version and name; None where a custom resource is expected, which says its kind;
    who reads it further looks whether that, and its version, is what is expected. Raises StatusError 400.
    """
    try:
        document = decode_document(body, media_type, strict=strict)
    except DecodeError as error:
        raise unrecognized(expected[2], str(error), body) from None
    value = document.value
    itself = group_version(*expected[:2])
    kind, api_version = value.get("kind"), value.get("apiVersion")
    if kind == expected[2] and api_version == itself:
        return document
    if registered is None:
        if not kind:
            missing = f"Object 'Kind' is missing in '{body.decode('utf-8', 'replace')}'"
            if strict:
                raise unrecognized(expected[2], missing, body)
            raise handled_as(expected[2], expected[1], expected[2], missing)
        return document
    if kind or api_version:
        check_kind(value, expected, registered)
    value["apiVersion"], value["kind"] = itself, expected[2]
    return document


def check_kind(
    value: Mapping[str, Any], expected: tuple[str, str, str], registered: Callable[[str, str, str], bool]
) -> None:
    """Raises StatusError 400 where an object says that it is of another kind or version than `expected`."""
    said = said_kind(value, expected)
    if said == expected:
        return
    said_group, said_version, kind = said
    try:
        _check_said(said, expected, registered)
    except DecodeError as error:
        raise handled_as(kind, said_version, expected[2], str(error)) from None
    if (said_group, said_version) != expected[:2]:
        raise other_version(group_version(said_group, said_version), group_version(*expected[:2]))


def check_convertible(
    value: Mapping[str, Any], expected: tuple[str, str, str], registered: Callable[[str, str, str], bool]
) -> None:
    """Raises DecodeError where what an object says that it is cannot be made what is `expected`."""
    said = said_kind(value, expected)
    if said != expected:
        _check_said(said, expected, registered)


def _check_said(
    said: tuple[str, str, str], expected: tuple[str, str, str], registered: Callable[[str, str, str], bool]
) -> None:
    group, version, kind = said
    if expected[0] == _APIEXTENSIONS and (group != _APIEXTENSIONS or not registered(group, version, kind)):
        raise DecodeError(not_registered(kind, group_version(group, version), _APIEXTENSIONS_SCHEME))
    if not registered(group, version, kind):
        raise DecodeError(not_registered(kind, group_version(group, version)))
    if kind != expected[2]:
        raise DecodeError(f"converting ({version}.{kind}) to ({go_type(expected[0], expected[2])}): unknown conversion")


def said_kind(value: Mapping[str, Any], expected: tuple[str, str, str]) -> tuple[str, str, str]:
    """Group, version and kind of an object; what it does not say is what is expected."""
    kind, api_version = value.get("kind") or expected[2], value.get("apiVersion")
    if not api_version:
        return (*expected[:2], kind)
    group, version = split_api_version(api_version)
    if not version and group in ("", expected[0]):
        group, version = expected[:2]
    return group, version, kind


def other_version(said: str, expected: str) -> StatusError:
    """400 for an object that says that it is of another version."""
    return bad_request(f"the API version in the data ({said}) does not match the expected API version ({expected})")


def unrecognized(kind: str, error: str, body: bytes) -> StatusError:
    """400 for a body whose kind could not even be read."""
    return bad_request(f"the object provided is unrecognized (must be of type {kind}): {error} ({summary(body)})")


def handled_as(said_kind: str, version: str, kind: str, error: str) -> StatusError:
    """400 for a body whose kind is known and whose content does not fit."""
    return bad_request(f'{said_kind} in version "{version}" cannot be handled as a {kind}: {error}')


def strict_error(kind: str, version: str, errors: Iterable[str]) -> StatusError:
    """400 of fieldValidation=Strict."""
    return handled_as(kind, version, kind, "strict decoding error: " + ", ".join(errors))


def warnings(errors: Iterable[str]) -> list[str]:
    """What fieldValidation=Warn tells of strict errors: YAML's come several in one text."""
    found = []
    for error in errors:
        text = error.removeprefix("yaml: unmarshal errors:\n").removeprefix("yaml: ")
        found += [error] if text == error else [line.strip() for line in text.split("\n")]
    return found


def summary(body: bytes) -> str:
    """The beginning of a body: as it is where it looks like JSON, in hexadecimal otherwise."""
    if not body:
        return "<empty>"
    more = " ..." if len(body) > 30 else ""
    start = body[:30]
    return (start.decode("utf-8", "replace") if body[:1] == b"{" else start.hex()) + more


def json_type(value: Any) -> str:
    """A value's type as Go's decoder names it."""
    if isinstance(value, str):
        return "string"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, dict):
        return "object"
    return "array" if isinstance(value, list) else "number"


def split_api_version(api_version: str) -> tuple[str, str]:
    """Group and version: `apps/v1` -> (`apps`, `v1`), `v1` -> (``, `v1`)."""
    group, slash, version = api_version.rpartition("/")
    return (group, version) if slash else ("", api_version)


def group_version(group: str, version: str) -> str:
    return f"{group}/{version}" if group else version


# The packages of kube-apiserver's own types, where they are not called as the group begins.
_PACKAGES = {"": "core", "internal.apiserver.k8s.io": "apiserverinternal", "events.k8s.io": "core"}


def not_registered(kind: str, api_version: str, scheme: str = _SCHEME) -> str:
    """What is said of a kind that is none of kube-apiserver's own, or none in another `scheme`."""
    return f'no kind "{kind}" is registered for version "{api_version}" in scheme "{scheme}"'


def go_type(group: str, kind: str) -> str:
    """A kind's type inside kube-apiserver, as some errors tell it: `core.Secret`, `rbac.Role`."""
    return f"{_PACKAGES.get(group) or group.partition('.')[0]}.{kind}"


# --- writing ---------------------------------------------------------------------------------------------------


def encode_json(value: Any, *, pretty: bool = False) -> bytes:
    """`pretty` as kube-apiserver's `?pretty=true`: two spaces."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2) if pretty else orjson.dumps(value)
