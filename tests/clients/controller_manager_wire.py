"""What kube-controller-manager sends, byte for byte: objects in protobuf, by field numbers of Kubernetes' .proto files.

Written by hand, so that it is a second opinion beside `kubegate.api.protobuf`. A message is a tuple of fields; a field
is (number, value): text, bytes, an integer, a boolean, a message, or a list of these.
"""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROTOBUF = "application/vnd.kubernetes.protobuf"
# client-go: the content type that is set, and anything else
ACCEPT = f"{PROTOBUF}, */*"
# k8s.io/client-go/metadata
PARTIAL = ",".join(f"{kind};as=PartialObjectMetadata;g=meta.k8s.io;v=v1" for kind in (PROTOBUF, "application/json"))
PARTIAL_LIST = PARTIAL.replace("PartialObjectMetadata;", "PartialObjectMetadataList;")

Object = dict[str, Any]
Field = tuple[int, Any]
Message = tuple[Field, ...]


def encode(message: Message) -> bytes:
    found = bytearray()
    for number, value in message:
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, bool | int):
                found += _varint(number << 3) + _varint(int(one))
            else:
                data = one.encode() if isinstance(one, str) else one if isinstance(one, bytes) else encode(one)
                found += _varint(number << 3 | 2) + _varint(len(data)) + data
    return bytes(found)


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def wrapped(api_version: str, kind: str, message: Message) -> bytes:
    """runtime.Unknown behind the magic number."""
    unknown: Message = ((1, ((1, api_version), (2, kind))), (2, encode(message)), (3, ""), (4, ""))
    return b"k8s\x00" + encode(unknown)


# ---------------------------------------------------------------------- parts that many have
def meta(
    name: str = "",
    namespace: str = "",
    *,
    generate: str = "",
    of: Object | None = None,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    owner: Object | None = None,
    finalizers: list[str] | None = None,
) -> Message:
    """ObjectMeta with its zero values, as Go sends it; `of` is what was read, whose uid and version go along."""
    known = (of or {}).get("metadata", {})
    return (
        (1, name or known.get("name", "")),
        (2, generate),
        (3, namespace or known.get("namespace", "")),
        (4, ""),
        (5, known.get("uid", "")),
        (6, known.get("resourceVersion", "")),
        (7, known.get("generation", 0)),
        (8, ()),
        *pairs(11, {**known.get("labels", {}), **(labels or {})}),
        *pairs(12, {**known.get("annotations", {}), **(annotations or {})}),
        *(((13, owner_reference(owner)),) if owner else ()),
        (14, finalizers or []),
    )


def owner_reference(owner: Object) -> Message:
    found = owner["metadata"]
    return (1, owner["kind"]), (3, found["name"]), (4, found["uid"]), (5, owner["apiVersion"]), (6, True), (7, True)


def pairs(number: int, found: Mapping[str, str | bytes | Message]) -> Iterator[Field]:
    for key, value in sorted(found.items()):
        yield number, ((1, key), (2, value))


def time(seconds: int) -> Message:
    return (1, seconds), (2, 0)


def selector(labels: Mapping[str, str]) -> Message:
    return tuple(pairs(1, labels))


def pod_spec(image: str = "i:1") -> Message:
    return (2, [((1, "c"), (2, image))]), (3, "Always"), (6, "ClusterFirst"), (9, "")


def pod_template(labels: Mapping[str, str]) -> Message:
    return (1, meta(labels=labels)), (2, pod_spec())


# ---------------------------------------------------------------------- the client
@dataclass(slots=True)
class Answer:
    status: int
    content_type: str
    body: bytes

    @property
    def json(self) -> Object:
        assert self.content_type.startswith("application/json"), (self.content_type, self.body[:300])
        found: Object = json.loads(self.body)
        return found


class Client:
    """One user of the API as client-go is one: asks for protobuf or anything else, and sends protobuf."""

    def __init__(self, url: str, authority: Path, token: str = "") -> None:
        self._url = urllib.parse.urlsplit(url)
        self._context = ssl.create_default_context(cafile=str(authority))
        self._token = token
        if not token:
            self._context.load_cert_chain(authority.with_name("admin.crt"), authority.with_name("admin.key"))

    def _open(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> http.client.HTTPResponse:
        connection = http.client.HTTPSConnection(self._url.netloc, context=self._context, timeout=30)
        if self._token:
            headers = {**headers, "Authorization": f"Bearer {self._token}"}
        agent = {"User-Agent": "kube-controller-manager/v1.36.2 (linux/amd64) kubernetes/0000000"}
        connection.request(method, path, body, {**agent, **headers})
        return connection.getresponse()

    def ask(
        self, method: str, path: str, body: bytes | None = None, *, accept: str = ACCEPT, content_type: str = PROTOBUF
    ) -> Answer:
        headers = {"Accept": accept} | ({"Content-Type": content_type} if body is not None else {})
        answer = self._open(method, path, body, headers)
        with answer:
            return Answer(answer.status, answer.headers.get("Content-Type", ""), answer.read())

    def get(self, path: str, *, accept: str = ACCEPT) -> Object:
        answer = self.ask("GET", path, accept=accept)
        assert answer.status == 200, answer.body
        return answer.json

    def send(self, method: str, path: str, api_version: str, kind: str, message: Message) -> Object:
        """Raises AssertionError for what is refused."""
        answer = self.ask(method, path, wrapped(api_version, kind, message))
        assert answer.status in (200, 201, 202), (answer.status, answer.body)
        return answer.json

    def patch(self, path: str, changes: Any, sort: str = "strategic-merge-patch") -> Object:
        answer = self.ask("PATCH", path, json.dumps(changes).encode(), content_type=f"application/{sort}+json")
        assert answer.status == 200, answer.body
        return answer.json

    def watch(self, path: str, *, accept: str = ACCEPT) -> Iterator[Object]:
        """The events of a watch; it ends with the generator."""
        answer = self._open("GET", path, None, {"Accept": accept})
        with answer:
            assert answer.status == 200, answer.read()
            assert answer.headers["Content-Type"].startswith("application/json")
            while line := answer.readline():
                yield json.loads(line)
