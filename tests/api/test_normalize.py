"""Objects of built-in kinds as Go's types have them: what is refused, what is told, and what comes out."""

from __future__ import annotations

import copy

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubegate.api import negotiate
from kubegate.api.normalize import TypeMismatch, complete, decode_base64, normalize, parse_time, read
from kubegate.api.schema import schema_for
from kubegate.api.status import StatusError

RBAC = "rbac.authorization.k8s.io"


def schema(kind, group="", version="v1"):
    found = schema_for(group, version, kind)
    assert found is not None
    return found


def refused(kind, body, group="", field_validation="Strict", media_type=negotiate.JSON):
    with pytest.raises(StatusError) as raised:
        read(body if isinstance(body, bytes) else orjson.dumps(body), media_type, (group, "v1", kind), field_validation)
    assert raised.value.code == 400
    prefix = f'{kind} in version "v1" cannot be handled as a {kind}: '
    assert raised.value.message.startswith(prefix)
    return raised.value.message.removeprefix(prefix)


@pytest.mark.parametrize(
    ("kind", "group", "body", "error"),
    [
        ("ConfigMap", "", {"data": {"a": 1}}, "number into Go struct field ConfigMap.data of type string"),
        ("ConfigMap", "", {"data": "x"}, "string into Go struct field ConfigMap.data of type map[string]string"),
        ("ConfigMap", "", {"metadata": []}, "array into Go struct field ConfigMap.metadata of type v1.ObjectMeta"),
        ("ConfigMap", "", {"immutable": "x"}, "string into Go struct field ConfigMap.immutable of type bool"),
        (
            "Deployment",
            "apps",
            {"spec": {"replicas": "x"}},
            "string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "ClusterRoleBinding",
            RBAC,
            {"subjects": "alice"},
            "string into Go struct field ClusterRoleBinding.subjects of type []v1.Subject",
        ),
        (
            "Pod",
            "",
            {"spec": {"containers": [{"name": "a"}, {"image": {}}]}},
            "object into Go struct field Container.spec.containers.image of type string",
        ),
        (
            "Service",
            "",
            {"spec": {"ports": [{"port": 1.5}]}},
            "number 1.5 into Go struct field ServicePort.spec.ports.port of type int32",
        ),
        (
            "Service",
            "",
            {"spec": {"ports": [{"port": 99999999999}]}},
            "number 99999999999 into Go struct field ServicePort.spec.ports.port of type int32",
        ),
        (
            "Service",
            "",
            {"spec": {"ports": [{"targetPort": True}]}},
            "bool into Go struct field ServicePort.spec.ports.targetPort of type int32",
        ),
    ],
)
def test_values_of_the_wrong_type_are_refused_with_their_place(kind, group, body, error):
    assert refused(kind, body, group) == f"json: cannot unmarshal {error}"


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        ("ConfigMap", {"data": {"b": 2}}, "cannot convert int64 to string"),
        ("ConfigMap", {"data": {"b": [1, 2]}}, "unrecognized type: string"),
        ("ConfigMap", {"data": "x"}, "cannot restore map from string"),
        ("ConfigMap", {"metadata": []}, "cannot restore struct from: slice"),
        ("ConfigMap", {"immutable": "x"}, "unrecognized type: bool"),
        ("Pod", {"spec": {"terminationGracePeriodSeconds": "x"}}, "unrecognized type: int64"),
        ("Pod", {"spec": {"priority": 1.5}}, "cannot convert float64 to int32"),
        ("Pod", {"spec": {"containers": {}}}, "cannot restore slice from map"),
        ("Pod", {"spec": {"containers": [{"imagePullPolicy": 1}]}}, "cannot convert int64 to v1.PullPolicy"),
        ("Secret", {"data": {"a": "_"}}, "error decoding from json: illegal base64 data at input byte 0"),
        ("ConfigMap", {"metadata": {"creationTimestamp": 5}}, "json: cannot unmarshal number into Go value of type"),
        ("ResourceQuota", {"spec": {"hard": {"cpu": "lots"}}}, "quantities must match the regular expression"),
    ],
)
def test_objects_that_were_patched_have_other_words_for_it(kind, body, text):
    with pytest.raises(TypeMismatch) as raised:
        normalize(body, schema(kind))
    assert raised.value.conversion.startswith(text)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"metadata": {"generation": 1.0}}', "json: cannot unmarshal number 1.0 into"),
        (b'{"metadata": {"generation": 1E2}}', "json: cannot unmarshal number 1E2 into"),
        (b'{"metadata": {"generation": 18446744073709551616}}', "json: cannot unmarshal number 18446744073709551616 "),
        # Of several, the first; but what cannot be read at all ends the reading.
        (b'{"data": 1, "immutable": 2}', "json: cannot unmarshal number into Go struct field ConfigMap.data of"),
        (b'{"data": 1, "metadata": {"creationTimestamp": "\xc3\xa9"}}', 'parsing time "\\xc3\\xa9" as "2006-'),
        (
            b'{"data": 1, "metadata": {"creationTimestamp": 5}}',
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.creationTimestamp of type string",
        ),
        (b'{"binaryData": {"a": ["x"]}}', "json: cannot unmarshal string into Go struct field ConfigMap.binaryData of"),
    ],
)
def test_the_first_error_is_told_with_numbers_as_they_were_written(body, error):
    assert refused("ConfigMap", body).startswith(error)


def test_bytes_may_be_numbers_in_a_list():
    found, _ = read(b'{"binaryData": {"a": [104, null, 105]}}', negotiate.JSON, ("", "v1", "ConfigMap"))
    assert found["binaryData"] == {"a": "aABp"}


def test_json_schemas_that_may_be_something_else_are_read_like_others():
    def read_schema(openapi):
        versions = [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": openapi}}]
        body = {"spec": {"group": "g", "scope": "Cluster", "names": {}, "versions": versions}}
        kind = ("apiextensions.k8s.io", "v1", "CustomResourceDefinition")
        found, told = read(orjson.dumps(body), negotiate.JSON, kind, "Strict")
        assert not told  # of what is in them, nothing is
        return found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]

    assert read_schema({"items": {"type": "string", "x": 1}}) == {"items": {"type": "string"}}
    assert read_schema({"items": [{"type": "string", "x": 1}]}) == {"items": [{"type": "string"}]}
    assert read_schema({"additionalProperties": {"x": 1}}) == {"additionalProperties": {}}
    assert read_schema({"additionalProperties": False}) == {"additionalProperties": False}
    assert read_schema({"dependencies": {"a": ["b"]}}) == {"dependencies": {"a": ["b"]}}
    with pytest.raises(StatusError, match="boolean or JSON schema expected"):
        read_schema({"additionalProperties": 1})
    with pytest.raises(StatusError, match="field JSONSchemaProps"):
        read_schema({"items": {"type": 1}})


def test_nothing_is_told_of_what_reads_itself():
    body = (
        b'{"metadata": {"labels": {"a\\"": "b", "a\\"": "c"}, "managedFields": [{"fieldsV1": {"f:a": {}, "f:a": {}}}]}}'
    )
    assert refused("ConfigMap", body) == 'strict decoding error: duplicate field "metadata.labels.a\\""'


def test_quantities_bytes_and_times_that_are_none_are_refused():
    assert refused("ResourceQuota", {"spec": {"hard": {"cpu": "lots"}}}).startswith("quantities must match")
    assert refused("ConfigMap", {"binaryData": {"b": "not base64!"}}) == "illegal base64 data at input byte 3"
    assert refused("ConfigMap", {"metadata": {"deletionTimestamp": "foo"}}) == (
        'parsing time "foo" as "2006-01-02T15:04:05Z07:00": cannot parse "foo" as "2006"'
    )
    assert refused("Lease", {"spec": {"renewTime": "2024-01-01T00:00:00Z"}}, "coordination.k8s.io") == (
        'parsing time "2024-01-01T00:00:00Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "Z" as ".000000"'
    )


def test_unknown_fields_are_refused_told_or_dropped_as_the_client_wants():
    body = {"spec": {"containers": [{"name": "a", "imag": "i"}]}, "extra": 1}
    assert refused("Pod", body) == (
        'strict decoding error: unknown field "spec.containers[0].imag", unknown field "extra"'
    )
    obj, warnings = read(orjson.dumps(body), negotiate.JSON, ("", "v1", "Pod"), "Warn")
    assert warnings == ['unknown field "spec.containers[0].imag"', 'unknown field "extra"']
    assert obj == {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "a"}]}}
    assert read(orjson.dumps(body), negotiate.JSON, ("", "v1", "Pod"), "Ignore") == (obj, [])


def test_unknown_and_duplicate_fields_are_told_in_the_order_of_the_document():
    body = b'{"metadata":{"name":"a","name":"b"},"extra":1,"data":{"a":"x","a":"y"},"extra":2,"z":{"q":1,"q":2}}'
    assert refused("ConfigMap", body) == (
        'strict decoding error: duplicate field "metadata.name", unknown field "extra", duplicate field "data.a", '
        'unknown field "z"'
    )


def test_of_yaml_duplicates_come_first():
    body = b"metadata:\n  name: y2\n  name: y3\nextra: 1\ndata:\n  a: b\n  a: c\nbefore: 1\n"
    assert refused("ConfigMap", body, media_type=negotiate.YAML) == (
        'strict decoding error: yaml: unmarshal errors:\n  line 3: key "name" already set in map\n'
        '  line 7: key "a" already set in map, unknown field "before", unknown field "extra"'
    )


def test_empty_values_go_unless_they_are_pointers_or_structs():
    pod = {
        "metadata": {"labels": {}, "name": "p", "creationTimestamp": None},
        "spec": {
            "containers": [{"name": "a", "image": "", "env": [], "stdin": False, "resources": {}}],
            "hostNetwork": False,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "securityContext": {},
            "tolerations": None,
        },
    }
    assert normalize(pod, schema("Pod")).value == {
        "metadata": {"name": "p"},
        "spec": {
            "containers": [{"name": "a", "resources": {}}],
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "securityContext": {},
        },
    }


def test_complete_objects_have_the_zero_values_that_go_writes():
    assert complete({}, schema("Role", RBAC)) == {"metadata": {}, "rules": None}
    assert complete({"rules": []}, schema("Role", RBAC)) == {"metadata": {}, "rules": []}
    assert complete({"type": "Normal"}, schema("Event")) == {
        "metadata": {},
        "involvedObject": {},
        "source": {},
        "firstTimestamp": None,
        "lastTimestamp": None,
        "type": "Normal",
        "eventTime": None,
        "reportingComponent": "",
        "reportingInstance": "",
    }
    assert complete({"spec": {"containers": [{"name": "a"}]}}, schema("Pod")) == {
        "metadata": {},
        "spec": {"containers": [{"name": "a", "resources": {}}]},
        "status": {},
    }


def test_nulls_in_lists_and_maps_become_zero_values():
    assert normalize({"data": {"a": None}}, schema("ConfigMap")).value == {"data": {"a": ""}}
    command = {"spec": {"containers": [{"command": ["a", None]}, None]}}
    assert normalize(command, schema("Pod")).value["spec"]["containers"] == [
        {"command": ["a", ""]},
        {"name": "", "resources": {}},
    ]


def test_quantities_and_times_get_their_one_form():
    quota = {"spec": {"hard": {"cpu": "1.5", "memory": 1000, "pods": "1000m", "x": "0.1m"}}}
    assert normalize(quota, schema("ResourceQuota")).value["spec"]["hard"] == {
        "cpu": "1500m",
        "memory": "1k",
        "pods": "1",
        "x": "1m",
    }
    meta = {"metadata": {"deletionTimestamp": "2024-01-01T02:00:00.5+02:00"}}
    assert normalize(meta, schema("ConfigMap")).value["metadata"]["deletionTimestamp"] == "2024-01-01T00:00:00Z"
    lease = {"spec": {"renewTime": "2024-01-01T02:00:00.123456+02:00"}}
    renewed = normalize(lease, schema("Lease", "coordination.k8s.io")).value["spec"]["renewTime"]
    assert renewed == "2024-01-01T00:00:00.123456Z"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("2024-13-01T00:00:00Z", 'parsing time "2024-13-01T00:00:00Z": month out of range'),
        ("2024-02-30T00:00:00Z", 'parsing time "2024-02-30T00:00:00Z": day out of range'),
        ("2024-01-01T25:00:00Z", 'parsing time "2024-01-01T25:00:00Z": hour out of range'),
        ("2024-01-01T00:00:00Zx", 'parsing time "2024-01-01T00:00:00Zx": extra text: "x"'),
        (
            "2024-01-01T00:00:00",
            'parsing time "2024-01-01T00:00:00" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "Z07:00"',
        ),
    ],
)
def test_times_are_refused_as_go_refuses_them(text, error):
    with pytest.raises(TypeMismatch) as raised:
        parse_time(text)
    assert str(raised.value) == error


@pytest.mark.parametrize(
    ("text", "place"), [("***", 0), ("abc", 0), ("abcde", 4), ("a===", 1), ("ab=x", 2), ("abcd=", 4), ("YQ==Y", 4)]
)
def test_base64_is_refused_with_the_byte_where_it_ends(text, place):
    with pytest.raises(TypeMismatch, match=f"illegal base64 data at input byte {place}$"):
        decode_base64(text)


def test_line_breaks_in_base64_are_dropped():
    value = normalize({"data": {"a": "aGVs\nbG8="}}, schema("Secret")).value
    assert value["data"] == {"a": "aGVsbG8="}


def test_what_is_sent_is_not_changed():
    sent = {"spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": "1.5"}}}], "nodeSelector": {}}}
    before = copy.deepcopy(sent)
    made = complete(sent, schema("Pod"))
    made["spec"]["containers"][0]["resources"]["limits"]["cpu"] = "2"
    assert sent == before


NAMES = [
    "metadata",
    "spec",
    "containers",
    "name",
    "image",
    "resources",
    "limits",
    "cpu",
    "volumes",
    "env",
    "labels",
    "x",
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=15,
)


@given(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4))
def test_any_object_is_normalized_or_refused_and_normalizing_again_changes_nothing(value):
    pod = schema("Pod")
    try:
        once = normalize(value, pod).value
    except TypeMismatch:
        return
    assert normalize(once, pod).value == once
    done = complete(once, pod)
    assert complete(done, pod) == done
    assert normalize(value, pod, completing=True).value == done
