"""Whatever is sent, it is either understood or refused: nothing else comes out."""

from __future__ import annotations

import base64
import contextlib
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from kubegate.api.status import StatusError
from kubegate.authentication import AuthenticationError, Headers, Request, bearer, intersect, jose
from kubegate.authentication.impersonation import wanted

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def segment(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@settings(deadline=None)
@given(st.text() | st.tuples(JSON, JSON, st.binary()))
def test_a_token_is_taken_apart_or_refused(made: object) -> None:
    text = made if isinstance(made, str) else ""
    if isinstance(made, tuple):
        head, claims, signature = made
        text = ".".join((segment(json.dumps(head).encode()), segment(json.dumps(claims).encode()), segment(signature)))
    with contextlib.suppress(jose.BadToken):
        token = jose.parse(text)
        assert isinstance(token.claims, dict)
        assert not jose.verify(token, [])


@given(st.text(alphabet="\t\n\v\f\r \x85\xa0BearerbEARER.-_aey=", max_size=30))
def test_a_header_gives_a_token_without_space_in_it_or_none(header: str) -> None:
    token = bearer.token_of(Request("GET", "/", Headers.of([("authorization", header)])))
    assert " " not in token
    assert token in header


@given(st.lists(st.text(max_size=60), max_size=4))
def test_subprotocols_are_read_or_refused(headers: list[str]) -> None:
    with contextlib.suppress(AuthenticationError):
        token, others = bearer.websocket_token([*headers, f"x, {bearer.PROTOCOL_PREFIX}{segment(b'token')}"])
        assert token == "token"
        assert "x" in others


NAMES = st.sampled_from(["impersonate-user", "impersonate-group", "impersonate-uid"]) | st.text(max_size=8).map(
    lambda key: f"impersonate-extra-{key.lower()}"
)


@given(st.lists(st.tuples(NAMES, st.text(max_size=5)), max_size=5))
def test_impersonation_headers_name_somebody_or_nobody_or_are_refused(headers: list[tuple[str, str]]) -> None:
    try:
        found = wanted(headers)
    except StatusError as error:
        assert error.code == 400
    else:
        assert found is None or found.name


@given(st.lists(st.sampled_from("abc")), st.lists(st.sampled_from("abcd")))
def test_audiences_granted_are_wanted_and_offered(offered: list[str], asked: list[str]) -> None:
    granted = intersect(tuple(offered), tuple(asked))
    assert set(granted) == set(offered) & set(asked)
    assert list(granted) == [audience for audience in asked if audience in offered]
