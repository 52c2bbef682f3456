"""What schemas alone say of objects: enumerations and required fields, with their paths."""

from __future__ import annotations

from kubegate.api.schema import schema_for
from kubegate.api.schemacheck import check


def errors(kind, obj, group="", version="v1"):
    schema = schema_for(group, version, kind)
    assert schema is not None
    return [str(error) for error in check(obj, schema)]


def test_values_outside_an_enumeration_are_refused_with_their_path():
    service = {"spec": {"type": "Magic", "ports": [{"port": 1}, {"port": 2, "protocol": "ICMP"}]}}
    assert errors("Service", service) == [
        'spec.type: Unsupported value: "Magic": supported values: '
        '"ClusterIP", "ExternalName", "LoadBalancer", "NodePort"',
        'spec.ports[1].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"',
    ]


def test_required_text_must_be_there_and_not_empty():
    assert errors("StorageClass", {}, "storage.k8s.io") == ["provisioner: Required value"]
    assert errors("RuntimeClass", {"handler": "h"}, "node.k8s.io") == []
    attachment = {"spec": {"attacher": "", "nodeName": "n", "source": {}}}
    assert errors("VolumeAttachment", attachment, "storage.k8s.io") == ["spec.attacher: Required value"]


def test_metadata_and_status_are_checked_elsewhere():
    assert errors("Pod", {"metadata": 5, "status": {"phase": "Dancing"}, "spec": {"containers": []}}) == []


def test_recursive_types_are_checked_all_the_way_down():
    inner = {"x-kubernetes-validations": [{"rule": "r", "reason": "Because"}]}
    deep = {"properties": {"a": {"properties": {"b": inner}}}}
    crd = {"spec": {"group": "g", "scope": "s", "versions": [{"name": "v", "schema": {"openAPIV3Schema": deep}}]}}
    found = errors("CustomResourceDefinition", crd, "apiextensions.k8s.io")
    assert found == [
        "spec.versions[0].schema.openAPIV3Schema.properties[a].properties[b].x-kubernetes-validations[0].reason: "
        'Unsupported value: "Because": supported values: "FieldValueDuplicate", "FieldValueForbidden", '
        '"FieldValueInvalid", "FieldValueRequired"'
    ]
