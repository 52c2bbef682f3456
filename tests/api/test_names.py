"""Names: which are well formed, and in which words the others are refused."""

from __future__ import annotations

import pytest

from kubegate.api import names

LABEL_KEY = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
    "(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)


@pytest.mark.parametrize(
    ("check", "good"),
    [
        (names.is_dns1123_label, ["a", "0", "a-b", "a" * 63]),
        (names.is_dns1123_subdomain, ["a", "a.b-c.d", "1.2", "a" * 253]),
        (names.is_dns1035_label, ["a", "a-1"]),
        (names.is_qualified_name, ["a", "A_b.c", "example.com/Name", "a" * 63]),
        (names.is_valid_label_value, ["", "a", "A_b.c", "12345"]),
        (names.is_config_map_key, ["a", ".a", "A_b-c"]),
        (names.is_env_var_name, ["a", "a b", "1a"]),
        (names.is_http_header_name, ["X-A"]),
        (names.is_valid_port_name, ["http", "a-1", "1-a"]),
        (names.is_valid_ip, ["1.2.3.4", "::1", "2001:db8:0:0::0001"]),
        (names.is_valid_cidr, ["1.0.0.0/8", "::/0"]),
        (names.is_wildcard_dns1123_subdomain, ["*.example.com"]),
        (names.path_segment_name, ["system:node", "a b", "..."]),
    ],
)
def test_well_formed_values_have_no_errors(check, good):
    assert [(value, check(value)) for value in good if check(value)] == []


def test_a_name_that_is_too_long_is_told_in_characters_and_a_label_in_bytes():
    assert names.is_dns1123_label("a" * 64) == ["must be no more than 63 characters"]
    assert names.is_dns1123_subdomain("a" * 254) == ["must be no more than 253 characters"]
    assert names.is_valid_label_value("a" * 64) == ["must be no more than 63 bytes"]
    assert names.is_qualified_name("a" * 64) == ["name part must be no more than 63 bytes"]


def test_a_label_with_dots_is_told_so():
    assert names.is_dns1123_label("1.two") == ["must not contain dots"]


def test_label_keys_are_checked_in_their_parts():
    assert names.is_qualified_name("a%ZZ") == [f"name part {LABEL_KEY}"]
    assert names.is_qualified_name("/a") == ["prefix part must be non-empty"]
    assert names.is_qualified_name("a/") == ["name part must be non-empty", f"name part {LABEL_KEY}"]
    assert names.is_qualified_name("a/b/c")[0].startswith("a valid label key must consist of")
    assert names.is_qualified_name("A/b")[0].startswith("prefix part a lowercase RFC 1123 subdomain")


def test_names_that_only_go_into_a_path_may_be_nearly_anything():
    assert names.path_segment_name("..") == ["may not be '..'"]
    assert names.path_segment_name("a/b%") == ["may not contain '/'", "may not contain '%'"]
    assert names.path_segment_name("..", prefix=True) == []


def test_keys_of_config_maps_do_not_climb_folders():
    assert names.is_config_map_key("..") == ["must not be '..'"]
    assert names.is_config_map_key("..a") == ["must not start with '..'"]
    assert names.is_config_map_key("a/b")[0].startswith("a valid config key must consist of alphanumeric characters")


def test_ports():
    assert names.is_valid_port_num(0) == ["must be between 1 and 65535, inclusive"]
    assert names.is_valid_port_name("-1--") == [
        "must contain at least one letter (a-z)",
        "must not contain consecutive hyphens",
        "must not begin or end with a hyphen",
    ]
    assert "must be no more than 15 characters" in names.is_valid_port_name("a" * 16)


@pytest.mark.parametrize("bad", ["", "1.2.3", "1.2.3.256", "::g", "1.2.3.4/8", "fe80::1%eth0", "1.2.3.4.5"])
def test_addresses_that_are_none(bad):
    assert names.is_valid_ip(bad) == ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]


@pytest.mark.parametrize("bad", ["", "1.2.3.4", "1.2.3.4/33", "::/129", "1.2.3.4/-1", "1.2.3.4/a"])
def test_networks_that_are_none(bad):
    assert names.is_valid_cidr(bad) == ["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"]


def test_addresses_that_others_may_read_otherwise_are_borne_with_only_where_they_were_before():
    assert names.is_valid_ip("010.1.1.1") == ["must not have leading 0s"]
    assert names.is_valid_ip("::ffff:1.2.3.4") == ["must not be an IPv4-mapped IPv6 address"]
    assert names.is_valid_cidr("1.2.3.0/024") == ["must not have leading 0s in IP or prefix length"]
    assert names.is_valid_cidr("::ffff:1.2.3.0/120") == ["must not have an IPv4-mapped IPv6 address"]
    assert names.is_valid_cidr("1.2.3.4/24") == ["must not have bits set beyond the prefix length"]
    assert names.is_valid_ip("010.1.1.1", borne=True) == names.is_valid_cidr("1.2.3.4/24", borne=True) == []


def test_addresses_in_an_unusual_form_are_warned_of():
    assert names.ip_warnings("1.2.3.4", "f") == names.ip_warnings("x", "f") == []
    assert names.ip_warnings("010.2.3.4", "f") == ['f: non-standard IP address "010.2.3.4" is invalid: use "10.2.3.4"']
    [text] = names.ip_warnings("2001:db8:0:0::2", "f")
    assert text == 'f: IPv6 address "2001:db8:0:0::2" should be in RFC 5952 canonical format ("2001:db8::2")'
    assert names.cidr_warnings("2001:db8::/64", "f") == names.cidr_warnings("x", "f") == []
    [text] = names.cidr_warnings("192.12.2.8/24", "f")
    assert text.endswith('is ambiguous in this context (should be "192.12.2.0/24" or "192.12.2.8/32"?)')
    [text] = names.cidr_warnings("192.12.2.0/024", "f")
    assert text == 'f: non-standard CIDR value "192.12.2.0/024" is invalid: use "192.12.2.0/24"'
    [text] = names.cidr_warnings("::ffff:1.2.3.0/120", "f")
    assert text == 'f: non-standard CIDR value "::ffff:1.2.3.0/120" is invalid: use "1.2.3.0/24"'
    [text] = names.cidr_warnings("2001:db8:0:0::/64", "f")
    assert text.endswith('should be in RFC 5952 canonical format ("2001:db8::/64")')


def test_very_long_names_are_checked_in_linear_time():
    hostile = "a" * 1_000_000 + "!"
    for check in (names.is_qualified_name, names.is_valid_label_value, names.is_dns1123_subdomain):
        assert check(hostile)


@pytest.mark.parametrize("name", ["a" * 63, "a" * 253 + "/b", "a/" + "b" * 63, "a-b.c--d/A_.-b", "0.1/0"])
def test_qualified_names_as_long_as_they_may_be_are_good(name: str) -> None:
    assert names.is_qualified_name(name) == []


@pytest.mark.parametrize(
    "name", ["a" * 64, "a" * 254 + "/b", "a/" + "b" * 64, "a..b/c", "-a/b", "a-/b", "a/b-", "a/b\n"]
)
def test_longer_and_other_qualified_names_are_not(name: str) -> None:
    assert len(names.is_qualified_name(name)) == 1
