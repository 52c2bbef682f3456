"""Webhooks and policies are loaded with the first object that configures them: until then, and should that fail."""

from __future__ import annotations

import logging

import pytest
from server_client import Start

from kubegate.api import Object

CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
NOTHING_CALLED_X = {
    "metadata": {"name": "p"},
    "spec": {
        "matchConstraints": {"resourceRules": [{
            "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"],
        }]},
        "validations": [{"expression": "object.metadata.name != 'x'", "message": "no x"}],
    },
}  # fmt: skip
BINDING = {"metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Deny"]}}


def config_map(name: str) -> Object:
    return {"metadata": {"name": name}}


async def test_the_first_policy_counts_from_the_next_request_on(start: Start) -> None:
    client = (await start("--controllers=none")).client
    assert (await client.ask("POST", CONFIGMAPS, config_map("x"))).status == 201
    assert (await client.ask("DELETE", f"{CONFIGMAPS}/x")).status == 200
    assert (await client.ask("POST", POLICIES, NOTHING_CALLED_X)).status == 201
    assert (await client.ask("POST", f"{POLICIES.removesuffix('ies')}ybindings", BINDING)).status == 201
    refused = await client.ask("POST", CONFIGMAPS, config_map("x"))
    assert refused.status == 422
    assert "no x" in refused.json["message"]
    assert (await client.ask("POST", CONFIGMAPS, config_map("y"))).status == 201


async def test_policies_that_cannot_be_loaded_refuse_everything(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = (await start("--controllers=none")).client

    def fail(*_: object) -> None:
        raise ImportError("no CEL here")

    monkeypatch.setattr("kubegate.admission.policies.build.build_plugins", fail)
    with caplog.at_level(logging.ERROR):
        assert (await client.ask("POST", POLICIES, NOTHING_CALLED_X)).status == 201
    assert "no CEL here" in caplog.text
    refused = await client.ask("POST", CONFIGMAPS, config_map("y"))
    assert refused.status == 500
    assert "admission plugin MutatingAdmissionPolicy could not be loaded" in refused.json["message"]
    assert (await client.ask("GET", CONFIGMAPS)).status == 200
