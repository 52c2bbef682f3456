"""Cases of published vulnerabilities of Kubernetes' authorization, and tricks of their kind, over HTTP."""

from __future__ import annotations

import asyncio
import http.client
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kubegate.server.options import Options
from kubegate.server.process import Server

RBAC = "/apis/rbac.authorization.k8s.io/v1"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


class Http:
    """Requests whose paths go out exactly as they are written."""

    def __init__(self, url: str, authority: Path) -> None:
        self.host, _, self.port = url.removeprefix("https://").rpartition(":")
        self.tls = ssl.create_default_context(cafile=str(authority))

    async def ask(
        self, method: str, path: str, body: Any = None, who: str = "admin", **headers: str
    ) -> tuple[int, str]:
        return await asyncio.to_thread(self._ask, method, path, body, who, headers)

    def _ask(self, method: str, path: str, body: Any, who: str, headers: dict[str, str]) -> tuple[int, str]:
        connection = http.client.HTTPSConnection(self.host, int(self.port), context=self.tls, timeout=20)
        sent = {"Authorization": f"Bearer {who}-token", "Content-Type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), sent)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    async def make(self, path: str, body: Any) -> None:
        status, text = await self.ask("POST", path, body)
        assert status == 201, text

    async def grant(self, rules: list[Any], namespace: str = "", who: str = "alice") -> None:
        """A role with these rules, bound to the user."""
        kind = "Role" if namespace else "ClusterRole"
        place = f"{RBAC}/namespaces/{namespace}/" if namespace else f"{RBAC}/"
        await self.make(f"{place}{kind.lower()}s", {"metadata": {"name": "given"}, "rules": rules})
        binding = {
            "metadata": {"name": "given"},
            "roleRef": {"kind": kind, "name": "given"},
            "subjects": [{"kind": "User", "name": who}],
        }
        await self.make(f"{place}{'role' if namespace else 'clusterrole'}bindings", binding)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Http]:
    tokens = tmp_path / "tokens.csv"
    tokens.write_text('admin-token,admin,u-1,"system:masters"\nalice-token,alice,u-2\n')
    options = Options(secure_port=0, data_dir=str(tmp_path), storage="memory", token_auth_file=str(tokens))
    server = Server(options)
    await server.start()
    assert server.pki is not None
    try:
        yield Http(server.url, server.pki.ca_certificate)
    finally:
        await server.stop()


def definition(plural: str, scope: str) -> dict[str, Any]:
    kind = plural.rstrip("s").capitalize()
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "metadata": {"name": f"{plural}.example.org"},
        "spec": {
            "group": "example.org",
            "scope": scope,
            "names": {"plural": plural, "kind": kind},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }


async def served(api: Http, path: str) -> None:
    """Wait until a custom resource is served."""
    for _ in range(200):
        status, _ = await api.ask("GET", path)
        if status == 200:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"{path} is not served")


async def test_cve_2019_11247_a_namespace_s_rights_do_not_reach_cluster_scoped_custom_resources(api: Http) -> None:
    await api.make(CRDS, definition("widgets", "Cluster"))
    await served(api, "/apis/example.org/v1/widgets")
    widget = {"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"name": "w"}}
    await api.make("/apis/example.org/v1/widgets", widget)
    rules = [{"apiGroups": ["example.org"], "resources": ["*"], "verbs": ["*"]}]
    await api.grant(rules, "default")
    path = "/apis/example.org/v1/namespaces/default/widgets"
    # authorized in the namespace, and there is no such thing there
    for method, target in (("GET", path), ("GET", f"{path}/w"), ("DELETE", f"{path}/w"), ("POST", path)):
        status, text = await api.ask(method, target, widget if method == "POST" else None, "alice")
        assert status == 404, f"{method} {target}: {status} {text}"
    assert (await api.ask("GET", "/apis/example.org/v1/widgets/w", who="alice"))[0] == 403
    assert (await api.ask("GET", "/apis/example.org/v1/widgets/w"))[0] == 200


async def test_cve_2022_3162_rights_on_one_custom_resource_do_not_reach_another_of_the_group(api: Http) -> None:
    for plural in ("widgets", "gadgets"):
        await api.make(CRDS, definition(plural, "Namespaced"))
        await served(api, f"/apis/example.org/v1/{plural}")
    secret = {"apiVersion": "example.org/v1", "kind": "Gadget", "metadata": {"name": "g"}, "secret": "inside"}
    await api.make("/apis/example.org/v1/namespaces/default/gadgets", secret)
    await api.grant([{"apiGroups": ["example.org"], "resources": ["widgets"], "verbs": ["*"]}])
    for path in (
        "/apis/example.org/v1/namespaces/..%2Fgadgets%2Fdefault/widgets",
        "/apis/example.org/v1/namespaces/../gadgets/default/widgets",
        "/apis/example.org/v1/namespaces/default/widgets/..%2F..%2Fgadgets%2Fdefault%2Fg",
        "/apis/example.org/v1/namespaces/default%2F..%2F..%2Fgadgets/widgets/g",
    ):
        _, text = await api.ask("GET", path, who="alice")
        assert "inside" not in text, path


async def test_cve_2018_1002105_a_refused_upgrade_leaves_no_way_to_a_backend(api: Http) -> None:
    """There, a failed upgrade left the connection to an aggregated API server open, with the proxy's own rights."""
    key = {"Sec_WebSocket_Version": "13", "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", **key}
    for path in (
        "/apis/metrics.k8s.io/v1beta1/nodes",
        "/api/v1/namespaces/default/pods/none/exec?command=id",
        "/apis/apiregistration.k8s.io/v1/apiservices/v1.none/proxy",
    ):
        status, _ = await api.ask("GET", path, who="alice", **upgrade)
        assert status == 403, path


TRICKS = (
    "/api/v1//namespaces/default/secrets",
    "//api/v1/namespaces/default/secrets",
    "/api/v1/./namespaces/default/secrets",
    "/api/v1/namespaces/default/configmaps/../secrets",
    "/api/v1/namespaces/default/%2e%2e/default/secrets",
    "/api/v1/namespaces/default%2fsecrets",
    "/api/v1/namespaces/default/configmaps%2f..%2fsecrets",
    "/healthz/../api/v1/namespaces/default/secrets",
    "/version/%2e%2e/api/v1/namespaces/default/secrets",
    "/healthz/..%2fapi/v1/namespaces/default/secrets",
    "/api/v1/namespaces/default/secrets/",
    "/API/v1/namespaces/default/secrets",
    "/api/v1/namespaces/default/secrets%00",
    "/api/v1/namespaces/default/secrets;/healthz",
    "/api/v1/watch/namespaces/default/secrets?timeoutSeconds=1",
    "/healthz%3f/../api/v1/namespaces/default/secrets",
)


@pytest.mark.parametrize("path", TRICKS)
async def test_no_spelling_of_a_path_reaches_what_is_not_allowed(api: Http, path: str) -> None:
    """What is authorized is what is served: a path is read once, and never cleaned in between."""
    await api.make("/api/v1/namespaces/default/secrets", {"metadata": {"name": "s"}, "stringData": {"a": "inside"}})
    await api.grant(
        [
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]},
            {"nonResourceURLs": ["/healthz*", "/version*"], "verbs": ["*"]},
        ]
    )
    status, text = await api.ask("GET", path, who="alice")
    assert "aW5zaWRl" not in text
    assert status in (301, 400, 403, 404), text


async def test_impersonation_takes_a_right_for_each_part_of_the_identity(api: Http) -> None:
    await api.grant([{"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"]}])
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    assert (await api.ask("POST", path, {}, "alice", Impersonate_User="bob"))[0] == 201
    for more in (
        {"Impersonate_Uid": "u-1"},
        {"Impersonate_Group": "system:masters"},
        {"Impersonate_Extra_Scopes": "all"},
    ):
        status, text = await api.ask("POST", path, {}, "alice", Impersonate_User="bob", **more)
        assert status == 403, f"{more}: {text}"
        assert "cannot impersonate resource" in text
    # parts of an identity without a user are refused, not ignored
    assert (await api.ask("GET", "/version", who="alice", Impersonate_Uid="u-1"))[0] in (400, 403)
    assert (await api.ask("GET", "/api/v1/nodes", who="alice", Impersonate_Group="system:masters"))[0] in (400, 403)


async def test_who_may_update_bindings_cannot_turn_one_to_a_stronger_role(api: Http) -> None:
    await api.grant([{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["*"], "verbs": ["update", "patch"]}])
    stronger = {"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}}
    path = f"{RBAC}/clusterrolebindings/given"
    status, text = await api.ask("PATCH", path, stronger, "alice", Content_Type="application/merge-patch+json")
    assert status == 403
    assert "attempting to grant RBAC permissions not currently held" in text
    # who holds everything may not, either: the reference never changes
    status, text = await api.ask("PATCH", path, stronger, Content_Type="application/merge-patch+json")
    assert (status, "cannot change roleRef" in text) == (422, True)
