"""PEM blocks and the first bytes of DER, read as Go reads them (encoding/pem, encoding/asn1) and in its words."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Sequence

from msgspec import Struct

_BEGIN, _END, _DASHES = b"-----BEGIN ", b"-----END ", b"-----"
_BLANK = re.compile(rb"[ \t\r\n]+")


class Block(Struct, frozen=True):
    """What stands between BEGIN and END, decoded."""

    kind: str
    data: bytes
    headers: bool


def blocks(text: bytes) -> Iterator[Block]:
    """Every block in a text, in order; what stands around them, and what only looks like one, is passed over.

    In a time that grows with the text, whatever is in it: where a block ends is looked for once.
    """
    at = end = 0
    while True:
        if not text.startswith(_BEGIN, at):
            at = text.find(b"\n" + _BEGIN, at) + 1
            if not at:
                return
        line, body = _line(text, at + len(_BEGIN))
        at = body
        if not line.endswith(_DASHES):
            continue
        kind, headers = line[: -len(_DASHES)], False
        while at < len(text):
            line, following = _line(text, at)
            if b":" not in line:
                break
            headers, at = True, following
        else:
            return
        if not headers and text.startswith(_END, at):
            end = at
        elif end <= at:
            end = text.find(b"\n" + _END, at) + 1
            if not end:
                return
        last, after = _line(text, end)
        if last != _END + kind + _DASHES or text.find(b"-", at, end) >= 0:
            continue
        try:
            data = base64.b64decode(_BLANK.sub(b"", text[at:end]), validate=True)
        except binascii.Error:
            continue
        yield Block(kind.decode("latin-1"), data, headers)
        at = after


def _line(text: bytes, start: int) -> tuple[bytes, int]:
    """The line that begins there, without its end, and where the next one begins."""
    end = text.find(b"\n", start)
    if end < 0:
        end = len(text)
    return text[start:end].removesuffix(b"\r").rstrip(b" \t"), end + 1


# ---------------------------------------------------------------------- the beginning of DER
SEQUENCE, INTEGER = 16, 2
_PARAMETERS = (
    "{optional:false explicit:false application:false private:false defaultValue:<nil> tag:<nil> stringType:0 "
    "timeType:0 set:false omitEmpty:false}"
)


class _Header(Struct, frozen=True):
    family: int
    tag: int
    length: int
    compound: bool
    size: int


def misread(der: bytes, expected: Sequence[tuple[int, str]]) -> str:
    """What asn1.Unmarshal finds wrong with the first elements, each the first within the one before; "" for nothing.

    `expected` are tags and the names of the Go types that they are read as.
    """
    for depth, (tag, name) in enumerate(expected):
        header = _header(der)
        if isinstance(header, str):
            return header
        if (header.family, header.tag, header.compound) != (0, tag, tag == SEQUENCE):
            shown = f"{{class:{header.family} tag:{header.tag} length:{header.length} "
            shown += f"isCompound:{str(header.compound).lower()}}}"
            return f"asn1: structure error: tags don't match ({tag} vs {shown}) {_PARAMETERS} {name} @{header.size}"
        end = header.size + header.length
        if end > len(der):
            return "asn1: syntax error: data truncated"
        if depth == 0 and end < len(der):
            return "asn1: syntax error: trailing data"
        der = der[header.size : end]
    return ""


def elements(der: bytes) -> Iterator[bytes]:
    """One DER element after the other; what is none comes as it is, as the last."""
    while der:
        header = _header(der)
        end = len(der) if isinstance(header, str) else header.size + header.length
        yield der[:end]
        der = der[end:]


def misread_certificate(der: bytes) -> str:
    """What crypto/x509 finds wrong with the first parts of a certificate; "" for nothing."""
    whole = _inside(der, SEQUENCE)
    if whole is None:
        return "x509: malformed certificate"
    signed = _inside(whole[0], SEQUENCE)
    if signed is None:
        return "x509: malformed tbs certificate"
    rest, after = signed
    if rest[:1] == b"\xa0":
        version = _inside(rest, 0, family=2)
        if version is None or _inside(version[0], INTEGER) is None:
            return "x509: malformed version"
        rest = version[1]
    serial = _inside(rest, INTEGER)
    if serial is None:
        return "x509: malformed serial number"
    inner, outer = _inside(serial[1], SEQUENCE), _inside(after, SEQUENCE)
    if inner is None:
        return "x509: malformed signature algorithm identifier"
    if outer is None:
        return "x509: malformed algorithm identifier"
    return "" if inner[0] == outer[0] else "x509: inner and outer signature algorithm identifiers don't match"


def _inside(der: bytes, tag: int, family: int = 0) -> tuple[bytes, bytes] | None:
    """What is in the first element, and what follows it; None where it is not one of this tag."""
    header = _header(der)
    if isinstance(header, str) or (header.family, header.tag) != (family, tag):
        return None
    end = header.size + header.length
    return None if end > len(der) else (der[header.size : end], der[end:])


def _header(der: bytes) -> _Header | str:
    """A tag and its length, or what is wrong with them."""
    if not der:
        return "asn1: syntax error: sequence truncated"
    first, place = der[0], 1
    tag = first & 0x1F
    if tag == 0x1F:
        tag = 0
        while True:
            if place >= len(der):
                return "asn1: syntax error: truncated base 128 integer"
            tag, place = tag << 7 | der[place] & 0x7F, place + 1
            if not der[place - 1] & 0x80:
                break
    if place >= len(der):
        return "asn1: syntax error: truncated tag or length"
    length, place = der[place], place + 1
    if length & 0x80:
        count = length & 0x7F
        if not count:
            return "asn1: syntax error: indefinite length found (not DER)"
        if place + count > len(der):
            return "asn1: syntax error: truncated tag or length"
        length, place = int.from_bytes(der[place : place + count], "big"), place + count
        if length >= 1 << 31:
            return "asn1: structure error: length too large"
        if der[place - count] == 0:
            return "asn1: structure error: superfluous leading zeros in length"
        if length < 0x80:
            return "asn1: structure error: non-minimal length"
    return _Header(first >> 6, tag, length, bool(first & 0x20), place)
