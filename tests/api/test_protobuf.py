"""Objects in protobuf, as typed Go clients send them."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubegate.api import negotiate, protobuf
from kubegate.api.normalize import complete, read
from kubegate.api.protobuf import ProtobufError
from kubegate.api.schema import schema_for
from kubegate.api.status import StatusError


def varint(value):
    value &= (1 << 64) - 1
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def number(field, value):
    return varint(field << 3) + varint(value)


def part(field, *values):
    joined = b"".join(value.encode() if isinstance(value, str) else value for value in values)
    return varint(field << 3 | 2) + varint(len(joined)) + joined


def body(api_version, kind, message):
    return b"k8s\x00" + part(1, part(1, api_version), part(2, kind)) + part(2, message) + part(3, "") + part(4, "")


def of(api_version, kind, message):
    group, _, version = api_version.rpartition("/")
    obj, warnings = read(body(api_version, kind, message), negotiate.PROTOBUF, (group, version, kind))
    assert warnings == []
    return obj


# A name, an empty namespace, the zero time and a label.
META = part(1, part(1, "a") + part(3, "") + part(8, b"") + part(11, part(1, "k"), part(2, "v")))


def test_a_config_map():
    message = META + part(2, part(1, "color"), part(2, "red")) + part(3, part(1, "blob"), part(2, b"\x00\xff"))
    assert of("v1", "ConfigMap", message) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a", "labels": {"k": "v"}},
        "data": {"color": "red"},
        "binaryData": {"blob": base64.b64encode(b"\x00\xff").decode()},
    }


def test_times_quantities_ports_and_embedded_structs():
    container = (
        part(1, "c")
        + part(6, number(2, 0) + number(3, 80))
        + part(8, part(1, part(1, "cpu"), part(2, part(1, "500m"))))
        + part(
            10, part(1, part(2, part(1, "/ok"), part(2, number(1, 1), number(2, 0), part(3, "http")))) + number(2, 5)
        )
    )
    volume = part(1, "v") + part(2, part(19, part(1, part(1, "settings"))))
    spec = part(1, volume) + part(2, container) + number(4, -1) + number(11, 0)
    status = part(7, number(1, 1767225600) + number(2, 0))
    obj = of("v1", "Pod", META + part(2, spec) + part(3, status))
    assert obj["spec"]["containers"] == [
        {
            "name": "c",
            "ports": [{"containerPort": 80}],
            "resources": {"limits": {"cpu": "500m"}},
            "livenessProbe": {"httpGet": {"path": "/ok", "port": "http"}, "initialDelaySeconds": 5},
        }
    ]
    assert obj["spec"]["volumes"] == [{"name": "v", "configMap": {"name": "settings"}}]
    assert obj["spec"]["terminationGracePeriodSeconds"] == -1
    assert obj["status"]["startTime"] == "2026-01-01T00:00:00Z"


def test_lists_that_are_messages():
    user = part(1, "alice") + part(3, "dev") + part(4, part(1, "scopes"), part(2, part(1, "a"), part(1, "b")))
    obj = of("authentication.k8s.io/v1", "TokenReview", part(2, part(1, "t")) + part(3, number(1, 1) + part(2, user)))
    assert obj["status"] == {
        "authenticated": True,
        "user": {"username": "alice", "groups": ["dev"], "extra": {"scopes": ["a", "b"]}},
    }


def test_options_of_deletes_belong_to_every_group():
    group, kind, raw = protobuf.envelope(body("apps/v1", "DeleteOptions", number(1, 5) + part(4, "Orphan")))
    name = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"
    assert (group, kind) == ("apps/v1", "DeleteOptions")
    assert protobuf.decode(raw, name) == {"gracePeriodSeconds": 5, "propagationPolicy": "Orphan"}


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"", "empty data"),
        (b"k8s\x00", "empty body"),
        (b"{}", "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"),
        (b"k8s\x00\x0a\xff", "unexpected EOF"),
        (body("v1", "ConfigMap", b"\x0b"), "proto: illegal wireType 3"),
        (body("v1", "ConfigMap", b"\xff" * 11), "proto: integer overflow"),
        (body("v1", "ConfigMap", number(1, 5)), "proto: wrong wireType"),
        (body("v1", "Nonsense", b""), 'no kind "Nonsense" is registered for version "v1"'),
    ],
)
def test_what_is_no_object_is_refused(sent, error):
    with pytest.raises(StatusError) as raised:
        read(sent, negotiate.PROTOBUF, ("", "v1", "ConfigMap"))
    assert raised.value.code == 400
    assert error in raised.value.message


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(message):
    schema = schema_for("", "v1", "Pod")
    try:
        found = protobuf.decode(message, schema.name)
        complete(found, schema)
    except ValueError:
        return


def test_bytes_that_promise_more_than_they_hold_are_refused():
    with pytest.raises(ProtobufError):
        protobuf.decode(b"\x0a" * 1000, "io.k8s.api.core.v1.PodSpec")
