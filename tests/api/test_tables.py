"""Tables: columns, cells as kubectl shows them, and how much of the object goes with each row."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from kubegate.api import tables
from kubegate.api.clock import parse_rfc3339
from kubegate.api.jsonpath import find
from kubegate.api.printers.cells import human_duration
from kubegate.api.resources import Resources
from kubegate.api.schema import Schema
from kubegate.api.status import StatusError
from kubegate.api.structural import Column, CustomResource, Structural

NOW = parse_rfc3339("2026-01-01T01:00:00Z")
BORN = "2026-01-01T00:00:00Z"
RESOURCES = Resources.built_in()


def resource(group, name, version="v1"):
    found = RESOURCES.get(group, version, name)
    assert found is not None
    return found


def meta(name="a", **more):
    return {"name": name, "creationTimestamp": BORN, **more}


def cells(group, name, obj, version="v1"):
    shown = tables.table(resource(group, name, version), [{"metadata": meta(), **obj}], {}, now=NOW)
    row = shown["rows"][0]["cells"]
    assert len(row) == len(shown["columnDefinitions"])
    return row


def test_every_built_in_resource_has_as_many_cells_as_columns():
    for one in RESOURCES:
        if one.persistent:
            shown = tables.table(one, [{"metadata": meta()}], {}, now=NOW)
            assert len(shown["rows"][0]["cells"]) == len(shown["columnDefinitions"]), one.resource


def test_rows_carry_nothing_metadata_or_the_object():
    obj = {"apiVersion": "v1", "kind": "Secret", "metadata": meta(), "type": "Opaque", "data": {"k": "dg==", "l": ""}}
    secrets = resource("", "secrets")

    def row(include):
        return tables.table(secrets, [obj], {"resourceVersion": "5"}, include=include, now=NOW)["rows"][0]

    assert row("None") == {"cells": ["a", "Opaque", 2, "60m"], "object": None}
    assert row("Object")["object"] == obj
    assert row("Metadata")["object"] == {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": obj["metadata"],
    }


def test_the_version_asked_for_is_the_version_given():
    shown = tables.table(resource("", "pods"), [{"metadata": meta()}], {}, now=NOW, version="v1beta1")
    assert shown["apiVersion"] == shown["rows"][0]["object"]["apiVersion"] == "meta.k8s.io/v1beta1"


def test_later_events_of_a_watch_have_no_columns():
    assert tables.table(resource("", "pods"), [], {}, now=NOW, columns=False)["columnDefinitions"] is None


def test_nonsense_for_include_object_is_refused():
    assert tables.include_object("") == "Metadata"
    with pytest.raises(StatusError) as raised:
        tables.include_object("Everything")
    assert raised.value.message == (
        'Unable to convert to Table as requested: includeObject: Invalid value: "Everything": '
        "must be 'Metadata', 'Object', 'None', or empty"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (-1, "0s"),
        (119, "119s"),
        (120, "2m"),
        (200, "3m20s"),
        (3600, "60m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 300, "3h5m"),
        (30 * 3600, "30h"),
        (51 * 3600, "2d3h"),
        (100 * 86400, "100d"),
        (800 * 86400, "2y70d"),
        (9 * 365 * 86400, "9y"),
    ],
)
def test_ages_have_two_units_at_most(seconds, text):
    assert human_duration(seconds) == text


POD = {"spec": {"containers": [{"name": "a"}, {"name": "b"}]}, "status": {"phase": "Pending"}}


def running(name, **more):
    return {"name": name, "ready": True, "state": {"running": {}}, **more}


@pytest.mark.parametrize(
    ("status", "spec", "ready", "shown", "restarts"),
    [
        ({"phase": "Pending"}, {}, "0/2", "Pending", "0"),
        ({"phase": "Running", "containerStatuses": [running("a"), running("b")]}, {}, "2/2", "Running", "0"),
        ({"phase": "Failed", "reason": "Evicted"}, {}, "0/2", "Evicted", "0"),
        (
            {
                "phase": "Running",
                "containerStatuses": [
                    running("a"),
                    {
                        "name": "b",
                        "restartCount": 3,
                        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                        "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:55:00Z"}},
                    },
                ],
            },
            {},
            "1/2",
            "CrashLoopBackOff",
            "3 (5m ago)",
        ),
        (
            {"phase": "Failed", "containerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": 2}}}]},
            {},
            "0/2",
            "ExitCode:2",
            "0",
        ),
        (
            {"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]},
            {"initContainers": [{"name": "i"}]},
            "0/2",
            "Init:0/1",
            "0",
        ),
        (
            {
                "phase": "Pending",
                "initContainerStatuses": [{"name": "i", "state": {"waiting": {"reason": "ErrImagePull"}}}],
            },
            {"initContainers": [{"name": "i"}]},
            "0/2",
            "Init:ErrImagePull",
            "0",
        ),
        (
            {
                "phase": "Running",
                "initContainerStatuses": [running("s", started=True)],
                "containerStatuses": [running("a"), running("b")],
            },
            {"initContainers": [{"name": "s", "restartPolicy": "Always"}]},
            "3/3",
            "Running",
            "0",
        ),
        (
            {"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]},
            {},
            "0/2",
            "SchedulingGated",
            "0",
        ),
        (
            {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "False"}],
                "containerStatuses": [{"name": "a", "state": {"terminated": {"reason": "Completed"}}}, running("b")],
            },
            {},
            "1/2",
            "NotReady",
            "0",
        ),
    ],
)
def test_pods_are_told_by_what_keeps_them(status, spec, ready, shown, restarts):
    row = cells("", "pods", {"spec": {**POD["spec"], **spec}, "status": status})
    assert row == ["a", ready, shown, restarts, "60m", "<none>", "<none>", "<none>", "<none>"]


def test_pods_that_are_being_deleted_are_terminating_unless_done():
    leaving = {**POD, "metadata": meta(deletionTimestamp="2026-01-01T00:30:00Z")}
    assert cells("", "pods", leaving)[2] == "Terminating"
    assert cells("", "pods", {**leaving, "status": {"phase": "Succeeded"}})[2] == "Succeeded"


def test_pods_that_are_done_say_so_for_clients_that_show_less():
    done = {"metadata": meta(), "status": {"phase": "Succeeded"}}
    row = tables.table(resource("", "pods"), [done], {}, now=NOW)["rows"][0]
    assert row["conditions"][0]["reason"] == "Succeeded"


@pytest.mark.parametrize(
    ("spec", "status", "external", "ports"),
    [
        ({"type": "ClusterIP", "ports": [{"port": 80, "protocol": "TCP"}]}, {}, "<none>", "80/TCP"),
        (
            {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30000, "protocol": "TCP"}]},
            {},
            "<none>",
            "80:30000/TCP",
        ),
        ({"type": "LoadBalancer"}, {}, "<pending>", "<none>"),
        (
            {"type": "LoadBalancer", "externalIPs": ["9.9.9.9"]},
            {"loadBalancer": {"ingress": [{"hostname": "b"}, {"ip": "1.1.1.1"}]}},
            "1.1.1.1,b,9.9.9.9",
            "<none>",
        ),
        ({"type": "ExternalName", "externalName": "example.com"}, {}, "example.com", "<none>"),
    ],
)
def test_services(spec, status, external, ports):
    row = cells("", "services", {"spec": {"clusterIPs": ["10.0.0.1"], **spec}, "status": status})
    assert (row[2], row[3], row[4], row[6]) == ("10.0.0.1", external, ports, "<none>")


def test_nodes():
    node = {
        "metadata": meta(labels={"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "edge"}),
        "spec": {"unschedulable": True},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
            "nodeInfo": {"kubeletVersion": "v1.36.2"},
        },
    }
    assert cells("", "nodes", node) == [
        "a", "Ready,SchedulingDisabled", "edge,worker", "60m", "v1.36.2", "10.0.0.1", "<none>", "<unknown>",
        "<unknown>", "<unknown>",
    ]  # fmt: skip


def test_events_begin_with_when_they_were_seen():
    event = {
        "involvedObject": {"kind": "Pod", "name": "p"},
        "type": "Normal",
        "reason": "Made",
        "message": " done ",
        "firstTimestamp": "2026-01-01T00:50:00Z",
        "lastTimestamp": None,
        "source": {"component": "kubelet", "host": "n"},
    }
    assert cells("", "events", event) == [
        "10m", "Normal", "Made", "pod/p", "", "kubelet, n", "done", "10m", 1, "a",
    ]  # fmt: skip


def test_workloads():
    template = {"spec": {"containers": [{"name": "c", "image": "i"}, {"name": "d", "image": "j"}]}}
    selector = {"matchLabels": {"app": "x"}}
    deployment = {
        "spec": {"replicas": 3, "template": template, "selector": selector},
        "status": {"readyReplicas": 1, "updatedReplicas": 2},
    }
    assert cells("apps", "deployments", deployment) == ["a", "1/3", 2, 0, "60m", "c,d", "i,j", "app=x"]
    job = {
        "spec": {"completions": 2, "template": template, "selector": selector},
        "status": {"succeeded": 1, "startTime": BORN, "completionTime": "2026-01-01T00:00:30Z"},
    }
    assert cells("batch", "jobs", job) == ["a", "Running", "1/2", "30s", "60m", "c,d", "i,j", "app=x"]
    cron_job = {"spec": {"schedule": "* * * * *", "suspend": False, "jobTemplate": {"spec": {"template": template}}}}
    assert cells("batch", "cronjobs", cron_job)[1:7] == ["* * * * *", "<none>", "False", 0, "<none>", "60m"]


def test_autoscalers():
    metrics = [
        {"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}},
        {"type": "Pods", "pods": {"target": {"averageValue": "1k"}}},
        {"type": "Object", "object": {"target": {"value": "5"}}},
    ]
    current = [{"type": "Resource", "resource": {"current": {"averageUtilization": 20}}}]
    spec = {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "maxReplicas": 4, "metrics": metrics}
    row = cells("autoscaling", "horizontalpodautoscalers", {"spec": spec, "status": {"currentMetrics": current}}, "v2")
    assert row == ["a", "Deployment/d", "cpu: 20%/80%, <unknown>/1k + 1 more...", "<unset>", 4, 0, "60m"]


def test_access():
    rbac = "rbac.authorization.k8s.io"
    subjects = [
        {"kind": "User", "name": "alice"},
        {"kind": "User", "name": "bob"},
        {"kind": "Group", "name": "ops"},
        {"kind": "ServiceAccount", "namespace": "ns", "name": "robot"},
        {"kind": "ServiceAccount", "name": "own"},
    ]
    binding = {"roleRef": {"kind": "ClusterRole", "name": "view"}, "subjects": subjects}
    row = cells(rbac, "rolebindings", binding)
    assert row == ["a", "ClusterRole/view", "60m", "alice, bob", "ops", "ns/robot, /own"]
    assert cells(rbac, "roles", {}) == ["a", BORN]
    request = {
        "spec": {"signerName": "example.org/s", "username": "u", "expirationSeconds": 7200},
        "status": {"conditions": [{"type": "Approved"}], "certificate": "x"},
    }
    row = cells("certificates.k8s.io", "certificatesigningrequests", request)
    assert row == ["a", "60m", "example.org/s", "u", "120m", "Approved,Issued"]


def test_quotas_tell_requests_and_limits_apart():
    status = {"hard": {"pods": "10", "limits.cpu": "4"}, "used": {"pods": "3"}}
    assert cells("", "resourcequotas", {"status": status}) == ["a", "pods: 3/10", "limits.cpu: 0/4", "60m"]


def test_default_classes_are_marked():
    def named(group, name, annotation):
        obj = {"metadata": {**meta(), "annotations": {annotation: "true"}}}
        return tables.table(resource(group, name), [obj], {}, now=NOW)["rows"][0]["cells"][0]

    name = meta()["name"]
    assert (
        named("storage.k8s.io", "storageclasses", "storageclass.kubernetes.io/is-default-class") == f"{name} (default)"
    )
    assert (
        named("networking.k8s.io", "ingressclasses", "ingressclass.kubernetes.io/is-default-class")
        == f"{name} (default)"
    )
    assert named("storage.k8s.io", "storageclasses", "ingressclass.kubernetes.io/is-default-class") == name


def test_endpoints_are_cut_after_three():
    subset = {"addresses": [{"ip": f"10.0.0.{n}"} for n in range(5)], "ports": [{"port": 80}]}
    row = cells("", "endpoints", {"subsets": [subset]})
    assert row[1] == "10.0.0.0:80,10.0.0.1:80,10.0.0.2:80 + 2 more..."
    assert cells("", "endpoints", {})[1] == "<none>"


CUSTOM = CustomResource(
    list_kind="CronTabList",
    schema=Schema(),
    structural=Structural({}),
    openapi={},
    columns=(
        Column("Spec", "string", ".spec.cronSpec", description="when"),
        Column("Replicas", "integer", ".spec.replicas"),
        Column("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
        Column("Since", "date", ".spec.since"),
        Column("Map", "string", ".spec.map", priority=1),
        Column("Wrong", "integer", ".spec.cronSpec"),
    ),
)


def test_custom_resources_show_what_their_definition_says():
    crontabs = replace(resource("", "configmaps"), resource="crontabs", group="example.org", custom=CUSTOM)
    obj = {
        "metadata": meta(),
        "spec": {"cronSpec": "* *", "replicas": 2.0, "since": "2026-01-01T00:58:00Z", "map": {"b": 1, "a": [True]}},
        "status": {"conditions": [{"type": "Other", "status": "?"}, {"type": "Ready", "status": "True"}]},
    }
    shown = tables.table(crontabs, [obj], {}, now=NOW)
    assert shown["rows"][0]["cells"] == ["a", "* *", 2, "True", "2m", '{"a":[true],"b":1}', None]
    assert shown["columnDefinitions"][0]["description"].startswith("Name must be unique within a namespace. ")
    assert [column["description"] for column in shown["columnDefinitions"][1:3]] == [
        "when",
        "Custom resource definition column (in JSONPath format): .spec.replicas",
    ]
    without = replace(crontabs, custom=replace(CUSTOM, columns=()))
    assert tables.table(without, [obj], {}, now=NOW)["rows"][0]["cells"] == ["a", "60m"]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".a.b", [1]),
        (".a['b']", [1]),
        (".list[1].n", [2]),
        (".list[-1].n", [3]),
        (".list[0:2].n", [1, 2]),
        (".list[*].n", [1, 2, 3]),
        (".list[?(@.n>1)].n", [2, 3]),
        (".list[?(@.t)].n", [1]),
        (r".a.x\.y/z", ["dotted"]),
        (r".a['x\.y/z']", ["dotted"]),
        (".a['x.y/z']", []),
        (".list[::2].n", [1, 3]),
        (".list[-2:].n", [2, 3]),
        (".list[0:4].n", []),
        (".list[2:1].n", []),
        ("..b", [1]),
        (".none.b", []),
        (".a[", []),
        (".", [{"a": {"b": 1, "x.y/z": "dotted"}, "list": [{"n": 1, "t": ""}, {"n": 2}, {"n": 3}]}]),
    ],
)
def test_paths_of_columns(path, found):
    value = {"a": {"b": 1, "x.y/z": "dotted"}, "list": [{"n": 1, "t": ""}, {"n": 2}, {"n": 3}]}
    assert find(path, value) == found


def test_a_path_that_multiplies_what_it_finds_finds_nothing() -> None:
    """Each `..` of a printer column finds all that is below all that was found."""
    value: dict[str, object] = {"a": 1}
    for _ in range(100):
        value = {"a": value}
    assert len(find("..a", value)) == 101
    assert find("..a" * 40, value) == []
