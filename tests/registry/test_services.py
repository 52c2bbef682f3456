"""Services: addresses and ports that the server gives, and what their types allow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kinds_world import Flags, KindsWorld, context, kinds_world, meta

PORTS = [{"port": 80}]


@pytest.fixture
async def w() -> AsyncIterator[KindsWorld]:
    async with kinds_world() as found:
        yield found


def service(name: str = "s", **spec: Any) -> dict[str, Any]:
    return {**meta(name), "spec": {"ports": PORTS, **spec}}


async def test_a_plain_service_gets_an_address_and_the_defaults(w: KindsWorld) -> None:
    made = (await w.create("services", service()))["spec"]
    address = made["clusterIP"]
    assert address.startswith("10.96.0.")
    assert made == {
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        "clusterIP": address,
        "clusterIPs": [address],
        "type": "ClusterIP",
        "sessionAffinity": "None",
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "internalTrafficPolicy": "Cluster",
    }


async def test_a_node_port_service_gets_a_port_from_the_range(w: KindsWorld) -> None:
    made = (await w.create("services", service(type="NodePort")))["spec"]
    assert 30000 <= made["ports"][0]["nodePort"] <= 30063
    assert made["externalTrafficPolicy"] == "Cluster"


async def test_nothing_is_given_to_an_external_name(w: KindsWorld) -> None:
    made = (await w.create("services", {**meta("s"), "spec": {"type": "ExternalName", "externalName": "a.b"}}))["spec"]
    assert made == {"externalName": "a.b", "type": "ExternalName", "sessionAffinity": "None"}


async def test_services_made_at_once_have_addresses_of_their_own(w: KindsWorld) -> None:
    made = await asyncio.gather(*(w.create("services", service(f"s{n}", type="NodePort")) for n in range(40)))
    assert len({one["spec"]["clusterIP"] for one in made}) == 40
    assert len({one["spec"]["ports"][0]["nodePort"] for one in made}) == 40


async def test_an_address_that_is_taken_or_out_of_range_is_refused(w: KindsWorld) -> None:
    await w.create("services", service("a", clusterIP="10.96.0.9"))
    taken = await w.wrong(w.create("services", service("b", clusterIP="10.96.0.9")))
    assert taken == [
        'spec.clusterIPs: Invalid value: ["10.96.0.9"]: failed to allocate IP 10.96.0.9: '
        "provided IP is already allocated"
    ]
    outside = await w.wrong(w.create("services", service("b", clusterIP="10.97.0.1")))
    assert len(outside) == 1
    assert outside[0].startswith('spec.clusterIPs: Invalid value: ["10.97.0.1"]: failed to allocate IP 10.97.0.1: ')


async def test_what_a_deleted_service_had_is_free_again(w: KindsWorld) -> None:
    await w.create("services", service("a", clusterIP="10.96.0.9"))
    await w.delete("services", "a")
    again = await w.create("services", service("b", clusterIP="10.96.0.9"))
    assert again["spec"]["clusterIP"] == "10.96.0.9"


async def test_a_range_can_be_used_up() -> None:
    async with kinds_world(Flags(service_cluster_ip_range="10.0.0.0/29")) as w:
        for n in range(6):
            await w.create("services", service(f"s{n}"))
        error = await w.refusal(w.create("services", service("last")))
        assert error.code in (422, 500)
        assert "range is full" in error.message


async def test_a_services_address_does_not_change(w: KindsWorld) -> None:
    await w.create("services", service("a", clusterIP="10.96.0.9"))
    texts = await w.wrong(w.patch("services", "a", {"spec": {"clusterIP": "10.96.0.8", "clusterIPs": ["10.96.0.8"]}}))
    assert texts == ['spec.clusterIPs[0]: Invalid value: ["10.96.0.8"]: may not change once set']


async def test_a_put_without_the_address_keeps_it(w: KindsWorld) -> None:
    made = await w.create("services", service("a"))
    changed = await w.update("services", {**service("a"), "spec": {"ports": [{"port": 81}]}})
    assert changed["spec"]["clusterIP"] == made["spec"]["clusterIP"]


@pytest.mark.parametrize(
    ("spec", "texts"),
    [
        ({"ports": []}, ["spec.ports: Required value"]),
        (
            {"ports": [{"port": 1}, {"port": 2}]},
            ["spec.ports[0].name: Required value", "spec.ports[1].name: Required value"],
        ),
        (
            {"type": "Odd"},
            ['spec.type: Unsupported value: "Odd": supported values: '
             '"ClusterIP", "ExternalName", "LoadBalancer", "NodePort"'],
        ),
        ({"externalIPs": ["127.0.0.1"]},
         ['spec.externalIPs[0]: Invalid value: "127.0.0.1": '
          "may not be in the loopback range (127.0.0.0/8, ::1/128)"]),
    ],
)  # fmt: skip
async def test_what_a_service_may_not_say(w: KindsWorld, spec: Any, texts: list[str]) -> None:
    assert await w.wrong(w.create("services", service(**spec))) == texts


async def test_a_service_can_be_made_by_put(w: KindsWorld) -> None:
    made = await w.update("services", service("new"))
    assert made["spec"]["clusterIP"]


async def test_external_addresses_are_warned_about(w: KindsWorld) -> None:
    assert await w.warnings("services", service(externalIPs=["192.0.2.1"])) == [
        "spec.externalIPs is deprecated and may no longer be implemented in some clusters"
    ]


@pytest.mark.parametrize(
    ("cidrs", "texts"),
    [
        ([], ["spec.cidrs: Required value: at least one CIDR required"]),
        (
            ["10.0.0.0/24", "10.0.1.0/24"],
            [
                'spec.cidrs: Invalid value: ["10.0.0.0/24","10.0.1.0/24"]: may specify no more than one IP for each IP '
                "family, i.e 192.168.0.0/24 and 2001:db8::/64"
            ],
        ),
        (
            ["10.0.0.0/24", "x"],
            ['spec.cidrs[1]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)'],
        ),
        (
            ["10.0.0.0/8", "fd00::/112", "10.0.1.0/24"],
            [
                'spec.cidrs: Invalid value: {"CIDRs":["10.0.0.0/8","fd00::/112","10.0.1.0/24"]}: '
                "may only hold up to 2 values"
            ],
        ),
    ],
)
async def test_a_range_of_services_has_one_cidr_of_each_family(
    w: KindsWorld, cidrs: list[str], texts: list[str]
) -> None:
    obj = {**meta("r"), "spec": {"cidrs": cidrs}}
    assert await w.wrong(w.create("servicecidrs.networking.k8s.io", obj)) == texts


@pytest.mark.parametrize(
    ("cidrs", "texts"),
    [
        (["10.1.0.0/24"], ['spec.cidrs[0]: Invalid value: "10.1.0.0/24": field is immutable']),
        ([], ["spec.cidrs: Invalid value: []: field is immutable"]),
        (
            ["10.1.0.0/24", "fd00::1/112"],
            [
                'spec.cidrs[0]: Invalid value: "10.1.0.0/24": field is immutable',
                'spec.cidrs[1]: Invalid value: "fd00::1/112": must not have bits set beyond the prefix length',
            ],
        ),
    ],
)
async def test_a_range_of_services_only_gets_another_family(w: KindsWorld, cidrs: list[str], texts: list[str]) -> None:
    kind = "servicecidrs.networking.k8s.io"
    await w.create(kind, {**meta("r"), "spec": {"cidrs": ["10.0.0.0/24"]}})
    assert await w.wrong(w.patch(kind, "r", {"spec": {"cidrs": cidrs}})) == texts
    found = await w.patch(kind, "r", {"spec": {"cidrs": ["10.0.0.0/24", "fd00::/112"]}})
    assert found["spec"]["cidrs"] == ["10.0.0.0/24", "fd00::/112"]


async def test_what_a_refused_service_asked_for_is_free_again(w: KindsWorld) -> None:
    wanted = {"type": "NodePort", "clusterIP": "10.96.0.9"}
    await w.wrong(w.create("services", service(ports=[{"port": 80, "nodePort": 30010, "targetPort": "-x"}], **wanted)))
    made = (await w.create("services", service(ports=[{"port": 80, "nodePort": 30010}], **wanted)))["spec"]
    assert (made["clusterIP"], made["ports"][0]["nodePort"]) == ("10.96.0.9", 30010)


async def test_two_ports_of_a_new_service_cannot_ask_for_one_node_port(w: KindsWorld) -> None:
    twice = [{"name": "a", "port": 80, "nodePort": 30010}, {"name": "b", "port": 81, "nodePort": 30010}]
    assert await w.wrong(w.create("services", service(type="NodePort", ports=twice))) == [
        "spec.ports[1].nodePort: Invalid value: 30010: provided port is already allocated"
    ]


async def test_a_port_of_two_protocols_has_one_node_port_whichever_of_the_two_asks(w: KindsWorld) -> None:
    ports = [{"name": "t", "port": 53}, {"name": "u", "port": 53, "protocol": "UDP", "nodePort": 30011}]
    made = (await w.create("services", service(type="NodePort", ports=ports)))["spec"]
    assert [port["nodePort"] for port in made["ports"]] == [30011, 30011]
    plain = await w.create("services", service("later", ports=[{**port, "nodePort": 0} for port in ports]))
    changed = await w.update("services", {**plain, "spec": {**plain["spec"], "type": "NodePort"}})
    assert len({port["nodePort"] for port in changed["spec"]["ports"]}) == 2


async def test_addresses_are_unmistakable(w: KindsWorld) -> None:
    spec = {"ports": [{"port": 1}], "type": "LoadBalancer", "externalIPs": ["010.1.1.1"]}
    spec["loadBalancerSourceRanges"] = ["10.0.0.5/24"]
    assert await w.wrong(w.create("services", {**meta("s"), "spec": spec})) == [
        'spec.externalIPs[0]: Invalid value: "010.1.1.1": must not have leading 0s',
        'spec.LoadBalancerSourceRanges[0]: Invalid value: "10.0.0.5/24": '
        "must not have bits set beyond the prefix length",
    ]
    slice_ = {**meta("e"), "addressType": "IPv4", "endpoints": [{"addresses": ["x"]}, {"addresses": ["fd00::1"]}]}
    assert await w.wrong(w.create("endpointslices.discovery.k8s.io", slice_)) == [
        'endpoints[0].addresses[0]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)',
        'endpoints[1].addresses[0]: Invalid value: "fd00::1": must be an IPv4 address',
    ]


async def test_what_does_nothing_in_a_service_is_warned_of(w: KindsWorld) -> None:
    spec = {"ports": [{"port": 1}], "externalName": "a.b", "trafficDistribution": "PreferClose"}
    assert await w.warnings("services", {**meta("s"), "spec": spec}) == [
        'spec.externalName is ignored when spec.type is not "ExternalName"',
        'spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"',
    ]
    slice_ = {**meta("e"), "addressType": "IPv6", "endpoints": [{"addresses": ["fd00:0::1"]}]}
    text = 'IPv6 address "fd00:0::1" should be in RFC 5952 canonical format ("fd00::1")'
    assert await w.warnings("endpointslices.discovery.k8s.io", slice_) == [f"endpoints[0].addresses[0]: {text}"]
    points = {**meta("e"), "subsets": [{"addresses": [{"ip": "fd00:0::1"}]}]}
    assert await w.warnings("endpoints", points) == [f"subsets[0].addresses[0].ip: {text}"]


async def test_a_dry_run_shows_ports_of_its_own_and_takes_none(w: KindsWorld) -> None:
    dry = context(dry_run=True)
    ports = [{"name": "a", "port": 1}, {"name": "b", "port": 2}, {"name": "c", "port": 3, "nodePort": 30000}]
    made = (await w.create("services", service(type="NodePort", ports=ports[:2]), ctx=dry))["spec"]
    assert [port["nodePort"] for port in made["ports"]] == [32769, 32770]
    made = (await w.create("services", service(type="NodePort", ports=ports[2:] + ports[:2]), ctx=dry))["spec"]
    assert [port["nodePort"] for port in made["ports"]] == [30000, 30001, 30002]
    kept = await w.create("services", service("kept", type="NodePort", ports=ports[2:]))
    assert kept["spec"]["ports"][0]["nodePort"] == 30000
    [refused] = await w.wrong(w.create("services", service(type="NodePort", ports=ports[2:]), ctx=dry))
    assert refused == "spec.ports[0].nodePort: Invalid value: 30000: provided port is already allocated"
