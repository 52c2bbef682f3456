"""Encryption at rest: kube-apiserver's EncryptionConfiguration around a store.

Values are laid out as kube-apiserver lays them out, `k8s:enc:aescbc:v1:KEYNAME:` and the sealed value, so that either
reads what the other wrote. The key of the store is sealed in with a value (aesgcm): it opens in its place alone.
"""

from __future__ import annotations

import base64
import binascii
import importlib.util
import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from msgspec.structs import replace

from kubegate.storage import EventType, KeyValue, Range, RevisionConflict, Store, StoreEvent

GROUP = "apiserver.config.k8s.io"

ENCRYPTED = b"k8s:enc:"
"""What every sealed value begins with. Objects are JSON and never do."""

AES_KEYS = (16, 24, 32)
SECRETBOX_KEYS = (32,)


class Provider(Protocol):
    """One way to lay out a value."""

    @property
    def prefix(self) -> bytes:
        """What its values begin with, and no other provider's."""
        ...

    def seal(self, value: bytes, place: bytes) -> bytes:
        """The value as stored; `place` is its key in the store."""
        ...

    def open(self, stored: bytes, place: bytes) -> bytes:
        """What was sealed. Raises ValueError where it was sealed with another key or for another place."""
        ...


@dataclass(frozen=True, slots=True)
class Identity:
    prefix: bytes = b""

    def seal(self, value: bytes, place: bytes) -> bytes:
        return value

    def open(self, stored: bytes, place: bytes) -> bytes:
        if stored.startswith(ENCRYPTED):
            raise ValueError("it is encrypted, and no provider for it is configured")
        return stored


@dataclass(frozen=True, slots=True)
class AesCbc:
    """A random IV of 16 bytes and the padded value."""

    prefix: bytes
    key: bytes = field(repr=False)

    def seal(self, value: bytes, place: bytes) -> bytes:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
        from cryptography.hazmat.primitives.padding import PKCS7

        iv = os.urandom(16)
        padder = PKCS7(128).padder()
        sealing = Cipher(algorithms.AES(self.key), modes.CBC(iv)).encryptor()
        return self.prefix + iv + sealing.update(padder.update(value) + padder.finalize()) + sealing.finalize()

    def open(self, stored: bytes, place: bytes) -> bytes:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
        from cryptography.hazmat.primitives.padding import PKCS7

        body = memoryview(stored)[len(self.prefix) :]
        if len(body) < 32 or len(body) % 16:
            raise ValueError("the stored value is not of whole blocks")
        opening = Cipher(algorithms.AES(self.key), modes.CBC(bytes(body[:16]))).decryptor()
        unpadder = PKCS7(128).unpadder()
        return unpadder.update(opening.update(body[16:]) + opening.finalize()) + unpadder.finalize()


@dataclass(frozen=True, slots=True)
class AesGcm:
    """A random nonce of 12 bytes and the sealed value; change the key before 200,000 writes, as kube-apiserver says."""

    prefix: bytes
    key: bytes = field(repr=False)

    def seal(self, value: bytes, place: bytes) -> bytes:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(12)
        return self.prefix + nonce + AESGCM(self.key).encrypt(nonce, value, place)

    def open(self, stored: bytes, place: bytes) -> bytes:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        body = stored[len(self.prefix) :]
        try:
            return AESGCM(self.key).decrypt(body[:12], body[12:], place)
        except InvalidTag as error:
            raise ValueError("the stored value was sealed with another key, for another place, or changed") from error


@dataclass(frozen=True, slots=True)
class SecretBox:
    """NaCl's secretbox (XSalsa20 and Poly1305): a random nonce of 24 bytes and the sealed value."""

    prefix: bytes
    key: bytes = field(repr=False)

    def seal(self, value: bytes, place: bytes) -> bytes:
        from nacl.secret import SecretBox as Box

        return self.prefix + bytes(Box(self.key).encrypt(value))

    def open(self, stored: bytes, place: bytes) -> bytes:
        from nacl.exceptions import CryptoError
        from nacl.secret import SecretBox as Box

        try:
            return Box(self.key).decrypt(stored[len(self.prefix) :])
        except CryptoError as error:
            raise ValueError("the stored value was sealed with another key or changed") from error


SEALED: Mapping[str, tuple[Callable[[bytes, bytes], Provider], Sequence[int]]] = {
    "aescbc": (AesCbc, AES_KEYS),
    "aesgcm": (AesGcm, AES_KEYS),
    "secretbox": (SecretBox, SECRETBOX_KEYS),
}
"""Providers by their names in the configuration, with the lengths that their keys may have."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Resources (`secrets`, `deployments.apps`, `*.apps`, `*.`, `*.*`) and the providers for them: the first seals, all
    open."""

    resources: Sequence[str]
    providers: Sequence[Provider]


PLAIN = Rule((), (Identity(),))
"""What holds for resources that no rule names."""


def parse(data: bytes) -> list[Rule]:
    """The rules of an EncryptionConfiguration in YAML or JSON. Raises ValueError that names the field, never a key."""
    import yaml

    from kubegate.api import yamlcodec

    try:
        document = yamlcodec.load(data)
    except yaml.YAMLError:
        raise ValueError("it is not YAML") from None  # the error would show parts of the file
    _fields(document, "", {"apiVersion", "kind", "resources"})
    if document.get("kind") != "EncryptionConfiguration" or document.get("apiVersion") != f"{GROUP}/v1":
        raise ValueError(f"kind must be EncryptionConfiguration and apiVersion {GROUP}/v1")
    rules: list[Rule] = []
    earlier: list[str] = []
    for number, entry in enumerate(_list(document.get("resources"), "resources")):
        path = f"resources[{number}]"
        _fields(entry, path, {"resources", "providers"})
        resources = [str(name) for name in _list(entry.get("resources"), f"{path}.resources")]
        for name in resources:
            if name == "*" or ("*" in name and not name.startswith("*.")):
                raise ValueError(
                    f"{path}.resources: {name!r}: use *.* for all, *. for the core group, *.GROUP for a group"
                )
            for other in earlier:
                if _covers(other, name):
                    raise ValueError(f"{path}.resources: {name!r} is masked by {other!r} before it")
            earlier.append(name)
        providers = [
            provider
            for index, found in enumerate(_list(entry.get("providers"), f"{path}.providers"))
            for provider in _providers(found, f"{path}.providers[{index}]")
        ]
        rules.append(Rule(resources, providers))
    return rules


class EncryptedStore:
    """`store` with its values sealed and opened by `rules`.

    `resource_of` gives the group resource of a key (`secrets`, `deployments.apps`), `place_of` what is sealed in with
    a value, the key as the engine has it. `get` and `range` raise ValueError for a value that does not open; watches
    and listeners are given such a value as it is stored, which is no JSON.
    """

    def __init__(
        self,
        store: Store,
        rules: Sequence[Rule],
        resource_of: Callable[[str], str],
        place_of: Callable[[str], str] = str,
    ) -> None:
        self._store = store
        self._rules = rules
        self._resource_of, self._place_of = resource_of, place_of
        self._found: dict[str, Rule] = {}

    async def start(self) -> None:
        await self._store.start()

    async def close(self) -> None:
        await self._store.close()

    def health(self) -> str | None:
        return self._store.health()

    async def revision(self) -> int:
        return await self._store.revision()

    async def get(self, key: str, revision: int = 0) -> KeyValue | None:
        found = await self._store.get(key, revision)
        return None if found is None else self._opened(found)

    async def range(self, prefix: str, *, after: str = "", limit: int = 0, revision: int = 0) -> Range:
        page = await self._store.range(prefix, after=after, limit=limit, revision=revision)
        return Range([self._opened(item) for item in page.items], page.revision, page.remaining)

    async def put(self, key: str, value: bytes, expected: int | None, *, ttl: int = 0) -> int:
        sealed = self._rule(key).providers[0].seal(value, self._place_of(key).encode())
        try:
            return await self._store.put(key, sealed, expected, ttl=ttl)
        except RevisionConflict as conflict:
            raise self._conflict(conflict) from None

    async def delete(self, key: str, expected: int | None) -> int:
        try:
            return await self._store.delete(key, expected)
        except RevisionConflict as conflict:
            raise self._conflict(conflict) from None

    async def watch(self, prefix: str, after: int) -> AsyncGenerator[Sequence[StoreEvent], None]:
        events = self._store.watch(prefix, after)
        try:
            async for batch in events:
                yield [self._event(event) for event in batch]
        finally:
            await events.aclose()

    def listen(self, on_events: Callable[[Sequence[StoreEvent]], None]) -> Callable[[], None] | None:
        return self._store.listen(lambda events: on_events([self._event(event) for event in events]))

    async def compact(self, revision: int) -> None:
        await self._store.compact(revision)

    async def reseal(self, prefix: str = "/registry/") -> AsyncGenerator[tuple[str, bool], None]:
        """Write again what is not sealed with the first provider of its rule: after a change of keys.

        Gives each key and whether it was written; what changes meanwhile is sealed by whoever changes it. Raises
        ValueError for a value that does not open.
        """
        after = ""
        while True:
            page = await self._store.range(prefix, after=after, limit=500)
            for item in page.items:
                first = self._rule(item.key).providers[0]
                sealed = item.value.startswith(first.prefix) if first.prefix else not item.value.startswith(ENCRYPTED)
                if not sealed:
                    try:
                        await self.put(item.key, self._opened(item).value, item.mod_revision)
                    except RevisionConflict:
                        sealed = True
                yield item.key, not sealed
            if not page.remaining:
                return
            after = page.items[-1].key

    def _rule(self, key: str) -> Rule:
        resource = self._resource_of(key)
        rule = self._found.get(resource)
        if rule is None:
            covering = (rule for rule in self._rules if any(_covers(name, resource) for name in rule.resources))
            rule = self._found[resource] = next(covering, PLAIN)
        return rule

    def _opened(self, item: KeyValue) -> KeyValue:
        for provider in self._rule(item.key).providers:
            if item.value.startswith(provider.prefix) and (provider.prefix or not item.value.startswith(ENCRYPTED)):
                try:
                    return replace(item, value=provider.open(item.value, self._place_of(item.key).encode()))
                except ValueError as error:
                    raise ValueError(f"{item.key} cannot be decrypted: {error}") from None
        raise ValueError(f"{item.key} cannot be decrypted: no provider or key for it is configured")

    def _event(self, event: StoreEvent) -> StoreEvent:
        previous = event.previous
        try:
            if previous is not None:
                previous = self._opened(previous)
            if event.type is EventType.PUT:
                opened = self._opened(KeyValue(event.key, event.value, event.revision))
                return replace(event, value=opened.value, previous=previous)
        except ValueError:
            return event
        return replace(event, previous=previous)

    def _conflict(self, conflict: RevisionConflict) -> RevisionConflict:
        return RevisionConflict(conflict.key, None if conflict.actual is None else self._opened(conflict.actual))


def _covers(rule: str, resource: str) -> bool:
    """Whether a name in a rule means a resource (or all that another name in a rule means)."""
    if rule == "*.*" or rule == resource:
        return True
    return rule.startswith("*.") and resource.partition(".")[2] == rule[2:]


def _providers(found: object, path: str) -> list[Provider]:
    """One provider of a configuration: one for each of its keys, in their order."""
    _fields(found, path, {*SEALED, "identity", "kms"})
    assert isinstance(found, dict)
    if len(found) != 1:
        raise ValueError(f"{path}: one provider, one of {', '.join(SEALED)} and identity")
    ((name, settings),) = found.items()
    if name == "kms":
        raise ValueError(f"{path}: kms is not supported; use secretbox, aesgcm or aescbc")
    if name == "identity":
        return [Identity()]
    path = f"{path}.{name}"
    if name == "secretbox" and importlib.util.find_spec("nacl") is None:
        raise ValueError(f"{path}: the Python package PyNaCl is needed for it")
    _fields(settings, path, {"keys"})
    make, lengths = SEALED[name]
    made: dict[str, Provider] = {}
    for number, key in enumerate(_list(settings.get("keys"), f"{path}.keys")):
        here = f"{path}.keys[{number}]"
        _fields(key, here, {"name", "secret"})
        key_name = key.get("name")
        if not key_name or not isinstance(key_name, str) or ":" in key_name:
            raise ValueError(f"{here}.name: a name without a colon is needed")
        if key_name in made:
            raise ValueError(f"{here}.name: {key_name!r} is there twice")
        try:
            secret = base64.b64decode(str(key.get("secret") or ""), validate=True)
        except (binascii.Error, ValueError):
            raise ValueError(f"{here}.secret: it is not base64") from None
        if len(secret) not in lengths:
            wanted = " or ".join(str(length) for length in lengths)
            raise ValueError(f"{here}.secret: {wanted} bytes in base64 are needed, not {len(secret)}")
        made[key_name] = make(f"k8s:enc:{name}:v1:{key_name}:".encode(), secret)
    return list(made.values())


def _fields(value: object, path: str, allowed: set[str]) -> None:
    place = f"{path}: " if path else ""
    if not isinstance(value, dict):
        raise ValueError(f"{place}an object is needed")
    for name in value:
        if name not in allowed:
            raise ValueError(f"{place}unknown field {name!r}")


def _list(value: Any, path: str) -> Sequence[Any]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"{path}: a list with something in it is needed")
    return value
