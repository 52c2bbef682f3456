"""Client certificates: the common name is the user, organizations are its groups. --client-ca-file.

Follows k8s.io/apiserver/pkg/authentication/request/x509.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from kubegate.api.clock import Clock
from kubegate.authentication import (
    CREDENTIAL_ID,
    Authenticated,
    AuthenticationError,
    Request,
    UserInfo,
    with_authenticated,
)
from kubegate.authentication.secrets import BoundedCache
from kubegate.authentication.watched import WatchedFile

if TYPE_CHECKING:
    from kubegate.authentication.chains import Pool, Verified

# `chains` and `pki.certificates` are loaded for the first certificate: a start does not wait for them.

_REMEMBERED = 4096
_REFUSAL_REMEMBERED = 10.0


class VerificationError(Exception):
    """Why a certificate is not trusted, in crypto/x509's words."""


class Authorities:
    """The certificates of a file, in whose `pool` chains end."""

    def __init__(self, pem: bytes, source: str) -> None:
        self.pem, self._source = pem, source

    @cached_property
    def pool(self) -> Pool:
        """Raises pki.certificates.BadCertificate."""
        from kubegate.authentication.chains import Pool

        return Pool.parse(self.pem, self._source)


class Verifier:
    """Chains against the pool of one file. What was found is remembered until the pool changes or something ends.

    A chain is looked up by its bytes, so that a connection's second request costs no signature check.
    """

    def __init__(self, path: Path, clock: Clock, *, known_good: bool = False) -> None:
        """Raises pki.certificates.BadCertificate, OSError. A file that is `known_good` is looked into when it must be.

        What it is changed to later is not known.
        """
        self._clock, self._known_good = clock, known_good
        self._known: BoundedCache[Verified | VerificationError] = BoundedCache(_REMEMBERED)
        self.generation = 0
        self.file = WatchedFile(path, lambda pem: self._read(pem, str(path)), self._changed)

    def _read(self, pem: bytes, source: str) -> Authorities:
        found = Authorities(pem, source)
        if not self._known_good:
            found.pool  # noqa: B018  # raises what is wrong with it
        self._known_good = False
        return found

    def _changed(self) -> None:
        self.generation += 1
        self._known.clear()

    def verify(self, chain: tuple[bytes, ...], now: float) -> Verified:
        """Raises VerificationError."""
        found = self._known.get(chain, now)
        if found is None:
            from kubegate.authentication.chains import verify

            try:
                found = verify(chain, self.file.value.pool, now)
                self._known.put(chain, found, found.until)
            except VerificationError as error:
                found = error
                self._known.put(chain, error, now + _REFUSAL_REMEMBERED)
        if isinstance(found, VerificationError):
            raise VerificationError(str(found))
        return found


class X509Authenticator:
    """Users by their certificates."""

    name = "x509"

    def __init__(self, verifier: Verifier, clock: Clock) -> None:
        self._verifier, self._clock = verifier, clock
        self._generation = 0
        self._users: BoundedCache[Authenticated] = BoundedCache(_REMEMBERED)

    async def authenticate(self, request: Request) -> Authenticated | None:
        return self.identify(request)

    def identify(self, request: Request) -> Authenticated | None:
        chain = request.peer_certificates
        if not chain:
            return None
        now = self._clock.now()
        if self._generation != self._verifier.generation:
            self._generation = self._verifier.generation
            self._users.clear()
        found = self._users.get(chain, now)
        if found is not None:
            return found
        try:
            verified = self._verifier.verify(chain, now)
        except VerificationError as error:
            from kubegate.pki import certificates

            identity = certificates.fingerprint(chain[0])
            raise AuthenticationError(f"verifying certificate SHA256={identity} failed: {error}") from None
        user = user_of(verified, chain[0])
        if user is None:
            return None
        found = Authenticated(user, self.name)
        self._users.put(chain, found, verified.until)
        return found


def user_of(verified: Verified, der: bytes) -> UserInfo | None:
    """None where the certificate has no common name. Raises AuthenticationError for an odd uid."""
    from kubegate.pki import certificates

    try:
        subject = certificates.subject_of(verified.leaf)
    except ValueError:
        raise AuthenticationError("the certificate's subject cannot be read") from None
    if not subject.common_name:
        return None
    uids = [attribute.value for attribute in verified.leaf.subject.get_attributes_for_oid(certificates.UID_OID)]
    if len(uids) > 1:
        raise AuthenticationError(f"expected 1 UID, but found multiple: [{' '.join(map(str, uids))}]")
    if uids and not uids[0]:
        raise AuthenticationError("UID cannot be an empty string")
    return UserInfo(
        subject.common_name,
        subject.uid,
        with_authenticated(subject.common_name, subject.organizations),
        {CREDENTIAL_ID: (f"X509SHA256={certificates.fingerprint(der)}",)},
    )
