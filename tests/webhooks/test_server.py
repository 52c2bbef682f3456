"""What an API server is answered, over TLS."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import threading
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from webhook_client import Serve, Served, admission

from kubegate.pki import certificates
from kubegate.transport.metrics import Shared
from kubegate.webhooks.certificates import Source
from kubegate.webhooks.decisions import DecisionLog
from kubegate.webhooks.metrics import Metrics
from kubegate.webhooks.process import Options, WebhookServer


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def _patch(response: dict[str, Any]) -> Any:
    return json.loads(base64.b64decode(response["patch"]))


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
async def test_a_change_is_answered_as_a_json_patch(served: Served, version: str) -> None:
    code, found = await served.post("/mutate/label", admission({"metadata": {"name": "p"}}, version=version))
    assert code == 200
    assert (found["apiVersion"], found["kind"]) == (f"admission.k8s.io/{version}", "AdmissionReview")
    response = found["response"]
    assert (response["uid"], response["allowed"], response["patchType"]) == ("u-1", True, "JSONPatch")
    assert _patch(response) == [{"op": "add", "path": "/metadata/labels", "value": {"mutate": "admission-test"}}]


async def test_no_change_is_answered_without_patch_and_patch_type(served: Served) -> None:
    pod = {"metadata": {"labels": {"mutate": "admission-test"}}}
    _, found = await served.post("/mutate/label", admission(pod))
    assert found["response"] == {"uid": "u-1", "allowed": True}


async def test_what_a_function_returns_takes_the_objects_place(served: Served) -> None:
    _, found = await served.post("/mutate/other", admission({"metadata": {}}, "configmaps"))
    assert _patch(found["response"]) == [{"op": "add", "path": "/data", "value": {"returned": "yes"}}]
    _, found = await served.post("/mutate/other", admission({"metadata": {}}, "configmaps", dryRun=True))
    assert "patch" not in found["response"], "the policy is told of dry runs"


async def test_a_denial_has_its_code_reason_warnings_and_annotations(served: Served) -> None:
    _, found = await served.post("/validate/no-latest", admission({"image": "latest"}, "deployments.apps"))
    assert found["response"] == {
        "uid": "u-1",
        "allowed": False,
        "status": {"status": "Failure", "message": "latest", "reason": "Invalid", "code": 422},
        "warnings": ["looked at"],
        "auditAnnotations": {"by": "no-latest"},
    }


async def test_the_object_that_is_deleted_is_shown(served: Served) -> None:
    old = {"metadata": {"name": "p", "labels": {"keep": "yes"}}}
    review = admission(None, operation="DELETE", oldObject=old)
    _, found = await served.post("/validate/kept", review)
    assert found["response"]["status"]["message"] == "p is kept"


async def test_paths_without_a_name_ask_those_whose_rules_speak_of_it(served: Served) -> None:
    pod = {"metadata": {"name": "p"}}
    _, found = await served.post("/mutate", admission(pod))
    assert len(_patch(found["response"])) == 1
    _, found = await served.post("/mutate", admission(pod, namespace="another"))
    assert "patch" not in found["response"]
    _, found = await served.post("/mutate", admission(pod, operation="UPDATE"))
    assert "patch" not in found["response"]


@pytest.mark.parametrize("path", ["/validate/raises", "/mutate/nonsense"])
async def test_a_policy_that_fails_is_a_refusal_with_a_reference(
    served: Served, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "kubegate.webhooks"):
        code, found = await served.post(path, admission({"metadata": {}}, "secrets"))
    status = found["response"]["status"]
    assert (code, found["response"]["allowed"], status["code"]) == (200, False, 500)
    reference = status["message"].rpartition(" ")[2]
    assert reference in caplog.text
    assert "secret detail" not in json.dumps(found) and "Traceback" not in json.dumps(found)
    assert "secret detail" not in caplog.text, "what a policy says of a Secret is not written down"


async def test_tokens(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    async def ask(version: str = "v1", **spec: Any) -> Any:
        review = {"apiVersion": f"authentication.k8s.io/{version}", "kind": "TokenReview", "spec": spec}
        code, found = await served.post("/authenticate", review | {"metadata": {"uid": "m"}})
        assert (code, found["apiVersion"], found["kind"]) == (200, review["apiVersion"], "TokenReview")
        assert found["metadata"] == {"uid": "m"}
        assert "spec" not in found, "a token is not sent back"
        return found["status"]

    jane = {"username": "jane", "uid": "1", "groups": ["dev"], "extra": {"k": ["v"]}}
    assert await ask(token="jane-token") == {"authenticated": True, "user": jane}
    assert await ask("v1beta1", token="jane-token", audiences=["a"]) == {"authenticated": True, "user": jane}
    assert await ask(token="another") == {"authenticated": False}
    scoped = await ask(token="scoped", audiences=["b", "a"])
    assert scoped == {"authenticated": True, "user": {"username": "scoped"}, "audiences": ["a"]}
    assert not (await ask(token="scoped", audiences=["b"]))["authenticated"]
    failed = await ask(token="raise")
    assert not failed["authenticated"] and "reference" in failed["error"]
    assert "KeyError" in caplog.text and "'raise'" not in caplog.text


async def test_access(served: Served) -> None:
    async def ask(user: str, version: str = "v1", **attributes: Any) -> Any:
        spec = {"user": user, "resourceAttributes": attributes}
        api_version = f"authorization.k8s.io/{version}"
        review = {"apiVersion": api_version, "kind": "SubjectAccessReview", "spec": spec}
        _, found = await served.post("/authorize", review)
        assert (found["apiVersion"], found["kind"]) == (api_version, "SubjectAccessReview")
        return found["status"]

    assert await ask("jane", verb="get") == {"allowed": True, "reason": "allowed by policy nights-off"}
    assert (await ask("jane", "v1beta1", verb="delete"))["denied"] is True
    assert await ask("jane", verb="list") == {"allowed": False}
    for user in ("raise", "nonsense"):
        status = await ask(user, verb="get")
        assert (status["allowed"], status["denied"]) == (False, True)
        assert "reference" in status["evaluationError"]


async def test_images(served: Served) -> None:
    async def ask(*images: str) -> Any:
        spec = {"containers": [{"image": image} for image in images], "namespace": "n"}
        review = {"apiVersion": "imagepolicy.k8s.io/v1alpha1", "kind": "ImageReview", "spec": spec}
        _, found = await served.post("/images", review)
        return found["status"]

    assert await ask("ours/a", "ours/b") == {"allowed": True}
    assert await ask("ours/a", "bad/b") == {"allowed": False, "reason": "image bad/b is refused by policy trusted"}
    assert await ask("c") == {"allowed": False, "reason": "image c is trusted by no policy"}


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/nothing", b"{}", 404),
        ("/authenticate", b"{", 400),
        ("/authenticate", b"[]", 400),
        ("/authenticate", b'{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v2","spec":{"token":"t"}}', 400),
        ("/authenticate", b'{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","spec":{}}', 400),
        ("/mutate/label", b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}', 400),
        ("/mutate/label", b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{}}', 400),
    ],
)
async def test_what_is_no_review_is_told_so(served: Served, path: str, body: bytes, code: int) -> None:
    found, status = await served.post(path, body)
    assert (found, status["kind"], status["code"]) == (code, "Status", code)


async def test_bodies_over_the_bound_are_refused(serve: Serve) -> None:
    served = await serve(max_body=1024)
    async with served.session.post(served.server.url + "/mutate/label", data=b"x" * 1025) as answer:
        assert answer.status == 413
    try:  # a body over the listener's own bound: it may close the connection while we still write
        async with served.session.post(served.server.url + "/mutate/label", data=b"x" * 400_000) as answer:
            assert answer.status == 413
    except aiohttp.ClientConnectionError:
        pass


async def test_more_reviews_than_the_bound_are_told_to_come_again(serve: Serve) -> None:
    served = await serve(most=1)
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": "slow"}}
    slow = asyncio.create_task(served.post("/authenticate", review))
    await served.server.policies.gate.policies[0].function.__globals__["asked"].wait()
    code, status = await served.post("/mutate/label", admission({"metadata": {}}))
    assert (code, status["reason"]) == (429, "TooManyRequests")
    assert (await served.get("/livez"))[0] == 200
    slow.cancel()


async def test_health_and_metrics(served: Served) -> None:
    await served.post("/mutate/label", admission({"metadata": {}}))
    assert await served.get("/livez") == (200, "ok")
    assert await served.get("/readyz") == (200, "ok")
    _, text = await served.get("/metrics")
    assert 'kubegate_webhook_reviews_total{path="/mutate/label",outcome="allowed"} 1' in text
    served.server.app.draining = True
    assert (await served.get("/readyz"))[0] == 503
    assert (await served.get("/mutate/label"))[0] == 405


async def test_each_decision_is_a_line_without_tokens(serve: Serve, tmp_path: Path) -> None:
    with (tmp_path / "decisions").open("wb") as file:
        served = await serve(decisions=file)
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": "jane-token"}}
        await served.post("/authenticate", review)
        user = {"username": "jane"}
        await served.post(
            "/validate/no-latest", admission({"x": "latest"}, "deployments.apps", userInfo=user, name="d")
        )
        await served.server.stop()
    text = (tmp_path / "decisions").read_text()
    first, second = (json.loads(line) for line in text.splitlines())
    assert (first["path"], first["outcome"], first["user"]) == ("/authenticate", "allowed", "jane")
    assert (second["outcome"], second["reason"], second["resource"]) == ("denied", "latest", "deployments.apps")
    assert (second["user"], second["name"], second["namespace"]) == ("jane", "d", "kkj-ns")
    assert "jane-token" not in text


async def test_no_line_is_written_into_another_processs(tmp_path: Path) -> None:
    """A pipe takes more than a page in pieces: two processes with the same standard output take turns."""
    reading, writing = os.pipe()
    logs = [DecisionLog(os.fdopen(os.dup(writing), "wb"), tmp_path / "decisions.lock") for _ in range(2)]
    os.close(writing)

    def read() -> list[Any]:
        with os.fdopen(reading, "rb") as file:
            return [json.loads(line) for line in file]

    lines = asyncio.create_task(asyncio.to_thread(read))
    for number in range(3000):
        for name, log in enumerate(logs):
            log.write({"log": name, "number": number, "reason": "x" * 100})
    for log in logs:
        await log.close()
        log._file.close()
    found = await lines
    for name in (0, 1):
        assert [line["number"] for line in found if line["log"] == name] == list(range(3000))


async def test_a_log_that_nobody_reads_loses_lines_and_says_how_many(tmp_path: Path) -> None:
    with (tmp_path / "decisions").open("wb") as file:
        log = DecisionLog(file)
        for number in range(10_500):
            log.write({"number": number})
        await log.close()
        log.write({"number": "last"})
        await log.close()
    lines = [json.loads(line) for line in (tmp_path / "decisions").read_text().splitlines()]
    assert lines[9_999:] == [{"number": 9_999}, {"lost": 500}, {"number": "last"}]


async def test_functions_in_threads_are_given_up_after_their_time_and_others_go_on(tmp_path: Path) -> None:
    from kubegate.webhooks.threads import Threads

    threads, go = Threads(4), threading.Event()
    slow = [asyncio.create_task(threads.run(0.05, go.wait)) for _ in range(3)]
    assert await asyncio.wait_for(threads.run(30, lambda: 7), 10) == 7
    found = await asyncio.gather(*slow, return_exceptions=True)
    assert [type(each) for each in found] == [TimeoutError] * 3
    go.set()
    assert await threads.run(0.05, lambda: 8) == 8
    threads.close()


async def test_a_changed_policy_file_takes_the_old_ones_place_and_a_broken_one_does_not(
    served: Served, policies: Path, caplog: pytest.LogCaptureFixture
) -> None:
    review = admission({"metadata": {}})
    _write(policies, "from kubegate import Gate\ngate = Gate(\n")
    assert not await served.server.policies.look()
    assert "policies.py:2" in caplog.text and "stay as they are" in caplog.text
    assert (await served.post("/mutate/label", review))[0] == 200
    another = "from kubegate import Gate\ngate = Gate()\n\n@gate.mutate('pods')\ndef another(pod):\n    pod['b'] = 1\n"
    _write(policies, another)
    assert await served.server.policies.look()
    assert (await served.post("/mutate/label", review))[0] == 404
    _, found = await served.post("/mutate/another", review)
    assert _patch(found["response"]) == [{"op": "add", "path": "/b", "value": 1}]


async def test_a_new_certificate_is_served_and_a_broken_one_is_not(serve: Serve, tmp_path: Path) -> None:
    """As with a mounted Secret, whose folder is changed by whoever renews it."""
    from kubegate.webhooks.certificates import ensure

    folder = tmp_path / "certs"
    ensure(folder, ["127.0.0.1"])
    served = await serve(certificate=Source.folder(folder))

    async def presented() -> int:
        _, port = served.server.url.removeprefix("https://").split(":")
        import ssl

        context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
        _, writer = await asyncio.open_connection("127.0.0.1", int(port), ssl=context)
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return certificates.parse_der(der).serial_number

    first = await presented()
    ensure(folder, ["127.0.0.1", "another.example.com"])
    assert await served.server.look_at_certificate()
    second = await presented()
    assert second != first
    (folder / "tls.crt").write_text("nothing")
    assert not await served.server.look_at_certificate()
    assert await presented() == second
    assert (await served.get("/readyz"))[0] == 200


async def test_a_certificate_made_here_is_renewed_in_time(tmp_path: Path) -> None:
    from datetime import UTC, datetime, timedelta

    source = Source.generated(tmp_path / "certs", ["127.0.0.1"])
    now = datetime.now(UTC)
    first = source.current(now)
    assert source.current(now + timedelta(days=59)) == first
    assert source.current(now + timedelta(days=61)).ends > first.ends
    assert oct(os.stat(tmp_path / "certs" / "tls.key").st_mode & 0o777) == "0o600"


async def test_reviews_are_for_callers_with_a_certificate_where_that_is_wanted(serve: Serve, tmp_path: Path) -> None:
    from kubegate.pki import keys
    from kubegate.pki.certificates import Subject

    authority = certificates.new_authority("callers")
    (tmp_path / "callers.crt").write_bytes(authority.pem)
    served = await serve(client_ca_file=tmp_path / "callers.crt")
    assert (await served.post("/mutate/label", admission({"metadata": {}})))[0] == 401
    assert (await served.get("/livez"))[0] == 200
    key = keys.generate()
    keys.save(key, tmp_path / "client.key")
    made = certificates.issue(authority, key.public_key(), Subject("kube-apiserver"))
    (tmp_path / "client.crt").write_bytes(certificates.certificate_pem(made))
    import ssl

    context = ssl.create_default_context(cafile=str(tmp_path / "certs" / "ca.crt"))
    context.load_cert_chain(tmp_path / "client.crt", tmp_path / "client.key")
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        known = Served(served.server, session)
        assert (await known.post("/mutate/label", admission({"metadata": {}})))[0] == 200


async def test_a_review_in_flight_is_answered_before_the_server_ends(tmp_path: Path) -> None:
    from kubegate import Gate

    policy = tmp_path / "policies.py"
    policy.write_text(
        "import asyncio\nfrom kubegate import Gate\ngate = Gate()\nasked, go = asyncio.Event(), asyncio.Event()\n"
        "@gate.validate('pods')\nasync def waits(pod):\n    asked.set()\n    await go.wait()\n"
    )
    source = Source.generated(tmp_path / "certs", ["127.0.0.1"])
    server = WebhookServer(Options(policy, source, address="127.0.0.1", port=0, grace=5.0))
    await server.start()
    waits = server.policies.gate.policies[0].function.__globals__
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as session:
        asking = asyncio.create_task(Served(server, session).post("/validate/waits", admission({})))
        await waits["asked"].wait()
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0)
        waits["go"].set()
        code, found = await asking
        await stopping
    assert (code, found["response"]["allowed"]) == (200, True)
    assert isinstance(server.policies.gate, Gate)


def test_several_workers_metrics_are_told_as_their_sum(tmp_path: Path) -> None:
    one, other = Metrics(), Metrics()
    for metrics in (one, other, other):
        metrics.reviews.add(("/authenticate", "allowed"))
        metrics.seconds.observe(("/authenticate",), 0.0003)
    other.in_flight = 2
    Shared(tmp_path, "another").publish(other.all)
    shared = Shared(tmp_path)
    shared.publish(one.all)
    text = shared.text(one.all)
    assert 'kubegate_webhook_reviews_total{path="/authenticate",outcome="allowed"} 3' in text
    assert 'kubegate_webhook_review_duration_seconds_bucket{path="/authenticate",le="0.0005"} 3' in text
    assert "kubegate_webhook_in_flight 2" in text
