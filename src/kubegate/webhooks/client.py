"""A Gate without a server: objects in, decisions out. For tests, and for the examples beside a policy file."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import orjson

from kubegate.admission.webhooks import jsonpatch
from kubegate.api import Object
from kubegate.api.metadata import new_uid
from kubegate.api.resources import Resources
from kubegate.webhooks import reviews
from kubegate.webhooks.answers import BadReview
from kubegate.webhooks.calls import Caller
from kubegate.webhooks.gate import Gate, Kind
from kubegate.webhooks.policyfile import load

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Admitted:
    """What became of an object: `object` is it after all patches; `message` and `code` are a refusal's."""

    allowed: bool
    object: Object | None
    message: str = ""
    code: int = 0
    warnings: tuple[str, ...] = ()
    patch: tuple[Object, ...] = ()


class GateClient:
    """Asks a Gate as an API server would, in this process. Policies run on a loop of its own, so that it may be used
    from synchronous and asynchronous tests alike. `close` it, or use it with `with`."""

    def __init__(self, gate: Gate | Path | str) -> None:
        self.gate = gate if isinstance(gate, Gate) else load(Path(gate))
        self._caller = Caller(threads=4)
        self._endpoints = reviews.endpoints(self.gate)
        self._resources = Resources.built_in()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="gate-client", daemon=True)
        self._thread.start()

    def __enter__(self) -> GateClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._caller.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()

    def review(self, path: str, review: Object) -> Object:
        """The answer to a review as it would be sent. Raises BadReview for what the server refuses with 400."""
        endpoint = self._endpoints.get(path)
        if endpoint is None:
            raise BadReview(f"no policy is served at {path}; there are {', '.join(sorted(self._endpoints))}")
        # what a policy changes must not be the test's own object
        copied = orjson.loads(orjson.dumps(review))
        found, _ = self._run(reviews.answer(self._caller, endpoint, copied))
        sent: Object = orjson.loads(orjson.dumps(found))
        return sent

    def admit(
        self,
        object: Object,
        *,
        operation: str = "CREATE",
        old: Object | None = None,
        user: str = "jane",
        groups: Sequence[str] = (),
        resource: str = "",
        subresource: str = "",
        dry_run: bool = False,
    ) -> Admitted:
        """The object through the mutating policies and then the validating ones whose rules speak of it.

        `resource` (`pods`, `deployments.apps`) is found by the object's kind where it is a built-in one.
        """
        request = self._request(object, operation, old, user, groups, resource, subresource, dry_run)
        warnings: list[str] = []
        patch: list[Object] = []
        for kind in ("mutate", "validate"):
            if f"/{kind}" not in self._endpoints:
                continue
            review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
            response = self.review(f"/{kind}", review)["response"]
            warnings += response.get("warnings", [])
            if not response["allowed"]:
                status = response["status"]
                return Admitted(
                    False, request["object"], status["message"], status["code"], tuple(warnings), tuple(patch)
                )
            if "patch" in response:
                decoded = base64.b64decode(response["patch"])
                patch += orjson.loads(decoded)
                request = request | {"object": jsonpatch.apply(request["object"], jsonpatch.decode(decoded))}
        return Admitted(True, request["object"], warnings=tuple(warnings), patch=tuple(patch))

    def authenticate(self, token: str, *, audiences: Sequence[str] = ()) -> Object | None:
        """The user as TokenReview has it (username, uid, groups, extra); None where nobody knows the token."""
        spec: Object = {"token": token}
        if audiences:
            spec["audiences"] = list(audiences)
        status = self._status("authenticate", "authentication.k8s.io/v1", "TokenReview", spec)
        return status["user"] if status.get("authenticated") else None

    def authorize(self, user: str, verb: str, resource: str = "", **attributes: Any) -> bool | None:
        """True, False, or None for no opinion. `attributes`: namespace, name, subresource, groups, path."""
        spec: Object = {"user": user, "groups": list(attributes.pop("groups", ()))}
        if "path" in attributes:
            spec["nonResourceAttributes"] = {"path": attributes["path"], "verb": verb}
        else:
            name, _, group = resource.partition(".")
            spec["resourceAttributes"] = {"verb": verb, "resource": name, "group": group, **attributes}
        status = self._status("authorize", "authorization.k8s.io/v1", "SubjectAccessReview", spec)
        return True if status["allowed"] else False if status.get("denied") else None

    def images(self, *images: str, namespace: str = "default") -> str:
        """Why the images are refused; "" where all are trusted."""
        spec = {"containers": [{"image": image} for image in images], "namespace": namespace}
        status = self._status("images", "imagepolicy.k8s.io/v1alpha1", "ImageReview", spec)
        return "" if status["allowed"] else str(status.get("reason") or "refused")

    def _status(self, kind: Kind, api_version: str, name: str, spec: Object) -> Object:
        found: Object = self.review(f"/{kind}", {"apiVersion": api_version, "kind": name, "spec": spec})["status"]
        return found

    def _request(
        self,
        object: Object,
        operation: str,
        old: Object | None,
        user: str,
        groups: Sequence[str],
        resource: str,
        subresource: str,
        dry_run: bool,
    ) -> Object:
        group, _, version = str(object.get("apiVersion") or "").rpartition("/")
        kind = str(object.get("kind") or "")
        metadata: Mapping[str, Any] = object.get("metadata") or {}
        name, _, given_group = resource.partition(".")
        if not resource:
            known = self._resources.by_kind(group, version, kind)
            if known is None:
                raise ValueError(f"{kind!r} of {object.get('apiVersion')!r} is no built-in kind: name its resource")
            name, given_group = known.resource, known.group
            namespace = metadata.get("namespace") or ("default" if known.namespaced else "")
        else:
            namespace = metadata.get("namespace") or ""
        gone = operation == "DELETE"
        gvr = {"group": given_group, "version": version, "resource": name}
        gvk = {"group": group, "version": version, "kind": kind}
        request: Object = {
            "uid": new_uid(),
            "kind": gvk,
            "resource": gvr,
            "requestKind": gvk,
            "requestResource": gvr,
            "name": metadata.get("name") or "",
            "namespace": namespace,
            "operation": operation,
            "userInfo": {"username": user, "groups": [*groups, "system:authenticated"]},
            "object": None if gone else object,
            "oldObject": object if gone else old,
            "dryRun": dry_run,
        }
        if subresource:
            request["subResource"] = subresource
        return request

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
