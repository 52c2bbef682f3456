"""ImagePolicyWebhook: what its server is sent, and what each answer means."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from admission_world import World, attributes, pod, refusal, run
from aiohttp import web

from kubegate.admission.config import ConfigurationError


class Backend:
    """Answers every review with `status` (or with `raw` and `code`), and keeps what it was sent."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.status: Any = {"allowed": True}
        self.raw: bytes | None = None
        self.code = 200
        self.headers: dict[str, str] = {}
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.seen.append(await request.json())
        review = {"apiVersion": "imagepolicy.k8s.io/v1alpha1", "kind": "ImageReview", "status": self.status}
        body = orjson.dumps(review) if self.raw is None else self.raw
        return web.Response(body=body, status=self.code, headers=self.headers, content_type="application/json")


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    backend = Backend()
    app = web.Application()
    app.router.add_post("/images", backend.answer)
    app.router.add_post("/elsewhere", backend.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    backend.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield backend
    await runner.cleanup()


@pytest.fixture
async def chain_with(world: World, tmp_path, backend: Backend):
    built = []

    def build(**settings):
        kubeconfig = tmp_path / "images.yaml"
        cluster = {"name": "it", "cluster": {"server": f"{backend.url}/images"}}
        context = {"name": "it", "context": {"cluster": "it", "user": ""}}
        document = {"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "contexts": [context]}
        kubeconfig.write_bytes(orjson.dumps(document | {"current-context": "it"}))
        policy = {"kubeConfigFile": str(kubeconfig), "allowTTL": 1, "denyTTL": 1, "retryBackoff": 1, **settings}
        built.append(world.chain("ImagePolicyWebhook", ImagePolicyWebhook={"imagePolicy": policy}))
        return built[-1]

    yield build
    for chain in built:
        await chain.close()


async def test_the_review_holds_images_namespace_and_annotations_meant_for_it(chain_with, backend: Backend):
    sent = pod(
        containers=[{"name": "c", "image": "one"}],
        initContainers=[{"name": "i", "image": "two"}],
        metadata={"annotations": {"my.image-policy.k8s.io/ticket": "1", "other": "x"}},
    )
    backend.status = {"allowed": True, "auditAnnotations": {"why": "because"}}
    asked = attributes("pods", sent)
    await run(chain_with(), asked)
    assert [review["spec"] for review in backend.seen] == [
        {
            "containers": [{"image": "one"}, {"image": "two"}],
            "annotations": {"my.image-policy.k8s.io/ticket": "1"},
            "namespace": "ns",
        }
    ]
    assert asked.trace.audit_annotations == {"imagepolicywebhook.image-policy.k8s.io/why": "because"}


async def test_refusals_are_told_with_their_reason(chain_with, backend: Backend):
    chain = chain_with()
    backend.status = {"allowed": False, "reason": "evil"}
    assert await refusal(chain, attributes("pods", pod())) == (
        'pods "p" is forbidden: image policy webhook backend denied one or more images: evil'
    )
    backend.status = {"allowed": False}
    other = pod(containers=[{"name": "c", "image": "other"}])
    assert await refusal(chain, attributes("pods", other)) == (
        'pods "p" is forbidden: one or more images rejected by webhook backend'
    )


async def test_the_answer_to_a_very_long_question_is_not_remembered(chain_with, backend: Backend):
    chain = chain_with(allowTTL=30)
    asked = pod(metadata={"annotations": {"my.image-policy.k8s.io/ticket": "x" * 40_000}})
    for _ in range(2):
        await run(chain, attributes("pods", asked))
    assert len(backend.seen) == 2


async def test_an_answer_is_remembered_for_its_time(world: World, chain_with, backend: Backend):
    chain = chain_with()
    for _ in range(2):
        await run(chain, attributes("pods", pod()))
    assert len(backend.seen) == 1
    world.clock.seconds += 2
    backend.status = {"allowed": False}
    await refusal(chain, attributes("pods", pod()))
    assert len(backend.seen) == 2


async def test_a_new_ephemeral_container_is_asked_about_too(chain_with, backend: Backend):
    """CVE-2023-2727: images of ephemeral containers were not reviewed."""
    backend.status = {"allowed": False}
    debugged = pod(ephemeralContainers=[{"name": "e", "image": "evil"}])
    asked = attributes("pods", debugged, pod(), subresource="ephemeralcontainers")
    assert "one or more images rejected" in await refusal(chain_with(), asked)
    assert backend.seen[0]["spec"]["containers"] == [{"image": "evil"}]


async def test_an_answer_that_is_no_review_refuses(chain_with, backend: Backend):
    backend.raw = b'"not json"'
    assert "couldn't get version/kind; json parse error: json: cannot unmarshal string" in await refusal(
        chain_with(), attributes("pods", pod())
    )


async def test_with_default_allow_an_error_lets_in_and_says_so(chain_with, backend: Backend):
    backend.code = 400
    asked = attributes("pods", pod())
    await run(chain_with(defaultAllow=True), asked)
    assert asked.trace.audit_annotations == {"imagepolicywebhook.image-policy.k8s.io/failed-open": "true"}


async def test_a_redirect_to_elsewhere_is_not_followed(chain_with, backend: Backend):
    """A backend that redirects must not make the API server send requests elsewhere (CVE-2022-3172 is of this kind)."""
    backend.code, backend.raw = 307, b""
    backend.headers = {"Location": backend.url.replace("127.0.0.1", "localhost")}
    await refusal(chain_with(), attributes("pods", pod()))
    assert len(backend.seen) == 1


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({}, "kubeConfigFile: must be given"),
        ({"kubeConfigFile": "/none"}, "/none"),
        ({"kubeConfigFile": "/none", "allowTTL": 5000}, "allowTTL: valid value is between"),
        ({"kubeConfigFile": "/none", "defaultDeny": True}, 'unknown field "defaultDeny"'),
    ],
)
def test_a_wrong_configuration_is_refused_at_the_start(world: World, policy, said):
    with pytest.raises(ConfigurationError, match=said):
        world.chain("ImagePolicyWebhook", ImagePolicyWebhook={"imagePolicy": policy})
