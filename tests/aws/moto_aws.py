"""moto's AWS over TLS, with what its STS lacks: presigned calls and web identities are checked before moto has them.

    python moto_aws.py CERTIFICATE KEY AUTHORITY     prints its port

moto checks signatures in the Authorization header (with `auth` switched on), but neither those of presigned URLs nor
web identity tokens. Run by the Python of .tools/aws; knows nothing of kubegate.

POST /control {"auth": bool} switches the checks; {"cluster", "endpoint", "authority"} tells where a cluster is.
"""

from __future__ import annotations

import base64
import datetime
import io
import json
import ssl
import sys
import urllib.request
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl, urlencode

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from joserfc import jwt
from joserfc.jwk import KeySet
from moto import settings
from moto.backends import get_backend
from moto.core.authorization import ActionAuthenticatorMixin
from moto.iam.access_control import CreateAccessKeyFailure, create_access_key
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

ACCOUNT = "123456789012"
FORM = "application/x-www-form-urlencoded; charset=utf-8"
Environ = dict[str, Any]
Start = Callable[..., Any]


class Refused(Exception):
    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(message or code)
        self.status, self.code = status, code


class Checked:
    def __init__(self, authority: str) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._issuers = ssl.create_default_context(cafile=authority)
        self._auth = False
        self._switch(False)

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        try:
            if environ["PATH_INFO"] == "/control":
                return self._control(environ, start)
            query = dict(parse_qsl(environ["QUERY_STRING"]))
            if "X-Amz-Signature" in query:
                return self._moto(self._presigned(environ, query), start)
            form = self._form(environ)
            if form.get("Action") == "AssumeRoleWithWebIdentity":
                self._web_identity(form)
                return self._unchecked(environ, start)
            if environ["PATH_INFO"].startswith("/clusters"):
                return self._unchecked(environ, start)  # moto takes a GET's own query for a body
            return self._moto(environ, start)
        except Refused as error:
            body = json.dumps({"Error": {"Code": error.code, "Message": str(error)}}).encode()
            if "json" not in environ.get("HTTP_ACCEPT", ""):
                inner = f"<Code>{error.code}</Code><Message>{error}</Message>"
                body = f"<ErrorResponse><Error>{inner}</Error></ErrorResponse>".encode()
            start(f"{error.status} Refused", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
            return [body]

    def _switch(self, on: bool) -> None:
        settings.INITIAL_NO_AUTH_ACTION_COUNT = 0 if on else float("inf")
        ActionAuthenticatorMixin.request_count = 0

    def _unchecked(self, environ: Environ, start: Start) -> Iterable[bytes]:
        self._switch(False)
        try:
            return list(self._moto(environ, start))
        finally:
            self._switch(self._auth)

    def _control(self, environ: Environ, start: Start) -> Iterable[bytes]:
        asked = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        if "auth" in asked:
            self._auth = asked["auth"]
            self._switch(self._auth)
        if "cluster" in asked:
            cluster = get_backend("eks")[ACCOUNT]["us-east-1"].clusters[asked["cluster"]]
            cluster.endpoint = asked["endpoint"]
            cluster.certificate_authority = {"data": base64.b64encode(asked["authority"].encode()).decode()}
        start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "0")])
        return [b""]

    @staticmethod
    def _form(environ: Environ) -> dict[str, str]:
        """The body's form; the body can be read again."""
        if environ["REQUEST_METHOD"] != "POST" or "urlencoded" not in environ.get("CONTENT_TYPE", ""):
            return {}
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        return dict(parse_qsl(body.decode()))

    # ------------------------------------------------------------------ presigned calls
    @staticmethod
    def _presigned(environ: Environ, query: dict[str, str]) -> Environ:
        """The same call as a form with its signature in the header, where moto looks; its own is checked here."""
        key, _, region, service, _ = query["X-Amz-Credential"].split("/")
        token = {"X-Amz-Security-Token": query["X-Amz-Security-Token"]} if "X-Amz-Security-Token" in query else {}
        try:
            credentials = create_access_key(ACCOUNT, "aws", key, token).create_credentials()
        except (CreateAccessKeyFailure, KeyError):
            raise Refused(403, "InvalidClientTokenId") from None
        names = query["X-Amz-SignedHeaders"].split(";")
        headers = {name: environ.get("HTTP_" + name.upper().replace("-", "_"), "") for name in names}
        unsigned = {name: value for name, value in query.items() if name != "X-Amz-Signature"}
        request = AWSRequest("GET", f"https://{environ['HTTP_HOST']}/", headers=headers, params=unsigned)
        request.context["timestamp"] = query["X-Amz-Date"]
        signer = SigV4Auth(credentials, service, region)
        if (
            signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
            != (query["X-Amz-Signature"])
        ):
            raise Refused(403, "SignatureDoesNotMatch")
        signed = datetime.datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ")
        if abs(datetime.datetime.utcnow() - signed) > datetime.timedelta(minutes=15):
            raise Refused(403, "ExpiredToken")
        parameters = {"Action": query["Action"], "Version": "2011-06-15"}
        if "json" in environ.get("HTTP_ACCEPT", ""):
            parameters["ContentType"] = "JSON"
        body = urlencode(parameters).encode()
        again = AWSRequest("POST", f"https://{environ['HTTP_HOST']}/", headers={"Content-Type": FORM}, data=body)
        signer.add_auth(again)
        added = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in again.headers.items()}
        sent = {"REQUEST_METHOD": "POST", "QUERY_STRING": "", "CONTENT_TYPE": FORM, "CONTENT_LENGTH": str(len(body))}
        return {**environ, **added, **sent, "wsgi.input": io.BytesIO(body)}

    # ------------------------------------------------------------------ web identities
    def _web_identity(self, form: dict[str, str]) -> None:
        """As AWS checks it: the provider is registered, its keys made the signature, the role trusts the subject."""
        token = form["WebIdentityToken"]
        claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        name = claims["iss"].removeprefix("https://")
        iam = get_backend("iam")[ACCOUNT]["aws"]
        provider = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{name}"
        known = iam.open_id_providers
        if provider not in known:
            raise Refused(400, "InvalidIdentityToken", f"No OpenIDConnect provider found for {claims['iss']}")
        audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        if not set(audiences) & set(known[provider].client_id_list):
            raise Refused(400, "InvalidIdentityToken", "Incorrect token audience")
        found = self._fetch(claims["iss"] + "/.well-known/openid-configuration")
        keys = KeySet.import_key_set(self._fetch(found["jwks_uri"]))
        try:
            decoded = jwt.decode(token, keys)
            jwt.JWTClaimsRegistry(exp={"essential": True}).validate(decoded.claims)
        except Exception:
            raise Refused(400, "InvalidIdentityToken", "Couldn't verify the token") from None
        role = iam.get_role_by_arn(form["RoleArn"])
        for statement in json.loads(role.assume_role_policy_document)["Statement"]:
            wanted = (statement.get("Condition") or {}).get("StringEquals") or {}
            if (
                statement["Action"] == "sts:AssumeRoleWithWebIdentity"
                and statement["Principal"]["Federated"] == provider
                and wanted.get(f"{name}:sub", claims["sub"]) == claims["sub"]
                and wanted.get(f"{name}:aud", audiences[0]) in audiences
            ):
                return
        raise Refused(403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")

    def _fetch(self, url: str) -> Any:
        with urllib.request.urlopen(url, context=self._issuers, timeout=10) as answer:
            return json.loads(answer.read())


class Quiet(WSGIRequestHandler):
    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        pass


def main(certificate: str, key: str, authority: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    # one request at a time: switching the checks for one does not switch them for another
    server = make_server("127.0.0.1", 0, Checked(authority), request_handler=Quiet, ssl_context=context)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:4])
