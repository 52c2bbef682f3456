"""ServiceAccount: what pods get, and what they may not refer to."""

from __future__ import annotations

import pytest
from admission_world import World, attributes, pod, refusal, run

MIRROR = {"annotations": {"kubernetes.io/config.mirror": "x"}}


@pytest.fixture
def chain(world: World):
    return world.chain("ServiceAccount")


@pytest.fixture
def strict(world: World):
    """An account that names the one secret that its pods may use."""
    world.objects.put(
        "serviceaccounts",
        {
            "metadata": {
                "name": "strict",
                "namespace": "ns",
                "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"},
            },
            "secrets": [{"name": "good"}],
        },
    )


async def test_a_pod_gets_the_default_account_and_a_volume_with_its_token(chain):
    stored = await run(chain, attributes("pods", pod(automountServiceAccountToken=None)))
    spec = stored["spec"]
    assert spec["serviceAccountName"] == spec["serviceAccount"] == "default"
    (volume,) = spec["volumes"]
    assert volume["name"].startswith("kube-api-access-") and len(volume["name"]) == 21
    assert [next(iter(source)) for source in volume["projected"]["sources"]] == [
        "serviceAccountToken",
        "configMap",
        "downwardAPI",
    ]
    assert spec["containers"][0]["volumeMounts"] == [
        {"name": volume["name"], "readOnly": True, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
    ]


async def test_a_container_with_something_mounted_there_gets_no_second_mount(chain):
    mount = {"name": "own", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
    own = pod(automountServiceAccountToken=None, containers=[{"name": "c", "image": "i", "volumeMounts": [mount]}])
    stored = await run(chain, attributes("pods", own))
    assert "volumes" not in stored["spec"]


@pytest.mark.parametrize(("pods_word", "mounted"), [(None, False), (True, True), (False, False)])
async def test_the_pods_word_about_mounting_counts_before_its_accounts(world: World, chain, pods_word, mounted):
    account = {"metadata": {"name": "shy", "namespace": "ns"}, "automountServiceAccountToken": False}
    world.objects.put("serviceaccounts", account)
    asked = attributes("pods", pod(serviceAccountName="shy", automountServiceAccountToken=pods_word))
    assert ("volumes" in (await run(chain, asked))["spec"]) is mounted


async def test_pull_secrets_of_the_account_are_taken_where_the_pod_has_none(world: World, chain):
    account = {"metadata": {"name": "puller", "namespace": "ns"}, "imagePullSecrets": [{"name": "reg"}]}
    world.objects.put("serviceaccounts", account)
    stored = await run(chain, attributes("pods", pod(serviceAccountName="puller")))
    assert stored["spec"]["imagePullSecrets"] == [{"name": "reg"}]


async def test_an_account_that_is_not_there_is_refused(chain):
    assert await refusal(chain, attributes("pods", pod(serviceAccountName="nobody"))) == (
        'pods "p" is forbidden: error looking up service account ns/nobody: serviceaccount "nobody" not found'
    )


async def test_a_pod_waits_a_while_for_the_default_account_of_a_new_namespace(world: World, chain):
    world.namespace("new")
    asked = attributes("pods", pod(), namespace="new")
    assert "error looking up service account new/default" in await refusal(chain, asked)
    assert len(world.clock.slept) == 9


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"serviceAccountName": "default"}, "a mirror pod may not reference service accounts"),
        ({"volumes": [{"name": "s", "secret": {"secretName": "s"}}]}, "a mirror pod may not reference secrets"),
        ({"imagePullSecrets": [{"name": "s"}]}, "a mirror pod may not reference secrets"),
        (
            {"volumes": [{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]},
            "a mirror pod may not use ServiceAccountToken volume projections",
        ),
    ],
)
async def test_a_mirror_pod_has_no_account_and_no_secrets(chain, spec, why):
    assert await refusal(chain, attributes("pods", pod(metadata=MIRROR, **spec))) == f'pods "p" is forbidden: {why}'


async def test_a_mirror_pod_stays_as_its_kubelet_sent_it(chain):
    sent = pod(metadata=MIRROR)
    assert await run(chain, attributes("pods", sent)) == sent


def container(**fields):
    return {"name": "c", "image": "i", **fields}


def secret_variable(name: str):
    return [{"name": "E", "valueFrom": {"secretKeyRef": {"name": name, "key": "k"}}}]


BAD_VARIABLE = container(env=secret_variable("bad"))
BAD_SOURCE = container(envFrom=[{"secretRef": {"name": "bad"}}])
REFUSED = [
    ({"volumes": [{"name": "v", "secret": {"secretName": "bad"}}]}, "volume with"),
    ({"containers": [BAD_VARIABLE]}, "container c with envVar E referencing"),
    ({"containers": [BAD_SOURCE]}, "container c with envFrom referencing"),
    ({"initContainers": [BAD_VARIABLE]}, "init container c with envVar E referencing"),
]


@pytest.mark.parametrize(("spec", "what"), REFUSED)
async def test_a_strict_account_refuses_secrets_that_it_does_not_name(chain, strict, spec, what):
    assert await refusal(chain, attributes("pods", pod(serviceAccountName="strict", **spec))) == (
        f'pods "p" is forbidden: {what} secret.secretName="bad" is not allowed because service account strict '
        "does not reference that secret"
    )


async def test_a_strict_account_refuses_pull_secrets_that_it_does_not_name(chain, strict):
    asked = attributes("pods", pod(serviceAccountName="strict", imagePullSecrets=[{"name": "bad"}]))
    assert await refusal(chain, asked) == (
        'pods "p" is forbidden: imagePullSecrets[0].name="bad" is not allowed because service account strict '
        "does not reference that imagePullSecret"
    )


async def test_a_strict_account_lets_its_own_secret_be_used(chain, strict):
    volumes = [{"name": "v", "secret": {"secretName": "good"}}]
    await run(chain, attributes("pods", pod(serviceAccountName="strict", volumes=volumes)))


@pytest.mark.parametrize(
    ("source", "what"),
    [({"env": secret_variable("bad")}, "envVar E"), ({"envFrom": [{"secretRef": {"name": "bad"}}]}, "envFrom")],
    ids=["CVE-2023-2728", "CVE-2024-3177"],
)
async def test_ephemeral_containers_are_no_way_around_the_mountable_secrets(chain, strict, source, what):
    """CVE-2023-2728 (environment variables) and CVE-2024-3177 (whole environments, of every sort of container)."""
    before = pod(serviceAccountName="strict")
    after = pod(serviceAccountName="strict", ephemeralContainers=[{"name": "e", "image": "i", **source}])
    asked = attributes("pods", after, before, subresource="ephemeralcontainers")
    assert await refusal(chain, asked) == (
        f'pods "p" is forbidden: ephemeral container e with {what} referencing secret.secretName="bad" is not allowed '
        "because service account strict does not reference that secret"
    )


@pytest.mark.parametrize("sort", ["initContainers", "containers"])
async def test_whole_environments_are_no_way_around_the_mountable_secrets(chain, strict, sort):
    """CVE-2024-3177."""
    spec = {sort: [container(envFrom=[{"secretRef": {"name": "bad"}}])]}
    assert "envFrom" in await refusal(chain, attributes("pods", pod(serviceAccountName="strict", **spec)))
