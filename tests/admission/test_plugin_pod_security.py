"""PodSecurity: labels, modes, exemptions, existing pods, the configuration."""

from __future__ import annotations

import pytest
from admission_world import ADMIN, World, attributes, pod, refusal, run

from kubegate.admission.config import ConfigurationError
from kubegate.api.status import StatusError
from kubegate.authentication import UserInfo

PREFIX = "pod-security.kubernetes.io/"
PRIVILEGED = {"containers": [{"name": "c", "image": "i", "securityContext": {"privileged": True}}]}
SAID = 'privileged (container "c" must not set securityContext.privileged=true)'


def labels(**modes: str):
    return {PREFIX + mode.replace("_", "-"): value for mode, value in modes.items()}


def namespace(name: str = "ns", **modes: str):
    return {"metadata": {"name": name, "labels": labels(**modes)}}


def configuration(**fields):
    return {
        "apiVersion": "pod-security.admission.config.k8s.io/v1",
        "kind": "PodSecurityConfiguration",
        **fields,
    }


@pytest.fixture
def chain(world: World):
    return world.chain("PodSecurity")


async def test_a_pod_that_breaks_the_enforced_level_is_refused(world: World, chain):
    world.namespace("ns", labels=labels(enforce="baseline", warn="restricted"))
    asked = attributes("pods", pod(**PRIVILEGED))
    assert await refusal(chain, asked) == f'pods "p" is forbidden: violates PodSecurity "baseline:latest": {SAID}'
    assert asked.trace.warnings == []
    assert asked.trace.audit_annotations == {PREFIX + "enforce-policy": "baseline:latest"}


async def test_a_pod_that_breaks_the_warned_or_audited_level_is_let_in_and_told_of(world: World, chain):
    world.namespace("ns", labels=labels(warn="baseline", audit="baseline", audit_version="v1.20"))
    asked = attributes("pods", pod(**PRIVILEGED))
    await run(chain, asked)
    assert asked.trace.warnings == [f'would violate PodSecurity "baseline:latest": {SAID}']
    assert asked.trace.audit_annotations == {
        PREFIX + "enforce-policy": "privileged:latest",
        PREFIX + "audit-violations": f'would violate PodSecurity "baseline:v1.20": {SAID}',
    }


@pytest.mark.parametrize("resource", ["deployments.apps", "daemonsets.apps", "jobs.batch", "replicationcontrollers"])
async def test_what_makes_pods_is_warned_of_but_never_refused(world: World, chain, resource):
    world.namespace("ns", labels=labels(enforce="baseline", warn="baseline"))
    asked = attributes(resource, {"metadata": {"name": "d"}, "spec": {"template": {"spec": PRIVILEGED}}})
    await run(chain, asked)
    assert asked.trace.warnings == [f'would violate PodSecurity "baseline:latest": {SAID}']


async def test_a_cron_jobs_pods_are_found(world: World, chain):
    world.namespace("ns", labels=labels(warn="baseline"))
    job = {"spec": {"template": {"spec": PRIVILEGED}}}
    asked = attributes("cronjobs.batch", {"metadata": {"name": "d"}, "spec": {"jobTemplate": job}})
    await run(chain, asked)
    assert len(asked.trace.warnings) == 1


async def test_an_update_counts_only_where_it_changes_an_image_or_adds_a_container(world: World, chain):
    world.namespace("ns", labels=labels(enforce="baseline"))
    old = pod(**PRIVILEGED)
    await run(chain, attributes("pods", pod(**PRIVILEGED, metadata={"labels": {"a": "b"}}), old))
    other = pod(containers=[{**PRIVILEGED["containers"][0], "image": "other"}])
    assert SAID in await refusal(chain, attributes("pods", other, old))
    debugged = {**old, "spec": {**old["spec"], "ephemeralContainers": [{"name": "e", "image": "i"}]}}
    assert SAID in await refusal(chain, attributes("pods", debugged, old, subresource="ephemeralcontainers"))


async def test_status_is_no_way_in_and_is_not_looked_at(world: World, chain):
    world.namespace("ns", labels=labels(enforce="baseline"))
    await run(chain, attributes("pods", pod(**PRIVILEGED), pod(**PRIVILEGED), subresource="status"))


async def test_labels_that_cannot_be_read_are_enforced_as_restricted(world: World, chain):
    world.namespace("ns", labels=labels(enforce="none", warn="some"))
    asked = attributes("pods", pod())
    assert 'violates PodSecurity "restricted:latest"' in await refusal(chain, asked)
    assert asked.trace.audit_annotations[PREFIX + "error"] == (
        "Failed to parse policy: [metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "
        '"none": must be one of privileged, baseline, restricted, metadata.labels[pod-security.kubernetes.io/warn]: '
        'Invalid value: "some": must be one of privileged, baseline, restricted]'
    )


async def test_wrong_labels_are_refused_unless_they_were_there_before(chain):
    wrong = namespace(enforce="none", enforce_version="1.25")
    with pytest.raises(StatusError) as caught:
        await run(chain, attributes("namespaces", wrong))
    assert caught.value.code == 422
    assert caught.value.message == (
        'Namespace "ns" is invalid: [metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "none": must '
        "be one of privileged, baseline, restricted, metadata.labels[pod-security.kubernetes.io/enforce-version]: "
        'Invalid value: "1.25": must be "latest" or "v1.x"]'
    )
    await run(chain, attributes("namespaces", wrong, wrong))
    assert "is invalid" in await refusal(chain, attributes("namespaces", wrong, namespace()))


async def test_who_is_let_in_by_a_level_that_forbids_nothing_is_audited_so(world: World, chain):
    world.namespace("ns")
    asked = attributes("pods", pod(**PRIVILEGED))
    await run(chain, asked)
    assert asked.trace.audit_annotations == {PREFIX + "enforce-policy": "privileged:latest"}


async def test_one_pod_of_each_controller_is_looked_at_before_the_others(world: World, chain, monkeypatch):
    monkeypatch.setattr("kubegate.admission.plugins.pod_security._MOST_PODS", 2)
    for name in ("a", "b", "c"):
        owned = pod(name, **PRIVILEGED)
        owned["metadata"]["ownerReferences"] = [{"kind": "ReplicaSet", "name": "r", "uid": "u", "controller": True}]
        world.objects.put("pods", owned)
    world.objects.put("pods", pod("z", hostPID=True))
    asked = attributes("namespaces", namespace(enforce="baseline"), namespace())
    await run(chain, asked)
    assert asked.trace.warnings == [
        "new PodSecurity enforce level only checked against the first 2 of 4 existing pods",
        'existing pods in namespace "ns" violate the new PodSecurity enforce level "baseline:latest"',
        "a: privileged",
        "z: host namespaces",
    ]


async def test_raising_a_level_warns_of_pods_that_are_there(world: World, chain):
    for name in ("b", "a", "c"):
        world.objects.put("pods", pod(name, **PRIVILEGED))
    world.objects.put("pods", pod("host", hostPID=True))
    world.objects.put("pods", pod("fine"))
    asked = attributes("namespaces", namespace(enforce="baseline", enforce_version="v1.25"), namespace())
    await run(chain, asked)
    assert asked.trace.warnings == [
        'existing pods in namespace "ns" violate the new PodSecurity enforce level "baseline:v1.25"',
        "a (and 2 other pods): privileged",
        "host: host namespaces",
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"enforce": "restricted"}, {"enforce": "baseline"}),
        ({"enforce": "baseline"}, {"enforce": "privileged"}),
        ({"enforce": "baseline"}, {"enforce": "baseline", "warn": "restricted"}),
    ],
)
async def test_lowering_a_level_does_not_look_at_pods(world: World, chain, old, new):
    world.objects.put("pods", pod(**PRIVILEGED))
    asked = attributes("namespaces", namespace(**new), namespace(**old))
    await run(chain, asked)
    assert asked.trace.warnings == []


async def test_the_configuration_gives_defaults_and_exemptions(world: World):
    chain = world.chain(
        "PodSecurity",
        PodSecurity=configuration(
            defaults={"enforce": "baseline", "warn": "restricted", "warn-version": "v1.20"},
            exemptions={"usernames": ["robot"], "namespaces": ["kube-system"], "runtimeClasses": ["vm"]},
        ),
    )
    world.namespace("kube-system")
    asked = attributes("pods", pod())
    await run(chain, asked)
    assert asked.trace.warnings[0].startswith('would violate PodSecurity "restricted:v1.20": ')
    assert "baseline:latest" in await refusal(chain, attributes("pods", pod(**PRIVILEGED)))
    for by, exempt in (
        ("namespace", attributes("pods", pod(**PRIVILEGED), namespace="kube-system")),
        ("user", attributes("pods", pod(**PRIVILEGED), user=UserInfo("robot"))),
        ("runtimeClass", attributes("pods", pod(**PRIVILEGED, runtimeClassName="vm"), user=ADMIN)),
    ):
        await run(chain, exempt)
        assert exempt.trace.audit_annotations == {PREFIX + "exempt": by}
    asked = attributes("namespaces", namespace("kube-system", enforce="restricted"), namespace("kube-system"))
    await run(chain, asked)
    assert asked.trace.warnings == [
        'namespace "kube-system" is exempt from Pod Security, and the policy (enforce=restricted:latest) '
        "will be ignored"
    ]
    asked = attributes("namespaces", namespace("kube-system", enforce="baseline", audit="privileged"))
    await run(chain, asked)
    assert asked.trace.warnings == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"defaults": {"enforce": "strict"}}, 'defaults.enforce: Invalid value: "strict": must be one of privileged'),
        ({"defaults": {"warn-version": "1.2"}}, 'defaults.warn-version: Invalid value: "1.2"'),
        ({"defaults": {"enforced": "baseline"}}, "did you mean enforce"),
        ({"exemptions": {"namespaces": ["Bad"]}}, r"exemptions.namespaces\[0\]: Invalid value"),
        ({"exemptions": {"usernames": ["a", "a"]}}, r"exemptions.usernames\[1\]: Duplicate value"),
        ({"kind": "Other"}, "wanted pod-security.admission.config.k8s.io/v1 PodSecurityConfiguration"),
    ],
)
def test_a_wrong_configuration_is_refused_at_the_start(world: World, fields, said):
    with pytest.raises(ConfigurationError, match=said):
        world.chain("PodSecurity", PodSecurity=configuration(**fields))
