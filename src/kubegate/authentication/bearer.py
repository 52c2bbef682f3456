"""Where a bearer token is found in a request: the Authorization header, or a websocket's subprotocols."""

from __future__ import annotations

import base64
import binascii
import re

from kubegate.authentication import Authenticated, AuthenticationError, Request, TokenAuthenticator
from kubegate.authentication.union import AuthenticationErrors, TokenUnion

INVALID = "invalid bearer token"
EXTRA_SPACE = "the provided Authorization header contains extra space before the bearer token, and is ignored"
PROTOCOL_PREFIX = "base64url.bearer.authorization.k8s.io."
# Go's strings.TrimSpace
_SPACE = (
    " \t\n\v\f\r\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f"
    "\u205f\u3000"
)


def token_of(request: Request) -> str:
    """The token of the first Authorization header, "" where there is none or it is of another scheme.

    Follows k8s.io/apiserver/pkg/authentication/request/bearertoken, down to its view of white space.
    """
    header = request.header("authorization")
    if not header:
        return ""
    scheme, space, rest = header.strip(_SPACE).partition(" ")
    if not space or scheme.lower() != "bearer":
        return ""
    token = rest.partition(" ")[0]
    if not token:
        request.warnings = (EXTRA_SPACE,)
    return token


class BearerAuthenticator:
    """Tokens in the Authorization header."""

    name = "bearer"
    waits = True

    def __init__(self, tokens: TokenUnion) -> None:
        self._tokens = tokens

    async def authenticate(self, request: Request) -> Authenticated | None:
        token = token_of(request)
        return await _authenticate(self._tokens, token, request) if token else None

    def identify(self, request: Request) -> Authenticated | None:
        token = token_of(request)
        if not token or request.audiences is not None:
            return None
        try:
            return self._tokens.known(token)
        except AuthenticationError:  # told by `authenticate`, with what the others say
            return None


class WebSocketAuthenticator:
    """Tokens among the subprotocols of a websocket request, for browsers that cannot set headers."""

    name = "websocket"

    def __init__(self, tokens: TokenAuthenticator) -> None:
        self._tokens = tokens

    async def authenticate(self, request: Request) -> Authenticated | None:
        if request.header("upgrade").lower() != "websocket":
            return None
        if not any("upgrade" in value.lower() for value in request.header_values("connection")):
            return None
        token, others = websocket_token(request.header_values("sec-websocket-protocol"))
        if not token:
            return None
        if not others:
            # one must be left to be echoed, for the token itself never is
            raise AuthenticationError("missing additional subprotocol")
        return await _authenticate(self._tokens, token, request)


async def _authenticate(tokens: TokenAuthenticator, token: str, request: Request) -> Authenticated:
    """A token that nobody knows is a bad credential; that is told first, also where somebody said more, as recorded."""
    try:
        found = await tokens.authenticate_token(token, request.audiences)
    except AuthenticationError as error:
        raise AuthenticationErrors([AuthenticationError(INVALID), error]) from None
    if found is None:
        raise AuthenticationError(INVALID)
    return found


def websocket_token(headers: list[str]) -> tuple[str, list[str]]:
    """The token among the subprotocols ("" for none), and the other subprotocols. Raises AuthenticationError."""
    tokens: list[str] = []
    others: list[str] = []
    for header in headers:
        for protocol in header.split(","):
            protocol = protocol.strip(_SPACE)
            if not protocol.startswith(PROTOCOL_PREFIX):
                others.append(protocol)
                continue
            if tokens:
                raise AuthenticationError("multiple base64.bearer.authorization tokens specified")
            encoded = protocol.removeprefix(PROTOCOL_PREFIX)
            if not re.fullmatch(r"[A-Za-z0-9_-]*", encoded):
                raise AuthenticationError("invalid base64.bearer.authorization token encoding")
            try:
                decoded = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
                tokens.append(decoded.decode("utf-8"))
            except binascii.Error:
                raise AuthenticationError("invalid base64.bearer.authorization token encoding") from None
            except UnicodeDecodeError:
                raise AuthenticationError("invalid base64.bearer.authorization token") from None
    return (tokens[0] if tokens else ""), others
