"""Objects in protobuf, as they are answered who take nothing else."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from kubegate.api import protobuf, protobufwriter
from kubegate.api.resources import data

TYPES = sorted(orjson.loads(data("protobuf.json.gz")))
ONE_OF_EACH = {
    "s": "text",
    "b": True,
    "i": -3,
    "d": 0.5,
    "y": base64.b64encode(b"\x00\xff").decode(),
    "Q": "500m",
    "T": "2026-01-02T03:04:05Z",
    "U": "2026-01-02T03:04:05.000007Z",
    "P": "http",
    "R": {"any": ["thing"]},
}


def example(code: str, depth: int) -> Any:
    if code[0] in "[L":
        return [example(code[1:], depth)]
    if code[0] == "{":
        return {"b": example(code[1:], depth), "a": example(code[1:], depth)}
    return message(code[1:], depth + 1) if code[0] == "M" else ONE_OF_EACH[code]


def message(name: str, depth: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for json_name, code in protobuf.fields_of(name).values():
        if not json_name:
            found |= message(code[1:], depth)
        elif depth < 3 or not code.lstrip("[{L").startswith("M"):
            found[json_name] = example(code, depth)
    return found


def without_nothing(value: Any) -> Any:
    """What was not set comes back as what zero values are."""
    if isinstance(value, list):
        return [without_nothing(one) for one in value]
    if not isinstance(value, dict):
        return value
    kept = {name: without_nothing(one) for name, one in value.items()}
    return {name: one for name, one in kept.items() if one not in ("", 0, {}, None, "0") or one is True}


@pytest.mark.parametrize("name", TYPES)
def test_what_is_written_is_read_as_the_same(name: str) -> None:
    value = message(name)
    read = protobuf.decode(protobufwriter.message(value, name), name)
    assert without_nothing(read) == without_nothing(value)


def test_a_status_is_written_as_go_writes_it() -> None:
    """Zero values of what is no pointer are there; details, a pointer, only where there are any."""
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 404}
    assert protobufwriter.document(status) == (
        b"k8s\x00" b"\x0a\x0c\x0a\x02v1\x12\x06Status"
        b"\x12\x18" b"\x0a\x06\x0a\x00\x12\x00\x1a\x00" b"\x12\x07Failure" b"\x1a\x00" b"\x22\x00" b"\x30\x94\x03"
        b"\x1a\x00" b"\x22\x00"
    )  # fmt: skip


def test_a_volume_that_is_described_in_an_attachment_is_a_field_of_its_own() -> None:
    name = "io.k8s.api.storage.v1.VolumeAttachmentSource"
    written = protobufwriter.message({"inlineVolumeSpec": {"accessModes": ["x"], "nfs": {"path": "p"}}}, name)
    assert written == b"\x12\x12\x12\x09*\x07\x0a\x00\x12\x01p\x18\x00\x1a\x01x*\x002\x00"
    assert protobuf.decode(written, name)["inlineVolumeSpec"]["accessModes"] == ["x"]
    assert protobufwriter.message({"persistentVolumeName": "n"}, name) == b"\x0a\x01n"


def test_numbers_and_names_of_ports_are_told_apart() -> None:
    name = "io.k8s.api.core.v1.HTTPGetAction"
    for port in (8080, "http"):
        assert protobuf.decode(protobufwriter.message({"port": port}, name), name)["port"] == port


def test_kinds_without_a_message_are_known_to_have_none() -> None:
    assert protobufwriter.type_of("example.org", "v1", "Form") == ""
    assert protobufwriter.type_of("", "v1", "ConfigMapList") == "io.k8s.api.core.v1.ConfigMapList"
