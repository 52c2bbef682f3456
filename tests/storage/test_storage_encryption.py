"""Encryption at rest, in kube-apiserver's configuration and layout."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nacl.secret import SecretBox

from kubegate.storage import RevisionConflict, Store, StoreEvent
from kubegate.storage.build import GroupResources, StorageOptions, open_store
from kubegate.storage.encryption import EncryptedStore, parse
from kubegate.storage.memory import MemoryStore

KEY, OTHER = b"k" * 32, b"o" * 32
SECRET, ROLE = "/registry/secrets/ns/a", "/registry/roles/ns/a"
VALUE = b'{"kind":"Secret"}'


def provider(name: str, *keys: tuple[str, bytes]) -> dict[str, object]:
    if name == "identity":
        return {"identity": {}}
    return {name: {"keys": [{"name": key, "secret": base64.b64encode(secret).decode()} for key, secret in keys]}}


def configuration(*rules: tuple[list[str], list[dict[str, object]]]) -> bytes:
    return yaml.safe_dump(
        {
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "EncryptionConfiguration",
            "resources": [{"resources": names, "providers": providers} for names, providers in rules],
        }
    ).encode()


@pytest.fixture
async def plain() -> AsyncIterator[Store]:
    store = MemoryStore()
    await store.start()
    yield store
    await store.close()


def sealed(store: Store, *rules: tuple[list[str], list[dict[str, object]]]) -> EncryptedStore:
    return EncryptedStore(store, parse(configuration(*rules)), GroupResources().of)


@pytest.mark.parametrize("name", ["aescbc", "aesgcm", "secretbox"])
async def test_sealed_values_are_opened_wherever_they_are_read(plain: Store, name: str) -> None:
    store = sealed(plain, (["secrets"], [provider(name, ("key1", KEY))]))
    heard: list[StoreEvent] = []
    store.listen(heard.extend)
    revision = await store.put(SECRET, VALUE, 0)
    stored = await plain.get(SECRET)
    assert stored is not None
    assert stored.value.startswith(f"k8s:enc:{name}:v1:key1:".encode())
    assert b"Secret" not in stored.value
    found = await store.get(SECRET)
    assert found is not None
    assert found.value == VALUE
    assert [item.value for item in (await store.range("/registry/")).items] == [VALUE]
    with pytest.raises(RevisionConflict) as conflict:
        await store.put(SECRET, b"{}", 0)
    assert conflict.value.actual is not None
    assert conflict.value.actual.value == VALUE
    await store.delete(SECRET, revision)
    assert heard[0].value == VALUE
    assert heard[1].previous is not None
    assert heard[1].previous.value == VALUE
    watch = store.watch("/registry/", revision - 1)
    assert [event.value for event in await anext(watch)] == [VALUE, b""]
    await watch.aclose()


async def test_values_lie_as_kube_apiserver_lays_them(plain: Store) -> None:
    async def stored(name: str) -> bytes:
        await sealed(plain, (["secrets"], [provider(name, ("key1", KEY))])).put(SECRET, VALUE, None)
        found = await plain.get(SECRET)
        assert found is not None
        return found.value.removeprefix(f"k8s:enc:{name}:v1:key1:".encode())

    cbc = await stored("aescbc")
    opening = Cipher(algorithms.AES(KEY), modes.CBC(cbc[:16])).decryptor()
    assert opening.update(cbc[16:]) + opening.finalize() == VALUE + b"\x0f" * 15
    gcm = await stored("aesgcm")
    assert AESGCM(KEY).decrypt(gcm[:12], gcm[12:], SECRET.encode()) == VALUE
    assert SecretBox(KEY).decrypt(await stored("secretbox")) == VALUE


async def test_only_the_resources_that_are_named_are_sealed(plain: Store) -> None:
    store = sealed(plain, (["secrets"], [provider("aesgcm", ("key1", KEY))]))
    await store.put(ROLE, VALUE, 0)
    found = await plain.get(ROLE)
    assert found is not None
    assert found.value == VALUE


@pytest.mark.parametrize(
    ("rule", "key", "is_sealed"),
    [
        ("*.", SECRET, True),
        ("*.", ROLE, False),
        ("*.rbac.authorization.k8s.io", ROLE, True),
        ("roles.rbac.authorization.k8s.io", ROLE, True),
        ("*.*", ROLE, True),
        ("*.", "/registry/services/specs/ns/a", True),
        ("services", "/registry/services/specs/ns/a", True),
        ("endpoints", "/registry/services/specs/ns/a", False),
        ("nodes", "/registry/minions/a", True),
        ("crontabs.example.com", "/registry/example.com/crontabs/ns/a", True),
        ("*.example.com", "/registry/example.com/crontabs/ns/a", True),
        ("*.com", "/registry/example.com/crontabs/ns/a", False),
    ],
)
async def test_rules_name_resources_as_kubernetes_does(plain: Store, rule: str, key: str, is_sealed: bool) -> None:
    await sealed(plain, ([rule], [provider("aesgcm", ("key1", KEY))])).put(key, VALUE, 0)
    found = await plain.get(key)
    assert found is not None
    assert found.value.startswith(b"k8s:enc:") == is_sealed


async def test_the_first_rule_that_names_a_resource_decides(plain: Store) -> None:
    rules = (["secrets"], [provider("identity")]), (["*.*"], [provider("aesgcm", ("key1", KEY))])
    store = sealed(plain, *rules)
    await store.put(SECRET, VALUE, 0)
    found = await plain.get(SECRET)
    assert found is not None
    assert found.value == VALUE


async def test_keys_are_rotated_by_putting_the_new_one_first(plain: Store) -> None:
    await plain.put("/registry/secrets/ns/plain", VALUE, 0)
    old = sealed(plain, (["secrets"], [provider("aescbc", ("key1", KEY)), provider("identity")]))
    await old.put(SECRET, VALUE, 0)
    both = sealed(
        plain,
        (
            ["secrets"],
            [provider("secretbox", ("key2", OTHER)), provider("aescbc", ("key1", KEY)), provider("identity")],
        ),
    )
    assert [item.value for item in (await both.range("/registry/")).items] == [VALUE, VALUE]
    assert [entry async for entry in both.reseal()] == [(SECRET, True), ("/registry/secrets/ns/plain", True)]
    assert [entry async for entry in both.reseal()] == [(SECRET, False), ("/registry/secrets/ns/plain", False)]
    new = sealed(plain, (["secrets"], [provider("secretbox", ("key2", OTHER))]))
    assert [item.value for item in (await new.range("/registry/")).items] == [VALUE, VALUE]


async def test_decryption_is_undone_by_putting_identity_first(plain: Store) -> None:
    await sealed(plain, (["secrets"], [provider("aesgcm", ("key1", KEY))])).put(SECRET, VALUE, 0)
    store = sealed(plain, (["secrets"], [provider("identity"), provider("aesgcm", ("key1", KEY))]))
    found = await store.get(SECRET)
    assert found is not None
    assert found.value == VALUE
    assert [entry async for entry in store.reseal()] == [(SECRET, True)]
    assert (await plain.range("/registry/")).items[0].value == VALUE


@pytest.mark.parametrize(
    "providers",
    [
        [provider("aesgcm", ("key1", OTHER))],
        [provider("aesgcm", ("key2", KEY))],
        [provider("aescbc", ("key1", KEY))],
        [provider("identity")],
    ],
)
async def test_what_cannot_be_opened_is_an_error_and_not_shown(
    plain: Store, providers: list[dict[str, object]]
) -> None:
    await sealed(plain, (["secrets"], [provider("aesgcm", ("key1", KEY))])).put(SECRET, VALUE, 0)
    store = sealed(plain, (["secrets"], providers))
    with pytest.raises(ValueError, match=f"{SECRET} cannot be decrypted") as error:
        await store.get(SECRET)
    assert "kkkk" not in str(error.value)
    with pytest.raises(ValueError, match="cannot be decrypted"):
        await store.range("/registry/")


async def test_a_sealed_value_does_not_open_in_another_place(plain: Store) -> None:
    store = sealed(plain, (["secrets"], [provider("aesgcm", ("key1", KEY))]))
    await store.put(SECRET, VALUE, 0)
    found = await plain.get(SECRET)
    assert found is not None
    await plain.put("/registry/secrets/ns/b", found.value, 0)
    with pytest.raises(ValueError, match="cannot be decrypted"):
        await store.get("/registry/secrets/ns/b")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("kind: Pod\napiVersion: v1\n", "kind must be EncryptionConfiguration"),
        ("]", "not YAML"),
        (configuration(([], [])).decode(), r"resources\[0\].resources"),
        (configuration((["secrets"], [])).decode(), r"resources\[0\].providers"),
        (configuration((["secrets"], [provider("aescbc", ("k", b"short"))])).decode(), r"keys\[0\].secret.* not 5"),
        (configuration((["secrets"], [provider("secretbox", ("k", b"x" * 16))])).decode(), "32 bytes"),
        (configuration((["secrets"], [provider("aescbc", ("k", KEY), ("k", KEY))])).decode(), "twice"),
        (configuration((["secrets"], [provider("aescbc", ("", KEY))])).decode(), r"keys\[0\].name"),
        (configuration((["secrets"], [{"kms": {}}])).decode(), "kms is not supported"),
        (configuration((["secrets"], [{"rot13": {}}])).decode(), "rot13"),
        (configuration((["*"], [provider("identity")])).decode(), "use \\*.\\* for all"),
        (configuration((["*.", "secrets"], [provider("identity")])).decode(), "'secrets' is masked"),
        (configuration((["*.*"], [provider("identity")]), (["a.b"], [provider("identity")])).decode(), "masked"),
    ],
)
def test_a_wrong_configuration_is_refused_with_the_field(text: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        parse(text.encode())


async def test_the_server_options_name_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "encryption.yaml"
    file.write_bytes(configuration((["secrets"], [provider("aesgcm", ("key1", KEY))])))
    path = tmp_path / "kubegate.db"
    options = StorageOptions(storage=f"sqlite:{path}", encryption_provider_config=str(file))
    store = open_store(options)
    await store.start()
    await store.put(SECRET, b'{"data":"hidden words"}', 0)
    await store.close()
    assert b"hidden words" not in path.read_bytes()
    file.write_text("kind: Pod")
    with pytest.raises(ValueError, match=r"encryption\.yaml: kind must be"):
        open_store(options)
