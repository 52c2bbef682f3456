"""Users of an LDAP directory, by a bind with their own secret. The token is NAME:SECRET.

A name becomes a DN by a template, or by a search as an account of ours; whoever can bind to it is who he says, and a
second search finds his groups. Names are escaped wherever they go, and an empty secret never reaches the directory,
which would take it for nobody in particular and say yes (RFC 4513, section 5.1.2).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from kubegate.api.clock import Clock
from kubegate.authentication import Authenticated, AuthenticationError, UserInfo
from kubegate.authentication.sources.logins import Logins
from kubegate.authentication.sources.passwords import Login

_AT_ONCE = 8
_MAX_GROUPS = 1000


@dataclass(frozen=True, slots=True)
class Search:
    """Where and for what to look. {username} and {dn} in the filter are the user's, escaped."""

    base: str
    filter: str


@dataclass(frozen=True, slots=True)
class Directory:
    """`user_dn` is a template with {username}, or `users` a search; `attributes` name what a user's fields come from.

    `groups` is a search for the entries of the user's groups, `member_of` an attribute of the user with their DNs.
    `bind_dn` is the account of ours that searches ("": the user himself, for groups). `authority` is PEM (None: the
    system's).
    """

    url: str
    user_dn: str = ""
    users: Search | None = None
    username_attribute: str = ""
    uid_attribute: str = ""
    groups: Search | None = None
    group_attribute: str = "cn"
    member_of: str = ""
    bind_dn: str = ""
    bind_password: str = field(default="", repr=False)
    authority: bytes | None = None
    start_tls: bool = False
    timeout: float = 10.0


class LdapSource:
    """One directory."""

    name = "ldap"

    def __init__(self, directory: Directory, clock: Clock) -> None:
        """Raises ValueError where ldap3 is not installed, or the authority cannot be used."""
        try:
            import ldap3  # noqa: F401
        except ImportError:
            raise ValueError("ldap3 is not installed; install kubegate[sources]") from None
        self._directory = directory
        self._logins = Logins(self._check, clock, at_once=_AT_ONCE)
        self._server = _server(directory)

    def start(self) -> None:
        pass

    async def authenticate_token(self, token: str, audiences: tuple[str, ...] | None = None) -> Authenticated | None:
        return await self._logins.authenticate_token(token)

    async def refresh(self) -> None:
        pass

    async def close(self) -> None:
        await self._logins.close()

    def _check(self, login: Login) -> Authenticated | None:
        """Runs in a thread. Raises AuthenticationError where the directory cannot tell."""
        from ldap3.core.exceptions import LDAPException

        try:
            return self._bind(login)
        except LDAPException as error:
            # the text may hold what was sent
            raise AuthenticationError(f"ldap: {self._directory.url}: {type(error).__name__}") from None

    def _bind(self, login: Login) -> Authenticated | None:
        from ldap3.utils.dn import escape_rdn

        directory = self._directory
        if directory.users is not None:
            with self._as(directory.bind_dn, directory.bind_password) as ours:
                if ours is None:
                    raise AuthenticationError(f"ldap: {directory.url} does not take the account {directory.bind_dn}")
                found = _search(ours, directory.users, login.name, "", (), most=2)
            if len(found) != 1:
                return None  # nobody, or nobody in particular
            dn = found[0].dn
        else:
            dn = directory.user_dn.replace("{username}", escape_rdn(login.name))
        with self._as(dn, login.secret) as theirs:
            if theirs is None:
                return None
            user = self._attributes(theirs, dn, login.name)
            groups = user.groups
            if directory.groups is not None and not directory.bind_dn:
                groups += self._groups(theirs, user.name, dn)
        if directory.groups is not None and directory.bind_dn:
            with self._as(directory.bind_dn, directory.bind_password) as ours:
                if ours is None:
                    raise AuthenticationError(f"ldap: {directory.url} does not take the account {directory.bind_dn}")
                groups += self._groups(ours, user.name, dn)
        return Authenticated(UserInfo(user.name, user.uid, tuple(dict.fromkeys(groups))), self.name)

    def _attributes(self, connection: Any, dn: str, name: str) -> UserInfo:
        """The user as the directory writes him: names there know no case, so two ways to type one are one user."""
        directory = self._directory
        wanted = [directory.username_attribute, directory.uid_attribute, directory.member_of]
        attributes = tuple(each for each in wanted if each)
        entry = _entry(connection, dn, attributes) if attributes else None
        if attributes and entry is None:
            raise AuthenticationError(f"ldap: {directory.url} does not show the user's own entry")
        if directory.username_attribute:
            names = entry.values(directory.username_attribute) if entry else []
            if len(names) != 1:
                raise AuthenticationError(f"ldap: the user's entry has not one {directory.username_attribute}")
            name = names[0]
        uids = entry.values(directory.uid_attribute) if entry and directory.uid_attribute else []
        groups = [_first_name(each) for each in entry.values(directory.member_of)] if entry else []
        return UserInfo(name, uids[0] if uids else dn, tuple(group for group in groups if group))

    def _groups(self, connection: Any, name: str, dn: str) -> tuple[str, ...]:
        directory = self._directory
        assert directory.groups is not None
        found = _search(connection, directory.groups, name, dn, (directory.group_attribute,), most=_MAX_GROUPS)
        return tuple(value for entry in found for value in entry.values(directory.group_attribute)[:1])

    def _as(self, dn: str, secret: str) -> _Bound:
        return _Bound(self._server, self._directory, dn, secret)


class _Bound:
    """A connection bound to a DN for as long as the `with` lasts; None where the directory does not take the secret."""

    def __init__(self, server: Any, directory: Directory, dn: str, secret: str) -> None:
        from ldap3 import SIMPLE, Connection

        if not dn or not secret:
            raise AuthenticationError("ldap: a bind without a name or a secret proves nothing")
        self._connection = Connection(
            server,
            dn,
            secret,
            authentication=SIMPLE,
            auto_referrals=False,
            receive_timeout=directory.timeout,
            read_only=True,
            raise_exceptions=False,
            check_names=False,
        )
        self._start_tls, self._url = directory.start_tls, directory.url

    def __enter__(self) -> Any:
        connection = self._connection
        connection.open()
        if self._start_tls and not connection.start_tls():
            raise AuthenticationError(f"ldap: {self._url} does not begin TLS")
        if connection.bind():
            return connection
        if connection.result.get("description") not in ("invalidCredentials", "noSuchObject", "invalidDNSyntax"):
            raise AuthenticationError(f"ldap: {self._url} answers {connection.result.get('description')}")
        return None

    def __exit__(self, *_: object) -> None:
        self._connection.unbind()


@dataclass(frozen=True, slots=True)
class _Found:
    """An entry; `values` by an attribute's name, whose case does not matter."""

    dn: str
    attributes: dict[str, list[str]]

    def values(self, name: str) -> list[str]:
        return self.attributes.get(name.lower(), [])


def _search(
    connection: Any, search: Search, name: str, dn: str, attributes: tuple[str, ...], *, most: int
) -> list[_Found]:
    """Raises AuthenticationError where the directory does not let us look."""
    from ldap3 import SUBTREE
    from ldap3.utils.conv import escape_filter_chars

    values = {"{username}": escape_filter_chars(name), "{dn}": escape_filter_chars(dn)}
    connection.search(search.base, _filled(search.filter, values), SUBTREE, attributes=attributes, size_limit=most)
    if connection.result["description"] not in ("success", "sizeLimitExceeded", "noSuchObject"):
        raise AuthenticationError(f"ldap: the search in {search.base} ended with {connection.result['description']}")
    return _entries(connection)


def _entry(connection: Any, dn: str, attributes: tuple[str, ...]) -> _Found | None:
    from ldap3 import BASE

    connection.search(dn, "(objectClass=*)", BASE, attributes=attributes)
    return next(iter(_entries(connection)), None)


def _entries(connection: Any) -> list[_Found]:
    found = []
    for each in connection.response or ():
        if each.get("type") != "searchResEntry":
            continue
        raw = each.get("raw_attributes") or {}
        texts = {name.lower(): [value.decode("utf-8", "replace") for value in raw[name]] for name in raw}
        found.append(_Found(each["dn"], texts))
    return found


def filter_problem(template: str) -> str:
    """What is wrong with a filter's form; "" for nothing, or where ldap3 is not here to tell."""
    try:
        from ldap3.core.exceptions import LDAPException
        from ldap3.operation.search import parse_filter
    except ImportError:
        return ""
    try:
        parse_filter(_filled(template, {"{username}": "x", "{dn}": "x"}), None, True, False, None, False)  # type: ignore[no-untyped-call]
    except LDAPException:
        return "is no LDAP filter (RFC 4515)"
    return ""


def _filled(template: str, values: dict[str, str]) -> str:
    """The template with its names replaced, each once: a value with another's name in it stays as it is."""
    import re

    return re.sub("|".join(map(re.escape, values)), lambda match: values[match[0]], template)


def _first_name(dn: str) -> str:
    """ops of cn=ops,ou=groups,dc=example; "" for what is no DN."""
    from ldap3.core.exceptions import LDAPInvalidDnError
    from ldap3.utils.dn import parse_dn

    try:
        parts = parse_dn(dn)
    except LDAPInvalidDnError:
        return ""
    return str(parts[0][1]) if parts else ""


def _server(directory: Directory) -> Any:
    import ssl

    from ldap3 import NONE, Server, Tls

    parts = urlsplit(directory.url)
    authority = directory.authority.decode("ascii", "replace") if directory.authority else None
    if authority:
        try:
            ssl.create_default_context(cadata=authority)
        except ssl.SSLError:
            raise ValueError("the authority is no PEM certificate") from None
    tls = Tls(validate=ssl.CERT_REQUIRED, ca_certs_data=authority, sni=parts.hostname)
    secure = parts.scheme == "ldaps"
    port = parts.port or (636 if secure else 389)
    return Server(parts.hostname or "", port, use_ssl=secure, get_info=NONE, tls=tls, connect_timeout=directory.timeout)
