"""AdmissionReviews: what a webhook is sent, and what of its answer is taken.

Follows k8s.io/apiserver/pkg/admission/plugin/webhook/request; versions v1 and v1beta1 of admission.k8s.io.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

import msgspec
import orjson
from msgspec import Struct, field

from kubegate.admission import Attributes
from kubegate.admission.webhooks.expressions import Invocation, admission_request
from kubegate.api import Object, gojson, normalize
from kubegate.api.codec import split_api_version
from kubegate.api.field import quoted
from kubegate.api.schema import named
from kubegate.remote import result
from kubegate.remote.client import RemoteError, Response

VERSIONS = ("v1", "v1beta1")
"""The versions of AdmissionReview that are spoken."""


class InvalidResponse(Exception):
    """The answer is an AdmissionReview, and not one to be followed; the text says why."""


class Answer(Struct, frozen=True):
    """What a webhook said. `patch` is empty where it wants nothing changed."""

    allowed: bool
    patch: bytes = b""
    patch_type: str = ""
    status: Object = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    audit_annotations: Mapping[str, str] = field(default_factory=dict)


class Body(Struct, frozen=True):
    """A review in JSON but for its version and uid, in which alone the reviews of several webhooks differ."""

    request: bytes
    """What follows the uid."""

    @classmethod
    def of(
        cls, attributes: Attributes, invocation: Invocation, object: orjson.Fragment, old_object: orjson.Fragment
    ) -> Body:
        """The objects are in the invocation's version."""
        request = admission_request(attributes, invocation)
        del request["uid"]
        dry_run, options = request.pop("dryRun"), request.pop("options", None)
        request |= {"object": object, "oldObject": old_object, "dryRun": dry_run}
        if options is not None:
            request["options"] = options
        return cls(orjson.dumps(request)[1:])

    def written(self, version: str, uid: str) -> bytes:
        """The review."""
        start = f'{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/{version}","request":{{"uid":"{uid}",'
        return b"%b%b}" % (start.encode(), self.request)


class _Response(Struct):
    uid: str = ""
    allowed: bool = False
    patch: str | None = None
    patchType: str | None = None
    status: Object | None = None
    warnings: list[str] | None = None
    auditAnnotations: dict[str, str] | None = None


class _Review(Struct):
    kind: str
    apiVersion: str
    response: _Response


_decoder = msgspec.json.Decoder(_Review)


def answer(response: Response, uid: str, version: str, mutating: bool) -> Answer:
    """What a webhook said.

    Raises RemoteError where the HTTP answer is no AdmissionReview, InvalidResponse where it is one not to be followed.
    """
    plain = response.status == 200 and not result.media_type_problem(response.content_type)
    found = _right(response, uid, version, mutating) if plain else None
    return found or verify(decode(response, version), uid, version, mutating)


def _right(response: Response, uid: str, version: str, mutating: bool) -> Answer | None:
    """The answer, decoded and checked in one step, where all is as it should be, as it nearly always is.

    What this does not take is read again, slowly, by those who know what kube-apiserver says to it.
    """
    try:
        found = _decoder.decode(response.body)
    except (msgspec.DecodeError, RecursionError):
        return None
    said, patch = found.response, b""
    if found.kind != "AdmissionReview" or found.apiVersion != f"admission.k8s.io/{version}":
        return None
    if said.uid != uid or said.status:
        return None
    if said.patch or said.patchType is not None:
        if not (mutating and said.patch and said.patchType and version == "v1"):
            return None
        try:
            patch = base64.b64decode(said.patch, validate=True)
        except ValueError:  # binascii.Error among them
            return None
    annotations, warnings = said.auditAnnotations or {}, tuple(said.warnings or ())
    return Answer(said.allowed, patch, said.patchType or "", warnings=warnings, audit_annotations=annotations)


def decode(response: Response, version: str) -> Object:
    """The AdmissionReview in an HTTP answer. Raises RemoteError with client-go's text for what is none."""
    result.check(response)
    if response.body.strip() == b"null":
        return {}
    found = _parsed(response)
    _check_kind(found, version, response)
    return found


def _parsed(response: Response) -> Object:
    """JSON is decoded here; what is none, or is no object, is left to `remote.result` to put into words."""
    if response.body[:1] == b"{" or response.body.lstrip()[:1] == b"{":
        try:
            found = orjson.loads(response.body)
        except orjson.JSONDecodeError:
            return result.decode(response)
        if isinstance(found, dict):
            return found
    return result.decode(response)


def _check_kind(found: Object, version: str, response: Response) -> None:
    """An answer without kind and apiVersion is taken for what was asked for, until `verify` looks."""
    kind, api_version = found.get("kind"), found.get("apiVersion")
    for name, value in (("apiVersion", api_version), ("kind", kind)):
        if value is not None and not isinstance(value, str):
            raise RemoteError(
                "couldn't get version/kind; json parse error: "
                + gojson.cannot_unmarshal(value, f"Go struct field .{name} of type string")
            )
    if isinstance(api_version, str) and api_version.count("/") > 1:
        raise RemoteError(f"unexpected GroupVersion string: {api_version}")
    if kind == "Status" and api_version == "v1":
        raise RemoteError(f"converting (v1.Status) to ({version}.AdmissionReview): unknown conversion")
    if kind in (None, "", "AdmissionReview"):
        group, given = split_api_version(api_version or f"admission.k8s.io/{version}")
        if group == "admission.k8s.io" and given == version:
            return
        if group == "admission.k8s.io" and given in VERSIONS:
            text = f"converting ({given}.AdmissionReview) to ({version}.AdmissionReview): unknown conversion"
            raise RemoteError(text)
    raise RemoteError(
        f"no kind {quoted(kind or 'AdmissionReview')} is registered for version"
        f" {quoted(api_version or f'admission.k8s.io/{version}')} in scheme {quoted(_SCHEME)}"
    )


_SCHEME = "pkg/util/webhook/client.go:72"
"""Where kube-apiserver makes the scheme that it knows reviews by; its errors name the place."""


def verify(found: Object, uid: str, version: str, mutating: bool) -> Answer:
    """What the review says. Raises InvalidResponse, and RemoteError where a field has the wrong type."""
    response = found.get("response")
    if response is None:
        raise InvalidResponse("webhook response was absent")
    if not isinstance(response, dict):
        raise _mistyped(response, "AdmissionReview.response", f"{version}.AdmissionResponse")
    patch = _patch(response)
    patch_type = _typed(response, "patchType", str, f"{version}.PatchType")
    allowed = bool(_typed(response, "allowed", bool, "bool"))
    given_uid = _typed(response, "uid", str, "types.UID") or ""
    annotations, warnings = _annotations(response), _warnings(response)
    status = _status(response)
    if version == "v1":
        if given_uid != uid:
            raise InvalidResponse(f"expected response.uid={quoted(uid)}, got {quoted(given_uid)}")
        _verify_kind(found)
        _verify_patch(patch, patch_type, mutating)
    elif patch:
        patch_type = "JSONPatch"
    if not mutating:
        patch = b""
    return Answer(allowed, patch, patch_type or "", status, warnings, annotations)


def _verify_kind(found: Object) -> None:
    group, version = split_api_version(found.get("apiVersion") or "")
    given = f"{group}/{version}, Kind={found.get('kind') or ''}"
    wanted = "admission.k8s.io/v1, Kind=AdmissionReview"
    if given != wanted:
        raise InvalidResponse(f"expected webhook response of {wanted}, got {given}")


def _verify_patch(patch: bytes, patch_type: str | None, mutating: bool) -> None:
    if not mutating:
        for name, value in (("patch", patch), ("patchType", patch_type is not None)):
            if value:
                raise InvalidResponse(f"validating webhook may not return response.{name}")
    elif patch and patch_type is None:
        raise InvalidResponse("webhook returned response.patch but not response.patchType")
    elif not patch and patch_type is not None:
        raise InvalidResponse("webhook returned response.patchType but not response.patch")
    elif patch_type == "":
        raise InvalidResponse('webhook returned invalid response.patchType of ""')


def _patch(response: Object) -> bytes:
    encoded = _typed(response, "patch", str, "[]uint8") or ""
    try:
        return base64.b64decode(encoded, validate=True)
    except ValueError:  # binascii.Error, or of text that is not ASCII
        raise RemoteError(f"illegal base64 data at input byte {_first_bad(encoded)}") from None


def _first_bad(encoded: str) -> int:
    """Where Go's decoder stops."""
    alphabet = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
    for position, letter in enumerate(encoded):
        if letter not in alphabet and letter not in "\r\n":
            return position
    return len(encoded) - len(encoded) % 4


def _status(response: Object) -> Object:
    status = _typed(response, "status", dict, "v1.Status") or {}
    try:
        return normalize.normalize(status, named(_STATUS)).value
    except normalize.TypeMismatch as error:
        raise RemoteError(_FIELD.sub(r"\1.response.status.", str(error))) from None


_STATUS = "io.k8s.apimachinery.pkg.apis.meta.v1.Status"
_FIELD = re.compile(r"(Go struct field \w+)\.")


def _annotations(response: Object) -> dict[str, str]:
    found = _typed(response, "auditAnnotations", dict, "map[string]string") or {}
    for value in found.values():
        if not isinstance(value, str):
            raise _mistyped(value, "AdmissionResponse.response.auditAnnotations", "string")
    return found


def _warnings(response: Object) -> tuple[str, ...]:
    found = _typed(response, "warnings", list, "[]string") or []
    for value in found:
        if not isinstance(value, str):
            raise _mistyped(value, "AdmissionResponse.response.warnings", "string")
    return tuple(found)


def _typed(response: Object, name: str, wanted: type, go_type: str) -> Any:
    value = response.get(name)
    if value is not None and not isinstance(value, wanted):
        raise _mistyped(value, f"AdmissionResponse.response.{name}", go_type)
    return value


def _mistyped(value: Any, where: str, go_type: str) -> RemoteError:
    return RemoteError(gojson.cannot_unmarshal(value, f"Go struct field {where} of type {go_type}"))
