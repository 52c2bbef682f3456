"""ConfigMaps, Secrets, ServiceAccounts and Namespaces."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable

import pytest
from kinds_world import KindsWorld, kinds_world, meta

from kubegate.api.status import StatusError

IMMUTABLE = "Forbidden: field is immutable when `immutable` is set"


@pytest.fixture
async def w() -> AsyncIterator[KindsWorld]:
    async with kinds_world() as found:
        yield found


# --- writes at the same time ---------------------------------------------------------------------------------------
class Faster:
    """Admission that lets another write in before the first."""

    def __init__(self, w: KindsWorld, value: str) -> None:
        self.w, self.values = w, [value]

    async def admit(self, attributes: object) -> None:
        if self.values:
            await self.w.patch("configmaps", "c", {"data": {"other": self.values.pop()}})

    async def validate(self, attributes: object) -> None:
        pass


async def test_a_patch_is_made_of_what_a_faster_write_left(w: KindsWorld) -> None:
    await w.create("configmaps", {**meta("c"), "data": {}})
    w.registry.admission = Faster(w, "1")
    patched = await w.patch("configmaps", "c", {"data": {"mine": "2"}})
    assert patched["data"] == {"mine": "2", "other": "1"}
    w.registry.admission = Faster(w, "2")
    whole = {**patched, "data": {}}
    assert (await refused(w.update("configmaps", whole))).message == (
        'Operation cannot be fulfilled on configmaps "c": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )


async def refused(write: Awaitable[object]) -> StatusError:
    with pytest.raises(StatusError) as found:
        await write
    return found.value


# --- how maps are told ----------------------------------------------------------------------------------------------
async def test_maps_are_told_in_the_order_of_their_names(w: KindsWorld) -> None:
    made = await w.create("configmaps", {**meta("c", labels={"z": "1", "a": "2"}), "data": {"b": "1", "a": "2"}})
    assert (list(made["data"]), list(made["metadata"]["labels"])) == (["a", "b"], ["a", "z"])
    changed = await w.patch("configmaps", "c", {"data": {"0": "3"}, "metadata": {"annotations": {"y": "1", "x": "2"}}})
    assert (list(changed["data"]), list(changed["metadata"]["annotations"])) == (["0", "a", "b"], ["x", "y"])
    assert list(w.get("configmaps", "c")["data"]) == ["0", "a", "b"]


async def test_maps_within_specs_are_told_in_order(w: KindsWorld) -> None:
    limits = {"memory": "1Gi", "cpu": "1"}
    pod = {
        "nodeSelector": {"b": "1", "a": "2"},
        "containers": [{"name": "c", "image": "i", "resources": {"limits": limits}}],
    }
    spec = (await w.create("pods", {**meta("p"), "spec": pod}))["spec"]
    assert list(spec["nodeSelector"]) == ["a", "b"]
    assert list(spec["containers"][0]["resources"]["limits"]) == ["cpu", "memory"]


async def test_a_namespace_says_its_own_label_in_its_place(w: KindsWorld) -> None:
    made = await w.create("namespaces", meta("n", labels={"team": "x", "a": "b"}))
    assert list(made["metadata"]["labels"]) == ["a", "kubernetes.io/metadata.name", "team"]


# --- ConfigMaps -----------------------------------------------------------------------------------------------------
async def test_an_immutable_config_map_stays_as_it_is(w: KindsWorld) -> None:
    await w.create("configmaps", {**meta("c"), "data": {"a": "1"}, "immutable": True})
    texts = await w.wrong(w.patch("configmaps", "c", {"data": {"a": "2"}, "immutable": None}))
    assert texts == [f"immutable: {IMMUTABLE}", f"data: {IMMUTABLE}"]
    await w.patch("configmaps", "c", {"metadata": {"labels": {"a": "b"}}})


async def test_a_config_map_holds_a_mebibyte(w: KindsWorld) -> None:
    await w.create("configmaps", {**meta("c"), "data": {"a": "x" * (1 << 20)}})
    texts = await w.wrong(w.create("configmaps", {**meta("d"), "data": {"a": "x" * (1 << 20), "b": "y"}}))
    assert texts == ["[]: Too long: may not be more than 1048576 bytes"]


async def test_keys_of_a_config_map_are_names_of_files_in_one_of_its_maps(w: KindsWorld) -> None:
    obj = {**meta("c"), "data": {"a/b": "1", "c": "2"}, "binaryData": {"c": "YQ=="}}
    texts = await w.wrong(w.create("configmaps", obj))
    assert texts == [
        "data[a/b]: Invalid value: \"a/b\": a valid config key must consist of alphanumeric characters, '-', '_' or "
        "'.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
        'data[c]: Invalid value: "c": duplicate of key present in binaryData',
    ]


# --- Secrets --------------------------------------------------------------------------------------------------------
async def test_string_data_is_written_over_data_and_never_read(w: KindsWorld) -> None:
    made = await w.create("secrets", {**meta("s"), "data": {"a": "eA==", "b": "eQ=="}, "stringData": {"a": "z"}})
    assert made["data"] == {"a": base64.b64encode(b"z").decode(), "b": "eQ=="}
    assert "stringData" not in made
    assert made["type"] == "Opaque"


@pytest.mark.parametrize("kind", ["namespaces", "jobs.batch", "configmaps"])
async def test_what_has_no_name_is_told_that_it_needs_one(w: KindsWorld, kind: str) -> None:
    spec = {"template": {"spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"}}}
    new = {"metadata": {}, **({"spec": spec} if kind == "jobs.batch" else {})}
    assert await w.wrong(w.create(kind, new)) == ["metadata.name: Required value: name or generateName is required"]


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        ("kubernetes.io/service-account-token",
         ["metadata.annotations[kubernetes.io/service-account.name]: Required value"]),
        ("kubernetes.io/dockerconfigjson", ["data[.dockerconfigjson]: Required value"]),
        ("kubernetes.io/basic-auth", ["data[username]: Required value", "data[password]: Required value"]),
        ("kubernetes.io/ssh-auth", ["data[ssh-privatekey]: Required value"]),
        ("kubernetes.io/tls", ["data[tls.crt]: Required value", "data[tls.key]: Required value"]),
    ],
)  # fmt: skip
async def test_types_of_secrets_want_their_keys(w: KindsWorld, kind: str, texts: list[str]) -> None:
    assert await w.wrong(w.create("secrets", {**meta("s"), "type": kind})) == texts


async def test_a_secrets_type_does_not_change(w: KindsWorld) -> None:
    await w.create("secrets", {**meta("s"), "type": "mine"})
    assert await w.wrong(w.patch("secrets", "s", {"type": "yours"})) == [
        'type: Invalid value: "yours": field is immutable'
    ]


# --- ServiceAccounts ------------------------------------------------------------------------------------------------
async def test_a_service_account_names_secrets_of_its_own_namespace_alone(w: KindsWorld) -> None:
    made = await w.create("serviceaccounts", {**meta("a"), "secrets": [{"name": "s", "namespace": "other"}]})
    assert made["secrets"] == [{"name": "s"}]


# --- Namespaces -----------------------------------------------------------------------------------------------------
async def test_a_new_namespace_is_active_and_says_its_name(w: KindsWorld) -> None:
    made = await w.create("namespaces", meta("n"))
    assert made["metadata"]["labels"] == {"kubernetes.io/metadata.name": "n"}
    assert made["spec"] == {"finalizers": ["kubernetes"]}
    assert made["status"] == {"phase": "Active"}


async def test_a_deleted_namespace_waits_for_finalize(w: KindsWorld) -> None:
    await w.create("namespaces", meta("n"))
    assert not (await w.delete("namespaces", "n")).gone
    going = w.get("namespaces", "n")
    assert going["status"] == {"phase": "Terminating"}
    await w.update("namespaces", {**going, "spec": {}}, "finalize")
    assert (await w.refusal(w.delete("namespaces", "n"))).code == 404


async def test_only_finalize_changes_a_namespaces_finalizers(w: KindsWorld) -> None:
    await w.create("namespaces", meta("n"))
    changed = await w.patch("namespaces", "n", {"spec": {"finalizers": ["example.org/x"]}})
    assert changed["spec"] == {"finalizers": ["kubernetes"]}
    texts = await w.wrong(w.update("namespaces", {**changed, "spec": {"finalizers": ["mine"]}}, "finalize"))
    assert texts == [
        'spec.finalizers[0]: Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified'
    ]


@pytest.mark.parametrize("name", ["A", "a.b", "-a"])
async def test_a_namespaces_name_is_a_label(w: KindsWorld, name: str) -> None:
    texts = await w.wrong(w.create("namespaces", meta(name)))
    assert texts[0].startswith(f'metadata.name: Invalid value: "{name}": ')


# --- metadata -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "times"),
    [
        ("configmaps", 2),
        ("limitranges", 2),
        ("resourcequotas", 1),
        ("roles.rbac.authorization.k8s.io", 2),
        ("leases.coordination.k8s.io", 1),
    ],
)
async def test_a_finalizer_without_a_domain_is_refused_on_updates_too(w: KindsWorld, kind: str, times: int) -> None:
    text = (
        'metadata.finalizers[0]: Invalid value: "bad": name is neither a standard finalizer name nor is it fully '
        "qualified"
    )
    made = await w.create(kind, meta("a"))
    changed = {**made, "metadata": {**made["metadata"], "finalizers": ["bad"]}}
    assert await w.wrong(w.update(kind, changed)) == [text] * times
    assert await w.wrong(w.create(kind, {"metadata": {"name": "b", "finalizers": ["bad"]}})) == [text]


async def test_what_is_no_json_in_a_secret_of_docker_s_is_told_as_go_tells_it(w: KindsWorld) -> None:
    secret = {**meta("s"), "type": "kubernetes.io/dockercfg", "stringData": {".dockercfg": "nojson"}}
    assert await w.wrong(w.create("secrets", secret)) == [
        "data[.dockercfg]: Invalid value: \"<secret contents redacted>\": invalid character 'o' in literal null "
        "(expecting 'u')"
    ]


async def test_a_runtime_class_names_a_handler_and_amounts(w: KindsWorld) -> None:
    kind = "runtimeclasses.node.k8s.io"
    assert await w.wrong(w.create(kind, {**meta("r"), "handler": "", "overhead": {"podFixed": {"cpu": "-1"}}})) == [
        "handler: Required value",
        'overhead.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0',
    ]
