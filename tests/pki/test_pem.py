"""PEM and the beginning of DER, read as Go reads them."""

from __future__ import annotations

import pytest

from kubegate.pki import pem

REQUEST = [(pem.SEQUENCE, "certificateRequest"), (pem.SEQUENCE, "tbsCertificateRequest"), (pem.INTEGER, "int")]
NONE = (
    "{optional:false explicit:false application:false private:false defaultValue:<nil> tag:<nil> stringType:0 "
    "timeType:0 set:false omitEmpty:false}"
)


def of(text: str) -> list[tuple[str, bytes, bool]]:
    return [(block.kind, block.data, block.headers) for block in pem.blocks(text.encode())]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("no block", []),
        ("-----BEGIN A-----\naGk=\n-----END A-----\n", [("A", b"hi", False)]),
        ("-----BEGIN A-----\r\naG\r\nk=\r\n-----END A-----", [("A", b"hi", False)]),
        ("before\n-----BEGIN A-----\naGk=\n-----END A-----  \nafter", [("A", b"hi", False)]),
        ("-----BEGIN A-----\nK: v\n\naGk=\n-----END A-----\n", [("A", b"hi", True)]),
        ("-----BEGIN A-----\n-----END A-----\n", [("A", b"", False)]),
        ("-----BEGIN A-----\naGk=\n-----END B-----\n", []),
        ("-----BEGIN A-----\n!!!!\n-----END A-----\n", []),
        ("-----BEGIN A----\naGk=\n-----END A-----\n", []),
        ("-----BEGIN A-----\naGk=\n", []),
        (" -----BEGIN A-----\naGk=\n-----END A-----\n", []),
        (
            "-----BEGIN A-----\naGk=\n-----END A-----\n-----BEGIN B-----\naG8=\n-----END B-----\n",
            [("A", b"hi", False), ("B", b"ho", False)],
        ),
    ],
)
def test_blocks_are_found_as_encoding_pem_finds_them(text: str, found: list[tuple[str, bytes, bool]]) -> None:
    assert of(text) == found


@pytest.mark.parametrize(
    ("der", "text"),
    [
        (b"", "asn1: syntax error: sequence truncated"),
        (
            b"hello",
            "asn1: structure error: tags don't match (16 vs {class:1 tag:8 length:101 isCompound:true}) "
            f"{NONE} certificateRequest @2",
        ),
        (b"\x30", "asn1: syntax error: truncated tag or length"),
        (b"\x30\x05\x30\x03", "asn1: syntax error: data truncated"),
        (b"\x30\x00", "asn1: syntax error: sequence truncated"),
        (b"\x30\x00\x00", "asn1: syntax error: trailing data"),
        (b"\x30\x80", "asn1: syntax error: indefinite length found (not DER)"),
        (b"\x30\x81\x05", "asn1: structure error: non-minimal length"),
        (b"\x30\x82\x00\x05", "asn1: structure error: superfluous leading zeros in length"),
        (
            b"\x30\x07\x30\x05\xa0\x03\x02\x01\x02",
            "asn1: structure error: tags don't match (2 vs {class:2 tag:0 length:3 isCompound:true}) "
            + NONE
            + " int @2",
        ),
        (b"\x30\x05\x30\x03\x02\x01\x00", ""),
    ],
)
def test_what_is_wrong_with_der_is_told_as_encoding_asn1_tells_it(der: bytes, text: str) -> None:
    assert pem.misread(der, REQUEST) == text


def _der(*parts: bytes, tag: int = 0x30) -> bytes:
    inside = b"".join(parts)
    assert len(inside) < 0x80
    return bytes([tag, len(inside)]) + inside


_ONE, _ALGORITHM = b"\x02\x01\x01", _der(b"\x06\x01\x2a")


@pytest.mark.parametrize(
    ("der", "why"),
    [
        (b"", "malformed certificate"),
        (b"hello", "malformed certificate"),
        (_der(_ONE)[:-1], "malformed certificate"),
        (_der(), "malformed tbs certificate"),
        (_der(_ONE), "malformed tbs certificate"),
        (_der(_der()), "malformed serial number"),
        (_der(_der(_der(tag=0xA0), _ONE)), "malformed version"),
        (_der(_der(_der(_ONE, tag=0xA0), _ALGORITHM)), "malformed serial number"),
        (_der(_der(_ONE)), "malformed signature algorithm identifier"),
        (_der(_der(_ONE, _ALGORITHM)), "malformed algorithm identifier"),
        (_der(_der(_ONE, _ALGORITHM), _der()), "inner and outer signature algorithm identifiers don't match"),
        (_der(_der(_ONE, _ALGORITHM), _ALGORITHM), ""),
    ],
)
def test_what_is_no_certificate_is_told_by_the_first_part_that_is_wrong(der: bytes, why: str) -> None:
    assert pem.misread_certificate(der) == (f"x509: {why}" if why else "")


def test_elements_follow_one_another() -> None:
    assert list(pem.elements(_ONE + _ALGORITHM + b"\x30")) == [_ONE, _ALGORITHM, b"\x30"]
    assert list(pem.elements(_ONE + b"\x02\x09\x01")) == [_ONE, b"\x02\x09\x01"]
