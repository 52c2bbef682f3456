"""Flags: kube-apiserver's forms are taken, what is wrong is named, and every flag is told in docs/flags.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubegate.server.options import Options, UsageError, parse

ROOT = Path(__file__).resolve().parents[2]


def test_a_value_may_follow_an_equals_sign_or_a_space() -> None:
    parsed = parse(["--secure-port=7443", "--bind-address", "127.0.0.2"])
    assert (parsed.options.secure_port, parsed.options.bind_address) == (7443, "127.0.0.2")
    assert parsed.given == {"secure-port", "bind-address"}


def test_a_boolean_needs_no_value() -> None:
    assert parse(["--enable-bootstrap-token-auth"]).options.enable_bootstrap_token_auth
    assert parse(["--anonymous-auth=false"]).options.anonymous_auth is False
    assert parse([]).options.anonymous_auth is None


def test_a_list_may_be_separated_by_commas_or_given_again() -> None:
    parsed = parse(["--service-account-key-file=a,b", "--service-account-key-file=c"])
    assert parsed.options.service_account_key_file == ["a", "b", "c"]
    assert parse(["--authorization-mode=RBAC"]).options.authorization_mode == ["RBAC"]


def test_an_unknown_flag_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(UsageError, match="unknown flag --secure-prt; the nearest known one is --secure-port"):
        parse(["--secure-prt=1"])


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("--secure-port=high", "--secure-port=high: expected a whole number"),
        ("--event-ttl=5", "--event-ttl=5: expected a duration"),
        ("--anonymous-auth=maybe", "--anonymous-auth=maybe: expected true or false"),
        ("--secure-port", "--secure-port wants a value"),
        ("serve", "'serve' is not a flag"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named_with_what_would_be_right(word: str, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        parse([word])


def test_a_flag_that_tunes_what_is_not_here_is_taken_and_told() -> None:
    parsed = parse(["--runtime-config=api/all=true", "--feature-gates", "A=true", "--secure-port=1"])
    assert parsed.ignored == ("runtime-config", "feature-gates")
    assert parsed.options.secure_port == 1


def test_every_flag_is_told_in_the_documentation() -> None:
    text = (ROOT / "docs/flags.md").read_text()
    missing = [name for name in Options.__struct_fields__ if f"`--{name.replace('_', '-')}`" not in text]
    assert not missing
