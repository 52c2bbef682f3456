"""What a token must be before STS is asked: each thing that is wrong has its own reason, and nobody is called."""

from __future__ import annotations

import base64

import pytest
from aws_tokens import date, encoded, pairs, query, token
from hypothesis import given
from hypothesis import strategies as st

from kubegate.aws import endpoints
from kubegate.aws.arn import BadArn, canonical, without_path
from kubegate.aws.presigned import BadToken, Presigned, parse

NOW = 1_800_000_000.0
HOSTS = endpoints.sts_hosts()
HOST = "sts.us-east-1.amazonaws.com"


def read(text: str) -> Presigned:
    return parse(text, HOSTS, NOW)


def refused(text: str) -> str:
    with pytest.raises(BadToken) as caught:
        read(text)
    return caught.value.check


def of(changed: str) -> str:
    return encoded(changed)


def url(host: str = HOST, **changed: str | None) -> str:
    return f"https://{host}/?{query(pairs(NOW, **changed))}"


@pytest.mark.parametrize(
    "host",
    [
        HOST, "sts.amazonaws.com", "sts-fips.us-west-2.amazonaws.com", "sts.us-west-2.api.aws",
        "sts.cn-north-1.amazonaws.com.cn", "sts.cn-north-1.api.amazonwebservices.com.cn",
        "sts.us-gov-west-1.amazonaws.com", "sts.us-iso-east-1.c2s.ic.gov", "sts.us-isob-east-1.sc2s.sgov.gov",
    ],
)  # fmt: skip
def test_the_endpoints_of_sts_in_all_partitions_are_known(host: str) -> None:
    found = read(token(NOW, host))
    assert (found.host, found.access_key_id) == (host, "AKIAIOSFODNN7EXAMPLE")
    assert found.expires == NOW + 900


def test_a_partition_has_its_own_endpoints_alone() -> None:
    china = endpoints.sts_hosts(["aws-cn"])
    assert "sts.cn-north-1.amazonaws.com.cn" in china and HOST not in china
    with pytest.raises(ValueError, match="'aws-mars' is no partition of AWS"):
        endpoints.sts_hosts(["aws-mars"])


HOSTILE = {
    "another host": (of(url("example.com")), "host"),
    "a host that looks alike": (of(url("sts.us-east-1.amazonaws.com.example.com")), "host"),
    "a host that begins alike": (of(url("sts.amazonaws.com.evil.example")), "host"),
    "another service of AWS": (of(url("s3.us-east-1.amazonaws.com")), "host"),
    "a region that there is not": (of(url("sts.not-a-region.amazonaws.com")), "host"),
    "a port": (of(url(f"{HOST}:443")), "host"),
    "a user": (of(url(f"{HOST}@example.com")), "URL"),
    "a user before the host": (of(url(f"jane:x@{HOST}")), "URL"),
    "upper case": (of(url(HOST.upper())), "URL"),
    "a host of other letters": (of(url("sts.us-east-1.аmazonaws.com")), "encoding"),
    "a host in IDNA": (of(url("xn--sts-abc.us-east-1.amazonaws.com")), "host"),
    "no host": (of(url("")), "URL"),
    "a loopback address": (of(url("127.0.0.1")), "host"),
    "a metadata address": (of(url("169.254.169.254")), "host"),
    "http": (of(url().replace("https", "http")), "URL"),
    "no scheme": (of(url().removeprefix("https:")), "URL"),
    "a file": (of("file:///etc/passwd"), "URL"),
    "a path": (of(url().replace("/?", "/x?")), "URL"),
    "a path with dots": (of(url().replace("/?", "/../?")), "URL"),
    "two slashes": (of(url().replace("/?", "//?")), "URL"),
    "a fragment": (of(url() + "#x"), "URL"),
    "a backslash": (of(url().replace("/?", "\\@example.com/?")), "URL"),
    "a tab before the host": (of(url().replace("https://", "https://\t")), "URL"),
    "a line break in a value": (of(url() + "\r\nHost: example.com"), "URL"),
    "an encoded line break": (of(url(Version="2011\r\n")), "parameters"),
    "another parameter": (of(url() + "&Policy=x"), "parameters"),
    "a parameter twice": (of(url() + "&Action=GetCallerIdentity"), "parameters"),
    "a parameter in two cases": (of(url() + "&action=AssumeRole"), "parameters"),
    "a parameter in two cases, the other first": (
        of(url().replace("?", "?aCTION=GetCallerIdentity&")), "parameters"
    ),
    "a parameter whose name is encoded": (of(url().replace("Action=", "%41ction=")), "parameters"),
    "a parameter without a value": (of(url() + "&X-Amz-Security-Token"), "parameters"),
    "parameters apart by semicolons": (of(url().replace("&", ";")), "parameters"),
    "an empty part": (of(url() + "&"), "parameters"),
    "a plus sign": (of(url() + "&X-Amz-Security-Token=a+b"), "parameters"),
    "a broken escape": (of(url() + "&X-Amz-Security-Token=%gh"), "parameters"),
    "bytes that are no text": (of(url() + "&X-Amz-Security-Token=%ff%fe"), "parameters"),
    "another action": (of(url(Action="AssumeRole")), "action"),
    "no action": (of(url(Action=None)), "action"),
    "the cluster not signed": (of(url(X_Amz_SignedHeaders="host")), "signed headers"),
    "a header like the cluster's signed": (of(url(X_Amz_SignedHeaders="host;x-k8s-aws-i")), "signed headers"),
    "the host not signed": (of(url(X_Amz_SignedHeaders="x-k8s-aws-id")), "signed headers"),
    "expiry too long": (of(url(X_Amz_Expires="901")), "expires"),
    "expiry below nothing": (of(url(X_Amz_Expires="-1")), "expires"),
    "expiry in other digits": (of(url(X_Amz_Expires="٦")), "parameters"),
    "no expiry": (of(url(X_Amz_Expires=None)), "expires"),
    "expired": (of(url(X_Amz_Date=date(NOW - 901))), "date"),
    "from the future": (of(url(X_Amz_Date=date(NOW + 301))), "date"),
    "no date": (of(url(X_Amz_Date=None)), "date"),
    "no real date": (of(url(X_Amz_Date="20261399T000000Z")), "date"),
    "no credential": (of(url(X_Amz_Credential=None)), "credential"),
    "a credential that is none": (of(url(X_Amz_Credential="x/y")), "credential"),
    "4,097 characters": ("k8s-aws-v1." + "a" * (4097 - 11), "size"),
    "100 kB": ("k8s-aws-v1." + "a" * 100_000, "size"),
    "no base64": ("k8s-aws-v1.!!!", "encoding"),
    "padded base64": (of(url()) + "=", "encoding"),
    "one letter too many": ("k8s-aws-v1.aaaaa", "encoding"),
    "no ASCII": ("k8s-aws-v1.é", "encoding"),
    "nothing": ("k8s-aws-v1.", "encoding"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_token_is_refused_for_its_own_reason(name: str) -> None:
    """CVE-2022-2385: parameters twice, in two cases, changed who somebody was."""
    text, check = HOSTILE[name]
    assert refused(text) == check


def test_what_is_sent_is_written_anew() -> None:
    found = read(encoded(url().replace("/?", "?").replace("%3B", "%3b")))
    assert found.url.startswith(f"https://{HOST}/?Action=GetCallerIdentity&")
    assert "X-Amz-SignedHeaders=host%3Bx-k8s-aws-id" in found.url


def test_a_reason_holds_nothing_that_can_be_replayed() -> None:
    notes: list[str] = []
    parse(token(NOW), HOSTS, NOW, lambda check, found: notes.append(f"{check}: {found}"))
    assert "0123456789abcdef" not in " ".join(notes)
    assert notes[-1] == f"date: signed at {date(NOW)}, good for 900 s more"
    assert "0123456789abcdef" not in repr(read(token(NOW)))


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_any_text_is_a_good_token_or_refused(text: str) -> None:
    for each in (text, "k8s-aws-v1." + text, encoded(text.encode("utf-8", "surrogatepass"))):
        try:
            found = read(each)
        except BadToken as error:
            assert error.check
        else:
            assert found.host in HOSTS


@given(
    st.lists(
        st.tuples(
            st.sampled_from([name for name, _ in pairs(NOW)] + ["x-amz-date", "ACTION", "Host", "X-Amz-Target"]),
            st.sampled_from([value for _, value in pairs(NOW)]) | st.text(max_size=20),
        ),
        max_size=12,
    ),
    st.sampled_from([HOST, "sts.amazonaws.com", "evil.example", f"{HOST}.evil.example", f"evil.example#{HOST}"]),
    st.sampled_from(["/?", "?", "/x?", "/;?", "/#?", "/?&", "@evil.example/?", "\\@evil.example/?"]),
)
def test_whatever_parameters_come_no_host_is_called_that_is_not_on_the_list(
    given_pairs: list[tuple[str, str]], host: str, middle: str
) -> None:
    try:
        found = read(encoded(f"https://{host}{middle}{query(pairs(NOW) + given_pairs)}"))
    except BadToken:
        return
    assert found.host in HOSTS and found.url.startswith(f"https://{found.host}/?")
    names = [part.partition("=")[0].lower() for part in found.url.partition("?")[2].split("&")]
    assert len(names) == len(set(names))


@given(st.binary(min_size=1, max_size=60), st.integers(0, 400))
def test_a_good_token_with_some_bytes_changed_calls_no_other_host(noise: bytes, place: int) -> None:
    good = bytearray(base64.urlsafe_b64decode(token(NOW).removeprefix("k8s-aws-v1.") + "=="))
    good[place : place + len(noise)] = noise
    try:
        assert read(encoded(bytes(good))).host in HOSTS
    except BadToken as error:
        assert error.problem


@pytest.mark.parametrize(
    ("given_arn", "wanted"),
    [
        ("arn:aws:iam::111122223333:user/jane", "arn:aws:iam::111122223333:user/jane"),
        ("arn:aws:iam::111122223333:user/team/jane", "arn:aws:iam::111122223333:user/team/jane"),
        ("arn:aws:iam::111122223333:root", "arn:aws:iam::111122223333:root"),
        ("arn:aws:sts::111122223333:assumed-role/Dev/jane", "arn:aws:iam::111122223333:role/Dev"),
        ("arn:aws:sts::111122223333:assumed-role/Org/Team/Dev/jane", "arn:aws:iam::111122223333:role/Org/Team/Dev"),
        ("arn:aws-cn:sts::111122223333:assumed-role/Dev/jane", "arn:aws-cn:iam::111122223333:role/Dev"),
        ("arn:aws:sts::111122223333:federated-user/bob", "arn:aws:sts::111122223333:federated-user/bob"),
    ],
)
def test_a_session_of_a_role_is_that_role(given_arn: str, wanted: str) -> None:
    assert canonical(given_arn) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "", "jane", "arn:aws:iam::111122223333", "arn:aws-mars:iam::111122223333:user/jane",
        "arn:aws:iam::1111:user/jane", "arn:aws:s3:::bucket", "arn:aws:sts::111122223333:assumed-role/Dev",
        "arn:aws:sts::111122223333:assumed-role//jane", "arn:aws:iam::111122223333:group/dev",
        "arn:aws:iam::111122223333:user/", "arn:aws:iam::111122223333:user/j\nx",
    ],
)  # fmt: skip
def test_what_is_no_identity_has_no_canonical_name(text: str) -> None:
    with pytest.raises(BadArn):
        canonical(text)


def test_a_role_may_be_named_with_its_path() -> None:
    assert without_path("arn:aws:iam::111122223333:role/team/Dev") == "arn:aws:iam::111122223333:role/Dev"
    assert without_path("arn:aws:iam::111122223333:user/team/jane") == "arn:aws:iam::111122223333:user/team/jane"
