"""/statusz and /flagz: how long the server has run, and with which flags."""

from __future__ import annotations

import re

import pytest
from server_client import Client, Start

from kubegate.server.options import parse, values

ASKED = "g=config.k8s.io;v=v1beta1;as="


@pytest.fixture
async def client(start: Start) -> Client:
    return (await start("--controllers=none", "--event-ttl=90m")).client


@pytest.mark.parametrize("accept", ["", "text/plain", "*/*", "application/json, text/*"])
async def test_people_are_told_in_text(client: Client, accept: str) -> None:
    found = await client.ask("GET", "/statusz", Accept=accept)
    assert (found.status, found.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert re.fullmatch(
        r"\napiserver statusz\nWarning: This endpoint is not .+ for debugging purposes only\.\n\n"
        r"Started: \w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d UTC \d{4}\nUp: 0 hr 0\d min \d\d sec\nGo version: python3\.\S+\n"
        r"Binary version: 1\.\d+\nEmulation version: 1\.\d+\n"
        r"Paths: /flagz /healthz /livez /metrics /readyz /statusz /version\n",
        found.body.decode(),
    )
    flags = (await client.ask("GET", "/flagz", Accept=accept)).body.decode()
    assert flags.startswith("\napiserver flagz\nWarning: ")
    assert "\nauthorization-mode=[Node,RBAC]\n" in flags
    assert "\nevent-ttl=1h30m0s\n" in flags


@pytest.mark.parametrize("kind", ["Statusz", "Flagz"])
async def test_programs_name_the_object_that_they_want(client: Client, kind: str) -> None:
    path = f"/{kind.lower()}"
    found = await client.ask("GET", path, Accept=f"application/json;{ASKED}{kind}")
    assert found.headers["content-type"] == f"application/json;{ASKED}{kind}"
    assert [found.json[field] for field in ("kind", "apiVersion", "metadata")] == [
        kind,
        "config.k8s.io/v1beta1",
        {"name": "apiserver"},
    ]
    assert set(found.json) - {"kind", "apiVersion", "metadata"} == (
        {"flags"}
        if kind == "Flagz"
        else {"startTime", "uptimeSeconds", "goVersion", "binaryVersion", "emulationVersion", "paths"}
    )
    old = await client.ask("GET", path, Accept=f"application/yaml;{ASKED}{kind}".replace("v1beta1", "v1alpha1"))
    assert old.body.decode().startswith("apiVersion: config.k8s.io/v1alpha1\n")
    assert old.headers["warning"] == (
        f'299 - "This version of the {path[1:]} endpoint is deprecated. Please use a newer version."'
    )


@pytest.mark.parametrize(
    "accept",
    [
        "application/json",
        "text/html",
        "application/json;as=Table;g=meta.k8s.io;v=v1",
        f"application/json;{ASKED}Flagz",
        f"application/json;{ASKED}Statusz;stream=watch",
        f"text/plain;{ASKED}Statusz",
    ],
)
async def test_who_names_none_is_refused(client: Client, accept: str) -> None:
    refused = await client.ask("GET", "/statusz", Accept=accept)
    assert (refused.status, refused.json["message"]) == (
        406,
        "only the following media types are accepted: application/json, application/yaml, text/plain",
    )


async def test_they_are_listed_and_not_for_everybody(client: Client) -> None:
    assert {"/flagz", "/statusz"} <= set((await client.ask("GET", "/")).json["paths"])
    assert (await client.ask("GET", "/flagz", token="alice-token")).status == 403


def test_flags_are_written_as_they_are_given_and_without_passwords() -> None:
    given = ["--etcd-servers=http://root:secret@a:1,http://b:2", "--anonymous-auth=false", "--event-ttl=0s", "--v=2"]
    told = values(parse(given).options)
    assert [told[name] for name in ("etcd-servers", "anonymous-auth", "event-ttl", "v", "cert-dir")] == [
        "[http://a:1,http://b:2]",
        "false",
        "0s",
        "2",
        "",
    ]
