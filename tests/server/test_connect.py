"""log, exec, attach, port-forward, proxy where no node runs: options are checked, then it is said what is missing."""

from __future__ import annotations

import pytest

PODS = "/api/v1/namespaces/default/pods"


def pod(name, containers=("a",), inits=(), node=""):
    spec = {"containers": [{"name": each, "image": "i"} for each in containers]}
    if inits:
        spec["initContainers"] = [{"name": each, "image": "i"} for each in inits]
    if node:
        spec["nodeName"] = node
    return {"metadata": {"name": name}, "spec": {**spec, "automountServiceAccountToken": False}}


@pytest.fixture
async def ask(start):
    running = await start("--disable-admission-plugins=ServiceAccount")
    for each in (pod("one"), pod("two", ("a", "b"), ("i",)), pod("placed", node="gone")):
        assert (await running.client.ask("POST", PODS, each)).status == 201
    return running.client.ask


@pytest.mark.parametrize(
    ("method", "path", "code", "message"),
    [
        ("POST", "one/exec?command=ls", 400, "pod one does not have a host assigned"),
        ("GET", "one/attach", 400, "pod one does not have a host assigned"),
        ("POST", "one/portforward?ports=80", 400, "pod one does not have a host assigned"),
        ("POST", "one/exec?container=c", 400, "container c is not valid for pod one"),
        ("POST", "one/portforward?ports=x", 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
        ("GET", "one/proxy/path", 400, "address not allowed"),
        ("POST", "none/exec?command=ls&dryRun=All", 400, "dryRun is not supported"),
        (
            "GET",
            "one/log?sinceTime=x",
            400,
            'parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006"',
        ),
        ("GET", "placed/log", 404, 'nodes "gone" not found'),
        ("GET", "none/log", 404, 'pods "none" not found'),
        ("GET", "one/log?tailLines=x", 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
        (
            "GET",
            "two/log",
            400,
            "a container name must be specified for pod two, choose one of: [a b] or one of the init containers: [i]",
        ),
        (
            "GET",
            "one/log?tailLines=-1&sinceSeconds=0",
            422,
            'PodLogOptions "one" is invalid: [tailLines: Invalid value: -1: must be greater than or equal to 0, '
            "sinceSeconds: Invalid value: 0: must be greater than 0]",
        ),
    ],
)
async def test_what_is_missing_is_told(ask, method, path, code, message) -> None:
    answer = await ask(method, f"{PODS}/{path}")
    assert (answer.status, answer.json["message"]) == (code, message)


@pytest.mark.parametrize("subresource", ["exec", "attach", "portforward"])
async def test_who_may_only_read_may_not_connect_by_reading(ask, subresource) -> None:
    """Websockets begin with a GET; the right to create is asked for whatever is sent.

    Until v1.35 whoever might `get` pods/exec could run commands by a websocket; it has no CVE.
    """
    rbac, group = "/apis/rbac.authorization.k8s.io/v1", "rbac.authorization.k8s.io"
    rules = [{"apiGroups": [""], "resources": [f"pods/{subresource}"], "verbs": ["get"]}]
    await ask("POST", f"{rbac}/clusterroles", {"metadata": {"name": "looks"}, "rules": rules})
    binding = {
        "metadata": {"name": "looks"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "looks"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": "bob"}],
    }
    await ask("POST", f"{rbac}/clusterrolebindings", binding)
    refused = await ask("GET", f"{PODS}/one/{subresource}", token="bob-token")
    assert (refused.status, refused.json["message"]) == (403, 'pods "one" is forbidden: ')
    assert refused.json["details"] == {"name": "one", "kind": "pods"}
    created = await ask("POST", f"{PODS}/one/{subresource}", token="bob-token")
    assert "cannot create resource" in created.json["message"]
    assert (await ask("GET", f"{PODS}/one/{subresource}")).status == 400


async def test_the_log_of_a_pod_without_a_host_is_empty(ask) -> None:
    answer = await ask("GET", f"{PODS}/two/log?container=i&follow=true&tailLines=10")
    assert (answer.status, answer.body) == (204, b"")


async def test_connecting_is_admitted(ask) -> None:
    """A policy sees CONNECT with the options that were asked for."""
    group = "/apis/admissionregistration.k8s.io/v1"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CONNECT"], "resources": ["pods/exec"]}
    spec = {
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": "!('sh' in object.command)", "message": "no shells"}],
    }
    binding = {"policyName": "no-shells", "validationActions": ["Deny"]}
    assert (await ask("POST", f"{group}/validatingadmissionpolicies", named("no-shells", spec))).status == 201
    assert (await ask("POST", f"{group}/validatingadmissionpolicybindings", named("no-shells", binding))).status == 201
    refused = await ask("POST", f"{PODS}/one/exec?command=sh&command=-c")
    assert refused.status == 422
    assert "no shells" in refused.json["message"]
    assert (await ask("POST", f"{PODS}/one/exec?command=ls")).status == 400


async def test_a_policy_sees_the_path_that_is_proxied_to(ask) -> None:
    group = "/apis/admissionregistration.k8s.io/v1"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CONNECT"], "resources": ["pods/proxy"]}
    said = "object.kind + ' ' + (has(object.path) ? object.path : 'no path')"
    spec = {
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": "false", "messageExpression": said}],
    }
    binding = {"policyName": "paths", "validationActions": ["Deny"]}
    assert (await ask("POST", f"{group}/validatingadmissionpolicies", named("paths", spec))).status == 201
    assert (await ask("POST", f"{group}/validatingadmissionpolicybindings", named("paths", binding))).status == 201
    told = {}
    for path in ("proxy", "proxy/", "proxy/a/b", "proxy/a%20b/?path=c"):
        answer = await ask("GET", f"{PODS}/one/{path}")
        told[path] = answer.json["message"].rpartition(": ")[2]
    assert told == {
        "proxy": "PodProxyOptions no path",
        "proxy/": "PodProxyOptions /",
        "proxy/a/b": "PodProxyOptions /a/b",
        "proxy/a%20b/?path=c": "PodProxyOptions /a b/",
    }


def named(name, spec):
    return {"metadata": {"name": name}, "spec": spec}
