"""How answers of webhooks are read: as client-go reads them."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from kubegate.remote.client import RemoteError, Response
from kubegate.remote.result import Reviews, into, into_kind
from kubegate.remote.retry import Backoff, with_backoff

STATUS = b'{"kind":"Status","apiVersion":"v1","status":"Failure","message":"short and stout","code":418}'


def answer(status: int, body: bytes, kind: str = "application/json") -> Response:
    return Response(status, {"content-type": kind}, body)


def test_a_successful_answer_is_an_object_in_json_or_yaml() -> None:
    assert into(answer(201, b'{"kind":"A","apiVersion":"v1"}')) == {"kind": "A", "apiVersion": "v1"}
    assert into(answer(200, b"kind: A\napiVersion: v1")) == {"kind": "A", "apiVersion": "v1"}


@pytest.mark.parametrize(
    ("response", "text", "transient"),
    [
        (answer(404, b"no such hook", "text/plain"), "the server could not find the requested resource", False),
        (
            answer(500, b"so sorry", "text/plain"),
            'an error on the server ("so sorry") has prevented the request from succeeding',
            True,
        ),
        (answer(418, STATUS), "short and stout", False),
        (answer(302, b""), "the server responded with the status code 302 but did not return more information", False),
        (answer(400, b"{}"), "the server rejected our request for an unknown reason", False),
        (answer(403, b"go away", "text/plain"), "go away", False),
        (
            answer(429, b""),
            "the server has received too many requests and has asked us to try again later",
            True,
        ),
        (
            answer(502, 'bad "gateway" \u00a0\x7f'.encode(), "text/plain"),
            'an error on the server ("bad \\"gateway\\" \\u00a0\\x7f") has prevented the request from succeeding',
            True,
        ),
        (
            answer(503, b'{"kind":"Status","status":"Failure","reason":"ServerTimeout","message":"soon","details":{}}'),
            "soon",
            True,
        ),
        (answer(200, STATUS), "short and stout", False),
        (answer(204, b"", ""), "0-length response with status code: 204 and content type: application/json", False),
        (answer(200, b"{}", ";;"), "Internal error occurred: mime: no media type", True),
        (answer(500, b"{}", "text plain"), "Internal error occurred: mime: expected slash after first token", True),
        (answer(200, b"{}", "a/;"), "Internal error occurred: mime: expected token after slash", True),
        (answer(200, b"{}", "a/b c"), "Internal error occurred: mime: unexpected content after media subtype", True),
        (answer(200, b"{}", "a/b; charset="), "Internal error occurred: mime: invalid media parameter", True),
        (answer(200, b"{}", "a/b; x=1; X=2"), "Internal error occurred: mime: duplicate parameter name", True),
        (
            answer(200, b"", 'a; x="1;2" ;'),
            '0-length response with status code: 200 and content type: a; x="1;2" ;',
            False,
        ),
        (answer(200, b""), "0-length response with status code: 200 and content type: application/json", False),
        (answer(200, b"{"), "couldn't get version/kind; json parse error: unexpected end of JSON input", False),
        (answer(200, b'{"apiVersion":"v1"}'), "Object 'Kind' is missing in '{\"apiVersion\":\"v1\"}'", False),
        (
            answer(200, b"not json"),
            "couldn't get version/kind; json parse error: json: cannot unmarshal string into Go value of type struct "
            '{ APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }',
            False,
        ),
    ],
)
def test_other_answers_are_errors_in_client_gos_words(response: Response, text: str, transient: bool) -> None:
    with pytest.raises(RemoteError) as failure:
        into(response)
    assert (str(failure.value), failure.value.transient) == (text, transient)


SAID = '"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview"'


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"null",
        b'{"status":{"allowed":false}}',
        b'{"kind":"SubjectAccessReview"}',
        b'{"apiVersion":"authorization.k8s.io/v1","kind":""}',
        b"status: {allowed: false}",
    ],
)
def test_an_answer_need_not_say_which_review_it_is(body: bytes) -> None:
    assert not reviews().read(answer(200, body)).allowed


def test_an_answers_bytes_of_no_character_are_replaced() -> None:
    body = b'{"status":{"allowed":true,"reason":"a\xff"}}'
    assert reviews().read(answer(200, body)) == ReviewStatus(allowed=True, reason="a\ufffd")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (STATUS, "converting (v1.Status) to (v1.SubjectAccessReview): unknown conversion"),
        (b'{"kind":"Pod","apiVersion":"v1"}', "converting (v1.Pod) to (v1.SubjectAccessReview): unknown conversion"),
        (
            b'{"kind":"Foo","apiVersion":"v1"}',
            'no kind "Foo" is registered for version "v1" in scheme "k8s.io/client-go/kubernetes/sch'
            'eme/register.go:82"',
        ),
        (
            b'{"kind":1}',
            "couldn't get version/kind; json parse error: json: cannot unmarshal number into Go struct field .kind of "
            "type string",
        ),
        (b'{"apiVersion":"a/b/c"}', "unexpected GroupVersion string: a/b/c"),
        (
            f'{{{SAID},"status":[]}}'.encode(),
            "json: cannot unmarshal array into Go struct field SubjectAccessReview.status of type "
            "v1.SubjectAccessReviewStatus",
        ),
        (
            f"{{{SAID}}}x".encode(),
            "couldn't get version/kind; json parse error: invalid character 'x' after top-level value",
        ),
    ],
)
def test_an_answer_that_is_no_such_review_is_told_in_client_gos_words(body: bytes, text: str) -> None:
    with pytest.raises(RemoteError) as failure:
        reviews().read(answer(200, body))
    assert str(failure.value) == text


@pytest.mark.parametrize(
    ("reason", "code", "transient"),
    [
        ("", 500, True),
        ("Foo", 504, True),
        ("Foo", 503, False),
        ("BadRequest", 500, False),
        ("BadRequest", 429, True),
        ("Timeout", 400, True),
    ],
)
def test_the_code_of_a_status_counts_where_its_reason_says_nothing(reason: str, code: int, transient: bool) -> None:
    body = orjson.dumps({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code})
    with pytest.raises(RemoteError) as failure:
        reviews().read(answer(400, body))
    assert failure.value.transient is transient


class FakeClock:
    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> float:
        return 0.0

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 3))


async def test_transient_failures_are_tried_again_with_growing_pauses() -> None:
    clock, calls = FakeClock(), []

    async def fail() -> None:
        calls.append(1)
        raise RemoteError("boom", transient=True)

    with pytest.raises(RemoteError, match="boom"):
        await with_backoff(fail, clock=clock, backoff=Backoff(), chance=lambda: 0.0)
    assert (len(calls), clock.slept) == (5, [0.5, 0.75, 1.125, 1.688])


async def test_other_failures_are_not_tried_again() -> None:
    clock, calls = FakeClock(), []

    async def fail() -> None:
        calls.append(1)
        raise RemoteError("no", transient=False)

    with pytest.raises(RemoteError, match="no"):
        await with_backoff(fail, clock=clock)
    assert (len(calls), clock.slept) == (1, [])


class ReviewStatus(Struct):
    allowed: bool = False
    denied: bool = False
    reason: str = ""
    evaluationError: str = ""


class ReviewSpec(Struct, forbid_unknown_fields=True):
    user: str = ""


def reviews() -> Reviews[ReviewStatus]:
    return Reviews("authorization.k8s.io", "v1", "SubjectAccessReview", ReviewStatus, ReviewSpec)


SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=3) | st.just([]) | st.just({})
REVIEWS = st.fixed_dictionaries(
    {"kind": st.sampled_from(["SubjectAccessReview", "Status"]), "apiVersion": st.just("authorization.k8s.io/v1")},
    optional={
        "metadata": SCALARS | st.just({"creationTimestamp": None}) | st.just({"name": "x"}) | st.just({"name": 1}),
        "spec": SCALARS | st.dictionaries(st.sampled_from(["user", "groups", "uid", "x"]), SCALARS),
        "status": SCALARS | st.dictionaries(st.sampled_from(["allowed", "denied", "reason", "x"]), SCALARS),
        "x": SCALARS,
    },
)


@given(REVIEWS)
def test_a_review_is_read_at_once_as_it_is_read_step_by_step(review: dict[str, object]) -> None:
    group, version, kind = "authorization.k8s.io", "v1", "SubjectAccessReview"
    response = answer(200, orjson.dumps(review))

    def outcome(read: Callable[[], ReviewStatus]) -> object:
        try:
            return read()
        except RemoteError as error:
            return str(error)

    def step_by_step() -> ReviewStatus:
        return msgspec.convert(into_kind(response, group, version, kind).get("status") or {}, ReviewStatus)

    reviews = Reviews(group, version, kind, ReviewStatus, ReviewSpec)
    assert outcome(lambda: reviews.read(response)) == outcome(step_by_step)


def test_a_review_that_is_nested_without_end_is_refused() -> None:
    reviews = Reviews("authorization.k8s.io", "v1", "SubjectAccessReview", ReviewStatus, ReviewSpec)
    with pytest.raises(RemoteError):
        reviews.read(answer(200, b'{"x":' + b"[" * 100_000))


BOMB = "".join(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}' if level else 'x'] * 10)}]\n" for level in range(9))
HEAD = "kind: SubjectAccessReview\napiVersion: authorization.k8s.io/v1\n"


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,  # PyYAML would recurse until the process ends
        b"- " * 100_000,
        f"{HEAD}{BOMB}status: {{reason: *a8}}".encode(),
        f"{HEAD}status: &a {{x: *a}}".encode(),
        f"{HEAD}status: {{reason: 2001-99-99, denied: !!bool no-idea}}".encode(),
        f"{HEAD}status: {{reason: {'9' * 5000}}}".encode(),
        f"{HEAD}status: {{reason: !!set {{a, b}}}}".encode(),
        f"{HEAD}status: !!python/object/apply:os.system ['true']".encode(),
        HEAD.encode() + b"status: \xff",
        b"\0" * 100,
    ],
    ids=["deep", "deep lists", "a bomb", "a loop", "no day", "a long number", "a set", "code", "no text", "zeros"],
)
def test_yaml_that_is_meant_to_harm_is_refused_or_read_as_text(body: bytes) -> None:
    reviews = Reviews("authorization.k8s.io", "v1", "SubjectAccessReview", ReviewStatus, ReviewSpec)
    try:
        assert reviews.read(answer(200, body)).allowed is False
    except RemoteError as error:
        assert "Traceback" not in str(error)
