"""What a write to the status may change of an object's metadata: nothing in some kinds, all but labels in another."""

from __future__ import annotations

import pytest
from server_client import Client, Start

FLOWCONTROL = "/apis/flowcontrol.apiserver.k8s.io/v1"
POD = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
RULE = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
KINDS = {
    "/apis/apps/v1/namespaces/default/deployments": {"selector": {"matchLabels": {"a": "b"}}, "template": POD},
    "/apis/apps/v1/namespaces/default/replicasets": {"selector": {"matchLabels": {"a": "b"}}, "template": POD},
    "/apis/storage.k8s.io/v1/volumeattachments": {
        "attacher": "x.y",
        "nodeName": "n",
        "source": {"persistentVolumeName": "p"},
    },
    "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims": {},
    f"{FLOWCONTROL}/flowschemas": {"priorityLevelConfiguration": {"name": "exempt"}},
    f"{FLOWCONTROL}/prioritylevelconfigurations": {
        "type": "Limited",
        "limited": {"limitResponse": {"type": "Reject"}},
    },
    "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies": {
        "matchConstraints": {"resourceRules": [RULE]},
        "validations": [{"expression": "true"}],
    },
}
CHANGE = {"metadata": {"labels": {"l": "1"}, "annotations": {"a": "1"}, "finalizers": ["x.y/z"]}}
ALL = {"labels", "annotations", "finalizers"}
TAKEN = {"deployments": {"annotations", "finalizers"}, "replicasets": ALL}


@pytest.fixture
async def client(start: Start) -> Client:
    return (await start("--controllers=none")).client


@pytest.mark.parametrize("path", KINDS)
async def test_what_a_write_to_the_status_changes_of_the_metadata(client: Client, path: str) -> None:
    made = await client.ask("POST", path, {"metadata": {"name": "a"}, "spec": KINDS[path]})
    assert made.status == 201, made.json["message"]
    found = await client.ask("PATCH", f"{path}/a/status", CHANGE, Content_Type="application/merge-patch+json")
    assert found.status == 200, found.json["message"]
    assert found.json["metadata"].keys() & ALL == TAKEN.get(path.rpartition("/")[2], set())
