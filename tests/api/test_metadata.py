"""Metadata: what may be said in it, and what becomes of a prefix."""

from __future__ import annotations

import itertools

import pytest

from kubegate.api import metadata
from kubegate.api.metadata import generate_name, validate_create, validate_update

GOOD = {"name": "a", "namespace": "ns"}
STORED = {**GOOD, "uid": "u", "resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z"}


def texts(errors):
    return [str(error) for error in errors]


def test_plain_metadata_is_good():
    assert validate_create(GOOD, True) == []
    assert validate_create({"name": "a"}, False) == []
    assert validate_update({**STORED, "labels": {"a": "b"}}, STORED) == []


def test_a_name_is_required():
    assert texts(validate_create({"namespace": "ns"}, True)) == [
        "metadata.name: Required value: name or generateName is required"
    ]


def test_the_prefix_and_the_generated_name_are_both_checked():
    fields = [error.field for error in validate_create({**GOOD, "name": "Up_1", "generateName": "Up_"}, True)]
    assert fields == ["metadata.generateName", "metadata.name"]


def test_a_prefix_may_end_in_a_dash():
    assert validate_create({**GOOD, "generateName": "a-"}, True) == []


@pytest.mark.parametrize(
    ("kind", "name", "error"),
    [
        ("label", "not.dotted", "must not contain dots"),
        ("service", "1.two", "must not contain dots"),
        ("path", "with/slash", "may not contain '/'"),
        ("path", "..", "may not be '..'"),
        ("subdomain", "a" * 254, "must be no more than 253 characters"),
    ],
)
def test_names_are_checked_by_their_kind(kind, name, error):
    found = validate_create({"name": name}, False, kind)
    assert texts(found) == [f'metadata.name: Invalid value: "{name}": {error}']


def test_namespaces_must_fit_the_scope():
    assert texts(validate_create({"name": "a"}, True)) == ["metadata.namespace: Required value"]
    assert texts(validate_create(GOOD, False)) == ["metadata.namespace: Forbidden: not allowed on this type"]
    assert "must not contain dots" in texts(validate_create({"name": "a", "namespace": "a.b"}, True))[0]


def test_annotations_have_keys_in_any_case_and_a_common_limit():
    assert validate_create({**GOOD, "annotations": {"A.Example.Org/B": "x" * 1000}}, True) == []
    assert texts(validate_create({**GOOD, "annotations": {"a": "x" * 262144}}, True)) == [
        "metadata.annotations: Too long: may not be more than 262144 bytes"
    ]
    assert texts(validate_create({**GOOD, "annotations": {"/a": ""}}, True))[0].startswith(
        'metadata.annotations: Invalid value: "/a": prefix part must be non-empty'
    )


def test_owner_references_are_complete_and_have_one_controller():
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "u"}
    assert validate_create({**GOOD, "ownerReferences": [owner]}, True) == []
    found = texts(validate_create({**GOOD, "ownerReferences": [{}]}, True))
    assert found == [
        'metadata.ownerReferences.apiVersion: Invalid value: "": version must not be empty',
        'metadata.ownerReferences.kind: Invalid value: "": must not be empty',
        'metadata.ownerReferences.name: Invalid value: "": must not be empty',
        'metadata.ownerReferences.uid: Invalid value: "": must not be empty',
    ]
    event = {"uid": "u", "kind": "Event", "apiVersion": "v1"}
    told = texts(validate_create({**GOOD, "ownerReferences": [event]}, True))[-1]
    assert told.startswith(
        'metadata.ownerReferences: Invalid value: {"apiVersion":"v1","kind":"Event","name":"","uid":"u"}:'
    )
    two = [{**owner, "controller": True}, {**owner, "name": "p", "controller": True}]
    assert texts(validate_create({**GOOD, "ownerReferences": two}, True))[0].endswith(
        'Only one reference can have Controller set to true. Found "true" in references for ConfigMap/o and ConfigMap/p'
    )
    event = {**owner, "kind": "Event"}
    assert "is disallowed from being an owner" in texts(validate_create({**GOOD, "ownerReferences": [event]}, True))[0]


def test_finalizers_are_label_keys_and_do_not_contradict():
    assert texts(validate_create({**GOOD, "finalizers": ["a/"]}, True))[0].startswith(
        'metadata.finalizers: Invalid value: "a/": name part must be non-empty'
    )
    assert texts(validate_create({**GOOD, "finalizers": ["orphan", "foregroundDeletion"]}, True)) == [
        'metadata.finalizers: Invalid value: ["orphan","foregroundDeletion"]: '
        "finalizer orphan and foregroundDeletion cannot be both set"
    ]


def test_updates_change_neither_identity_nor_times():
    changed = {**STORED, "uid": "v", "creationTimestamp": "2027-01-01T00:00:00Z"}
    assert texts(validate_update(changed, STORED)) == [
        'metadata.uid: Invalid value: "v": field is immutable',
        'metadata.creationTimestamp: Invalid value: "2027-01-01T00:00:00Z": field is immutable',
    ]
    added = {**STORED, "deletionGracePeriodSeconds": 5}
    assert texts(validate_update(added, STORED)) == [
        "metadata.deletionGracePeriodSeconds: Invalid value: 5: field is immutable"
    ]
    without = {key: value for key, value in STORED.items() if key != "resourceVersion"}
    assert texts(validate_update(without, STORED)) == [
        'metadata.resourceVersion: Invalid value: "": must be specified for an update'
    ]


def test_what_is_being_deleted_gets_no_new_finalizers():
    deleted = {**STORED, "deletionTimestamp": "2026-01-02T00:00:00Z", "finalizers": ["example.org/a"]}
    assert validate_update({**deleted, "finalizers": []}, deleted) == []
    assert texts(validate_update({**deleted, "finalizers": ["example.org/a", "example.org/b"]}, deleted)) == [
        "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, "
        'found new finalizers []string{"example.org/b"}'
    ]


def test_managed_fields_are_checked():
    entries = [{"operation": "Guess", "fieldsType": "FieldsV2", "manager": "a\x01", "subresource": "s" * 257}]
    assert texts(validate_update({**STORED, "managedFields": entries}, STORED)) == [
        'metadata.managedFields[0].operation: Invalid value: "Guess": must be `Apply` or `Update`',
        'metadata.managedFields[0].fieldsType: Invalid value: "FieldsV2": must be `FieldsV1`',
        'metadata.managedFields[0].manager: Invalid value: "a\\x01": invalid character U+0001 (at position 1)',
        "metadata.managedFields[0].subresource: Too long: may not be more than 256 bytes",
    ]


def test_generated_names_are_the_prefix_and_five_characters():
    numbers = itertools.count()
    assert generate_name("part-", lambda limit: next(numbers) % limit) == "part-bcdfg"
    assert len(generate_name("x" * 100, lambda limit: limit - 1)) == 63


def test_metadata_alone():
    obj = {"apiVersion": "v1", "kind": "Secret", "metadata": STORED, "data": {"k": "v"}}
    assert metadata.partial(obj, "v1beta1") == {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1beta1",
        "metadata": STORED,
    }
    listed = metadata.partial_list([obj], {"resourceVersion": "7"})
    assert (listed["kind"], listed["metadata"], len(listed["items"])) == (
        "PartialObjectMetadataList",
        {"resourceVersion": "7"},
        1,
    )
