"""Answers as client-go reads them: Status bodies become errors, and status codes without one have standing texts.

Follows k8s.io/client-go/rest (Request.transformResponse, Result.Into) and apimachinery's NewGenericServerResponse.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Generic, TypeVar

import msgspec
import orjson
from msgspec import Struct

from kubegate.api.codec import (
    JSON,
    YAML,
    DecodeError,
    decode_document,
    decode_yaml,
    group_version,
    not_registered,
    said_kind,
)
from kubegate.api.field import quoted
from kubegate.api.gotypes import registered
from kubegate.api.normalize import TypeMismatch, normalize
from kubegate.api.schema import schema_for
from kubegate.remote.client import RemoteError, Response

Status = TypeVar("Status", bound=Struct)

_SHOWN = 2048  # of a text body, in the error

_TEXTS = {
    400: "the server rejected our request for an unknown reason",
    401: "the server has asked for the client to provide credentials",
    404: "the server could not find the requested resource",
    405: "the server does not allow this method on the requested resource",
    409: "the server reported a conflict",
    422: "the server rejected our request due to an error in our request",
    429: "the server has received too many requests and has asked us to try again later",
    503: "the server is currently unable to handle the request",
    504: "the server was unable to return a response in the time allotted, but may still be processing the request",
}
_RETRIED_REASONS = {"InternalError", "Timeout", "TooManyRequests"}
_RETRIED_CODES = {429, 500, 504}
# Whatever else a Status gives for its reason, its code counts instead.
_KNOWN_REASONS = {
    "Unauthorized", "Forbidden", "NotFound", "AlreadyExists", "Conflict", "Gone", "Invalid", "ServerTimeout",
    "StoreReadError", "Timeout", "TooManyRequests", "BadRequest", "MethodNotAllowed", "NotAcceptable",
    "RequestEntityTooLarge", "UnsupportedMediaType", "InternalError", "Expired", "ServiceUnavailable",
}  # fmt: skip
_CLIENT_GO = "k8s.io/client-go/kubernetes/scheme/register.go:82"
_NOT_CLIENT_GOS = {"apiextensions.k8s.io", "apiregistration.k8s.io"}

NO_OBJECT = (
    "couldn't get version/kind; json parse error: json: cannot unmarshal {} into Go value of type struct "
    '{{ APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }}'
)
"""Go's text for JSON that is no object, with what it is."""


def into(response: Response) -> dict[str, Any]:
    """The object in a successful answer, JSON or YAML. Raises RemoteError with client-go's text for all else."""
    check(response)
    found = decode(response)
    if found.get("kind") == "Status" and found.get("apiVersion") == "v1" and found.get("status") != "Success":
        raise _from_status(found, response)
    return found


def into_kind(response: Response, group: str, version: str, kind: str) -> dict[str, Any]:
    """The object of that kind in a successful answer, which need not say what it is. Raises RemoteError.

    Its fields are of their types; those that the kind does not have are left out. A version whose fields are not known
    is read as v1. A Status is an object of another kind, as any other.
    """
    check(response)
    try:
        found = decode_document(response.body, _media_type(response.body), strict=False).value
    except DecodeError as error:
        raise RemoteError(str(error), code=response.status) from None
    said = said_kind(found, (group, version, kind))
    if said != (group, version, kind):
        raise RemoteError(_of_another_kind(said, version, kind), code=response.status)
    schema = schema_for(group, version, kind) or schema_for(group, "v1", kind)
    if schema is None:
        return found
    try:
        return normalize(found, schema).value
    except TypeMismatch as error:
        place, of_type, wanted = str(error).rpartition(" of type ")
        text = f"{place}{of_type}{wanted.replace('v1.', f'{version}.')}"
        raise RemoteError(text, code=response.status) from None


def _of_another_kind(said: tuple[str, str, str], version: str, kind: str) -> str:
    said_group, said_version, said_word = said
    known = said == ("", "v1", "Status") or (said_group not in _NOT_CLIENT_GOS and registered(*said))
    if not known:
        return not_registered(said_word, group_version(said_group, said_version), _CLIENT_GO)
    return f"converting ({said_version}.{said_word}) to ({version}.{kind}): unknown conversion"


def _media_type(body: bytes) -> str:
    """client-go's decoder takes JSON and YAML, whatever an answer says that it is."""
    return JSON if body.lstrip()[:1] == b"{" else YAML


def check(response: Response) -> None:
    """Raises RemoteError where the answer is no success, or holds nothing."""
    unreadable = media_type_problem(response.content_type)
    if unreadable:
        raise RemoteError(f"Internal error occurred: {unreadable}", transient=True, code=response.status)
    if not 200 <= response.status <= 206:
        raise failure(response)
    if not response.body:
        kind = response.content_type or JSON
        text = f"0-length response with status code: {response.status} and content type: {kind}"
        raise RemoteError(text, code=response.status)


_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PARAMETER = re.compile(rf'\s*;\s*({_TOKEN.pattern})\s*=\s*("(?:[^"\\\r\n]|\\.)*"|{_TOKEN.pattern})')


@lru_cache(64)
def media_type_problem(content_type: str) -> str:
    """What Go's mime.ParseMediaType says to a Content-Type that is none; "" where it is one, or none is given."""
    if not content_type:
        return ""
    base, semicolon, rest = content_type.partition(";")
    kind, slash, subtype = base.strip().partition("/")
    found = _TOKEN.match(kind)
    if found is None:
        return "mime: no media type"
    if found.end() < len(kind):
        return "mime: expected slash after first token"
    if slash:
        found = _TOKEN.match(subtype)
        if found is None:
            return "mime: expected token after slash"
        if found.end() < len(subtype):
            return "mime: unexpected content after media subtype"
    rest, names = semicolon + rest, set()
    while parameter := _PARAMETER.match(rest):
        if parameter[1].lower() in names:
            return "mime: duplicate parameter name"
        names.add(parameter[1].lower())
        rest = rest[parameter.end() :]
    return "" if rest.strip() in ("", ";") else "mime: invalid media parameter"


class _NoMetadata(Struct, forbid_unknown_fields=True):
    creationTimestamp: None = None


class Reviews(Generic[Status]):
    """Answers that are one kind of review, of whose status a `Status` is made.

    What is right is decoded and checked in one step, in a tenth of the time. What that does not take is read again by
    `into_kind`, which knows what is left out, and what client-go says to the rest.
    """

    def __init__(self, group: str, version: str, kind: str, status: type[Status], spec: type[Struct]) -> None:
        """No field of `status` and `spec` is required; `spec` forbids fields that it does not know."""
        self._group, self._version, self._kind, self._status = group, version, kind, status
        self._api_version = f"{group}/{version}"
        fields: list[Any] = [
            ("kind", str),
            ("apiVersion", str),
            ("metadata", _NoMetadata | None, None),
            ("spec", spec | None, None),
            ("status", status | None, None),
        ]
        self._decoder = msgspec.json.Decoder(msgspec.defstruct(kind, fields))

    def read(self, response: Response) -> Status:
        """Raises RemoteError."""
        if response.status == 200 and not media_type_problem(response.content_type):
            try:
                found: Any = self._decoder.decode(response.body)
                if found.kind == self._kind and found.apiVersion == self._api_version:
                    return found.status or self._status()
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                pass
        said = into_kind(response, self._group, self._version, self._kind)
        return msgspec.convert(said.get("status") or {}, self._status)


def decode(response: Response) -> dict[str, Any]:
    """The body as an object with a kind. Raises RemoteError."""
    found = _parse(response)
    if found is None:
        found = {}
    if not isinstance(found, dict):
        raise RemoteError(NO_OBJECT.format(_go_kind(found)), code=response.status)
    kind, version = found.get("kind"), found.get("apiVersion")
    shown = response.body[:_SHOWN].decode("utf-8", "replace")
    if not kind:
        raise RemoteError(f"Object 'Kind' is missing in '{shown}'", code=response.status)
    if not version:
        raise RemoteError(f"Object 'apiVersion' is missing in '{shown}'", code=response.status)
    return found


def failure(response: Response) -> RemoteError:
    """What client-go makes of an answer that is no success: the body's own Status where there is one."""
    try:
        found = _parse(response)
    except RemoteError:
        found = None
    if isinstance(found, dict) and found.get("kind") == "Status" and found.get("status") == "Failure":
        return _from_status(found, response)
    code = response.status
    said = "unknown"
    if not response.content_type or response.content_type.startswith("text/"):
        said = response.body[:_SHOWN].decode("utf-8", "replace").strip()
    text = _TEXTS.get(code)
    if code in (403, 415):
        text = said
    elif code == 406:
        text = said if said not in ("", "unknown") else (
            "the server was unable to respond with a content type that the client supports"
        )  # fmt: skip
    elif text is None and code >= 500:
        text = f"an error on the server ({quoted(said)}) has prevented the request from succeeding"
    elif text is None:
        text = f"the server responded with the status code {code} but did not return more information"
    # every other 5xx counts as an internal error
    transient = code in _RETRIED_CODES or (code > 500 and code not in _TEXTS) or _asks_to_wait(response)
    return RemoteError(text, transient=transient, code=code)


def _from_status(status: dict[str, Any], response: Response) -> RemoteError:
    reason, code, details = status.get("reason"), status.get("code"), status.get("details")
    by_code = code == 429 or (code in _RETRIED_CODES and reason not in _KNOWN_REASONS)
    waits = isinstance(details, dict) and (reason == "ServerTimeout" or bool(details.get("retryAfterSeconds")))
    text = status.get("message")
    return RemoteError(
        text if isinstance(text, str) else "",
        transient=reason in _RETRIED_REASONS or by_code or waits,
        code=response.status,
    )


def _asks_to_wait(response: Response) -> bool:
    return response.headers.get("retry-after", "").isdigit() and response.headers["retry-after"] != "0"


def _parse(response: Response) -> Any:
    """JSON where it begins as an object does, YAML otherwise: client-go's universal decoder takes both."""
    body = response.body
    if body.lstrip()[:1] == b"{":
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as error:
            text = f"couldn't get version/kind; json parse error: {_go_json_error(body, error)}"
            raise RemoteError(text, code=response.status) from None
    try:
        return decode_yaml(body)[0]
    except DecodeError as error:
        raise RemoteError(str(error), code=response.status) from None


def _go_kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    return "array" if isinstance(value, list) else "string"


def _go_json_error(body: bytes, error: orjson.JSONDecodeError) -> str:
    """encoding/json's words for the two common ways of being broken."""
    if error.pos >= len(body.rstrip()) or "unexpected end" in error.msg:
        return "unexpected end of JSON input"
    character = body.decode("utf-8", "replace")[error.pos : error.pos + 1]
    return (
        f"invalid character {orjson.dumps(character).decode().replace(chr(34), chr(39))} looking for beginning of value"
    )
