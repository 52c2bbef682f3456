"""Discovery: the old documents and the aggregated one say what the measured facts say."""

from __future__ import annotations

import orjson
import pytest

from kubegate.api.requestinfo import RequestInfo
from kubegate.api.resources import Resources, data
from kubegate.api.status import StatusError
from kubegate.authentication import Headers
from kubegate.server.aggregation import RemoteApis
from kubegate.server.call import Call, parse_query
from kubegate.server.discovery import Discovery

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


async def nothing():
    return {"type": "http.disconnect"}


def call(path, **headers):
    given = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Call(
        "1", "GET", path, "", parse_query(""), Headers.of(given), RequestInfo(False, path, "get"), nothing, 1000
    )


@pytest.fixture(scope="module")
def discovery():
    return Discovery(Resources.built_in(), lambda: "127.0.0.1:6443", RemoteApis())


@pytest.mark.parametrize("root", ["/api", "/apis"])
def test_the_aggregated_document_is_the_measured_one(discovery, root):
    answer = discovery.answer(call(root, accept=AGGREGATED))
    measured = orjson.loads(data("discovery.json"))[root]
    assert answer.content_type == AGGREGATED.encode()
    assert orjson.loads(answer.body)["items"] == measured["items"]


def test_who_has_the_aggregated_document_already_is_told_so(discovery):
    first = discovery.answer(call("/apis", accept=AGGREGATED))
    tag = dict(first.headers)[b"etag"].decode()
    again = discovery.answer(call("/apis", accept=AGGREGATED, if_none_match=tag))
    assert (again.status, again.body) == (304, b"")


def test_a_version_of_the_aggregated_document_that_is_not_known_is_refused_unless_there_is_another_choice(discovery):
    unknown = AGGREGATED.replace("v=v2", "v=v9")
    with pytest.raises(StatusError) as raised:
        discovery.answer(call("/api", accept=unknown))
    assert raised.value.code == 406
    answer = discovery.answer(call("/api", accept=f"{unknown},application/json"))
    assert orjson.loads(answer.body)["kind"] == "APIVersions"


def test_the_old_documents_lead_from_groups_to_resources(discovery):
    groups = orjson.loads(discovery.answer(call("/apis")).body)["groups"]
    apps = next(group for group in groups if group["name"] == "apps")
    assert apps["preferredVersion"] == {"groupVersion": "apps/v1", "version": "v1"}
    listed = orjson.loads(discovery.answer(call("/apis/apps/v1")).body)
    names = [resource["name"] for resource in listed["resources"]]
    assert names == sorted(names)
    assert {"deployments", "deployments/scale", "deployments/status"} <= set(names)
    assert discovery.answer(call("/apis/none")).status == 404
