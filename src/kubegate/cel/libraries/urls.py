"""URLs: `url('https://example.org/')`. Which texts are URLs, and what is said of others, follows Go's net/url."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from kubegate.api.field import quoted
from kubegate.cel import types
from kubegate.cel.functions import Library
from kubegate.cel.types import CelType
from kubegate.cel.values import EvaluationError

library = Library()
overload = library.overload


@dataclass(frozen=True, slots=True)
class URL:
    """`host` with its port; `path` as it was written; `query` and `fragment` without their `?` and `#`."""

    cel_type: ClassVar[CelType] = types.parse("url")
    text: str
    scheme: str
    host: str
    path: str
    query: str
    user: str = ""
    fragment: str = ""


class URLError(ValueError):
    """The text is no URL; the message is that of Go's url.ParseRequestURI."""


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NOT_HOST = re.compile(r"[\x00-\x20\"<>\\^`{|}\x7f]")
_PORT = re.compile(r":[0-9]*")
_USER = re.compile(r"[A-Za-z0-9\-._~:!$&'()*+,;=%@]*")


def parse(text: str, *, reference: bool = False) -> URL:
    """What Go's url.ParseRequestURI, or with `reference` url.Parse, makes of a text. Raises URLError."""

    def wrong(why: str) -> URLError:
        return URLError(f"parse {quoted(text)}: {why}")

    if any(letter < " " or letter == "\x7f" for letter in text):
        raise wrong("net/url: invalid control character in URL")
    if not text and not reference:
        raise wrong("empty url")
    if text == "*":
        return URL(text, "", "", "*", "")
    if text.startswith(":"):
        raise wrong("missing protocol scheme")
    rest, _, fragment = text.partition("#") if reference else (text, "", "")
    found = _SCHEME.match(rest)
    scheme = found[0][:-1].lower() if found else ""
    rest = rest[found.end() :] if found else rest
    rest, _, query = rest.partition("?")
    if not rest.startswith("/"):
        if scheme:
            return URL(text, scheme, "", "", query, fragment=fragment)
        if not reference:
            raise wrong("invalid URI for request")
        if ":" in rest.partition("/")[0]:
            raise wrong("first path segment in URL cannot contain colon")
    host = user = ""
    if rest.startswith("//") and (scheme or not rest.startswith("///")):
        authority, slash, path = rest[2:].partition("/")
        rest = slash + path
        user, at, host = authority.rpartition("@")
        if at and not _USER.fullmatch(user):
            raise wrong("net/url: invalid userinfo")
        problem = _host_problem(host)
        if problem:
            raise wrong(problem)
    bad = _ESCAPE.search(rest)
    if bad:
        raise wrong(f"invalid URL escape {quoted(rest[bad.start() : bad.start() + 3])}")
    return URL(text, scheme, host, rest, query, user, fragment)


def _host_problem(host: str) -> str:
    port = ""
    if host.startswith("["):
        closing = host.rfind("]")
        if closing < 0:
            return "missing ']' in host"
        port = host[closing + 1 :]
    elif ":" in host:
        port = host[host.rindex(":") :]
    if port and not _PORT.fullmatch(port):
        return f"invalid port {quoted(port)} after host"
    bad = _NOT_HOST.search(host)
    if bad:
        return f"invalid character {quoted(bad[0])} in host name"
    escape = re.search(r"%..?", host)
    if escape and not host.startswith("["):
        return f"invalid URL escape {quoted(host[escape.start() : escape.start() + 3])}"
    return ""


@overload("url(string) -> url")
def _url(text: str) -> URL:
    try:
        return parse(text)
    except URLError as error:
        raise EvaluationError(f"URL parse error during conversion from string: {error}") from None


@overload("isURL(string) -> bool")
def _is_url(text: str) -> bool:
    try:
        parse(text)
    except URLError:
        return False
    return True


@overload("url.getScheme() -> string")
def _scheme(url: URL) -> str:
    return url.scheme


@overload("url.getHost() -> string")
def _host(url: URL) -> str:
    return url.host


@overload("url.getHostname() -> string")
def _hostname(url: URL) -> str:
    if url.host.startswith("["):
        return url.host[1 : url.host.rfind("]")]
    return url.host.rpartition(":")[0] if ":" in url.host else url.host


@overload("url.getPort() -> string")
def _port(url: URL) -> str:
    after = url.host[url.host.rfind("]") + 1 :]
    return after.rpartition(":")[2] if ":" in after else ""


@overload("url.getEscapedPath() -> string")
def _escaped_path(url: URL) -> str:
    from urllib.parse import quote

    return quote(url.path, safe="%/:@!$&'()*+,;=-._~[]")


@overload("url.getQuery() -> map(string, list(string))")
def _query(url: URL) -> dict[str, list[str]]:
    from urllib.parse import unquote_plus

    found: dict[str, list[str]] = {}
    for part in url.query.split("&"):
        if not part or ";" in part or _ESCAPE.search(part):
            continue
        key, _, value = part.partition("=")
        found.setdefault(unquote_plus(key), []).append(unquote_plus(value))
    return found
