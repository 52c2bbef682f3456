"""Answers of HTTP/1.1, however they are cut and however they are wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubegate.remote.errors import Failed
from kubegate.remote.http1 import Response, ResponseParser

BROKEN = "net/http: HTTP/1.x transport connection broken: "


def pieces_of(data: bytes, cuts: Iterable[int]) -> Iterator[bytes]:
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    for start, end in pairwise(places):
        yield data[start:end]


def parsed(
    data: bytes, cuts: Iterable[int] = (), method: str = "POST", limit: int = 10_000
) -> tuple[Response | None, ResponseParser]:
    parser, answer = ResponseParser(method, limit), None
    for piece in pieces_of(data, cuts):
        assert answer is None
        answer = parser.feed(piece)
    return answer, parser


def answered(data: bytes, cuts: Iterable[int] = (), method: str = "POST") -> Response:
    answer, _ = parsed(data, cuts, method)
    assert answer is not None
    return answer


WHOLE = (
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: a/b\r\n\r\nhello", 200, b"hello", True),
    (b"HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n", 404, b"", True),
    (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
    (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", False),
    (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", True),
    (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", False),
    (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", 200, b"hi", True),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n3;x=y\r\nabc\r\n0a\r\n0123456789\r\n0\r\n\r\n", 200,
     b"abc0123456789", True),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nDigest: y\r\n\r\n", 200, b"x", True),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n1\r\nx\r\n0\r\n\r\n", 200,
     b"x", False),
    (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\ny", 200, b"y", True),
    (b"HTTP/1.1 200 OK\r\nX-A: one\r\n  two\r\nContent-Length: 1\r\n\r\ny", 200, b"y", True),
)  # fmt: skip


@pytest.mark.parametrize(("data", "status", "body", "keep_alive"), WHOLE)
def test_an_answer_has_its_status_and_body_however_it_ends(
    data: bytes, status: int, body: bytes, keep_alive: bool
) -> None:
    answer, parser = parsed(data)
    assert answer is not None
    assert (answer.status, answer.body, parser.keep_alive) == (status, body, keep_alive)


@given(st.sampled_from(WHOLE), st.lists(st.integers(0, 120), max_size=8))
def test_it_is_the_same_however_it_is_cut(case: tuple[bytes, int, bytes, bool], cuts: list[int]) -> None:
    data, status, body, keep_alive = case
    answer, parser = parsed(data, cuts)
    assert answer is not None
    assert (answer.status, answer.body, parser.keep_alive) == (status, body, keep_alive)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.lists(st.integers(0, 400), max_size=8))
def test_chunks_are_put_together(pieces: list[bytes], cuts: list[int]) -> None:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""])
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
    assert answered(data, cuts).body == b"".join(pieces)


def test_headers_are_in_lower_case_and_the_last_of_two_counts() -> None:
    answer = answered(b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a:  2 \r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n")
    assert answer.headers == {"x-a": "2", "content-length": "0"}


def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    answer, parser = parsed(b"HTTP/1.1 200 OK\r\n\r\nall of", [25])
    assert answer is None
    assert parser.end() == Response(200, {}, b"all of")
    assert not parser.keep_alive


@pytest.mark.parametrize(
    "data", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
             b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"],
)  # fmt: skip
def test_what_is_cut_off_is_no_answer(data: bytes) -> None:
    assert parsed(data)[1].end() is None


def test_what_follows_an_answer_ends_the_connection() -> None:
    answer, parser = parsed(WHOLE[0][0] + b"HTTP/1.1 200 OK\r\n")
    assert answer is not None
    assert (answer.body, parser.keep_alive) == (b"hello", False)


def test_answers_to_head_and_connect_have_no_body() -> None:
    assert answered(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", method="HEAD").body == b""
    assert answered(b"HTTP/1.1 200 OK\r\n\r\n", method="CONNECT").body == b""


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"garbage\r\n\r\n", 'malformed HTTP response "garbage"'),
        (b"HTTP/1.1 20 OK\r\n\r\n", 'malformed HTTP status code "20"'),
        (b"ICY 200 OK\r\n\r\n", 'malformed HTTP version "ICY"'),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", 'malformed HTTP status code "101"'),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", 'malformed MIME header: missing colon: "no colon"'),
        (b"HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n", 'malformed MIME header line: "bad name: x"'),
        (b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n", 'bad Content-Length "+1"'),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
         'http: message cannot contain multiple Content-Length headers; got ["1" "2"]'),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", 'unsupported transfer encoding: "gzip"'),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
         "too many transfer encodings"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", "invalid byte in chunk length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxyz\r\n", "malformed chunked encoding"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 5000, "header line too long"),
    ],
)  # fmt: skip
def test_what_is_malformed_is_told_in_gos_words(data: bytes, text: str) -> None:
    with pytest.raises(Failed) as failure:
        parsed(data)
    assert str(failure.value) == BROKEN + text


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 10_001,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n" + b"x" * 10_001,
    ],
)
def test_no_more_is_kept_than_may_come(data: bytes) -> None:
    with pytest.raises(Failed, match="the answer is larger than 10000 bytes"):
        parsed(data)


def test_headers_without_end_are_refused() -> None:
    parser = ResponseParser("POST", 10)
    parser.feed(b"HTTP/1.1 200 OK\r\n")
    with pytest.raises(Failed, match="server response headers exceeded"):
        for _ in range(200):
            parser.feed(b"X-A: " + b"y" * 1000 + b"\r\n")


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=4))
def test_whatever_comes_is_an_answer_or_a_failure(noise: bytes, cuts: list[int]) -> None:
    for data in (
        noise,
        b"HTTP/1.1 200 OK\r\n" + noise,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + noise,
    ):
        parser = ResponseParser("POST", 1000)
        with contextlib.suppress(Failed):
            for piece in pieces_of(data, cuts):
                if parser.feed(piece) is not None:
                    break
