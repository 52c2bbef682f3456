"""The file that names token sources: apiVersion kubegate.dev/v1, kind TokenSources.

    sources:
      - name: people
        staticUsers: {file: users.yaml}
      - name: production
        tokenReview: {kubeconfig: production.kubeconfig}
        users: {prefix: "production:"}
        groups: {prefix: "production:", map: {admins: [ops]}}
      - name: directory
        ldap: {url: ldaps://ldap.example.org, userDN: "uid={username},ou=people,dc=example,dc=org"}
      - name: issuers
        jwt: []    # as in an AuthenticationConfiguration
      - name: iam
        awsIAM: {clusterID: demo, mappingFile: aws-auth.yaml}

They are asked in this order. `load` checks all of it before anything is called; an error names its place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from kubegate.api.clock import Clock
from kubegate.authentication.config import BadConfiguration
from kubegate.authentication.sources import Source, ldap, places
from kubegate.authentication.sources.chain import Mapped, Naming, SourceChain
from kubegate.authentication.sources.jwt import JwtSource
from kubegate.authentication.sources.jwt import parse as parse_jwt
from kubegate.authentication.sources.ldap import Directory, LdapSource, Search
from kubegate.authentication.sources.places import BadSources, Place
from kubegate.authentication.sources.static_users import StaticUsers
from kubegate.authentication.sources.static_users import parse as parse_users
from kubegate.authentication.sources.token_review import TokenReviewSource

API_VERSION = "kubegate.dev/v1"
KIND = "TokenSources"
MAX_SOURCES = 64

Make = Callable[[Clock], Source]


@dataclass(frozen=True, slots=True)
class TokenSources:
    """What the file says, checked. `build` makes the sources of it."""

    entries: tuple[tuple[str, Make, Naming], ...]

    def build(self, clock: Clock) -> SourceChain:
        """The chain; `start` it on an event loop, `close` it when done. Raises BadSources."""
        return SourceChain([Mapped(name, make(clock), naming) for name, make, naming in self.entries], clock)


def load(path: Path) -> TokenSources:
    """Read a file; the files that it names are beside it. Raises BadSources."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadSources(str(path), "", f"cannot be read: {error.strerror}") from None
    return parse(content, str(path), path.parent)


def parse(content: bytes, source: str, folder: Path) -> TokenSources:
    """Raises BadSources."""
    top = Place(source, "", places.parse(content, source))
    if top.text("kind") != KIND:
        raise top.wrong("kind", f"must be {KIND}")
    if top.text("apiVersion") != API_VERSION:
        raise top.wrong("apiVersion", f"must be {API_VERSION}")
    found: dict[str, tuple[str, Make, Naming]] = {}
    for place in top.mappings("sources"):
        name = place.text("name")
        if name in found:
            raise place.wrong("name", f"{name} is there already")
        kinds = [kind for kind in _KINDS if place.has(kind)]
        if len(kinds) != 1:
            raise place.wrong("", f"must have one of {', '.join(_KINDS)}")
        found[name] = (name, _KINDS[kinds[0]](place, kinds[0], folder), _naming(place))
        place.done()
    top.done()
    if not found:
        raise top.wrong("sources", "there is none")
    if len(found) > MAX_SOURCES:
        raise top.wrong("sources", f"there are more than {MAX_SOURCES}")
    return TokenSources(tuple(found.values()))


def _naming(place: Place) -> Naming:
    users, groups = place.mapping("users"), place.mapping("groups")
    map_ = groups.mapping("map")
    naming = Naming(
        user_prefix=users.text("prefix", ""),
        group_prefix=groups.text("prefix", ""),
        map={name: map_.texts(name) for name in map_.items()},
        only_mapped=groups.flag("onlyMapped"),
        add=groups.texts("add"),
        keep_extra=users.flag("keepExtra", True),
        allow_system=place.flag("allowSystem"),
    )
    if not naming.allow_system:
        given = {
            "users.prefix": (naming.user_prefix,),
            "groups.prefix": (naming.group_prefix,),
            "groups.add": naming.add,
        }
        given |= {f"groups.map.{name}": values for name, values in naming.map.items()}
        for name, values in given.items():
            if any(value.startswith("system:") for value in values):
                raise place.wrong(
                    name, "names that begin with system: are Kubernetes' own; allowSystem: true takes them"
                )
    users.done()
    groups.done()
    return naming


def _static_users(place: Place, name: str, folder: Path) -> Make:
    inner = place.mapping(name)
    file = inner.file("file", folder)
    parse_users(inner.content("file", folder), str(file))
    inner.done()
    return lambda clock: StaticUsers(file, clock)


def _token_review(place: Place, name: str, folder: Path) -> Make:
    inner = place.mapping(name)
    file, audiences = inner.file("kubeconfig", folder), inner.texts("audiences")
    cache = inner.number("cacheSeconds", 120, 0, 3600)
    timeout = inner.number("timeoutSeconds", 10, 1, 60)
    inner.done()

    def make(clock: Clock) -> Source:
        return TokenReviewSource(file, clock, audiences=audiences, cache_seconds=cache, timeout=timeout)

    return _placed(make, inner, "kubeconfig")


def _jwt(place: Place, name: str, folder: Path) -> Make:
    try:
        configured = parse_jwt(place.raw(name), place.source, place.at(name))
    except BadConfiguration as error:
        # it begins with the file and names the place itself
        raise BadSources(place.source, "", str(error).removeprefix(f"{place.source}: ")) from None
    if not configured:
        raise place.wrong(name, "there is no issuer")
    return _placed(lambda clock: JwtSource(configured, clock), place, name)


def _aws_iam(place: Place, name: str, folder: Path) -> Make:
    from kubegate.authentication.aws_iam import AwsIamSettings
    from kubegate.authentication.sources.aws_iam import CLUSTER_MODES, AwsIamSource
    from kubegate.aws.sts import StsSettings

    inner = place.mapping(name)
    rate = inner.number("callsPerSecond", 200, 1, 10_000)
    authority = inner.content("stsCAFile", folder) if inner.has("stsCAFile") else None
    inner.text("stsCAFile", "")
    settings = AwsIamSettings(
        inner.text("clusterID"),
        inner.texts("partitions"),
        inner.texts("stsEndpoints"),
        StsSettings(authority, calls_per_second=rate, burst=int(5 * rate)),
    )
    files = {key: inner.file(key, folder) if inner.has(key) else None for key in _IAM_FILES}
    backends = inner.texts("backends")
    for key in (*_IAM_FILES, "backends"):
        inner.raw(key)
    if not files["mappingFile"] and not files["kubeconfig"]:
        raise inner.wrong("", "must have mappingFile, or kubeconfig, or both")
    if any(each not in CLUSTER_MODES for each in backends) or (backends and not files["kubeconfig"]):
        raise inner.wrong("backends", f"goes with kubeconfig; there are {', '.join(CLUSTER_MODES)}")
    inner.done()

    def make(clock: Clock) -> Source:
        return AwsIamSource(
            settings,
            clock,
            mapping_file=files["mappingFile"],
            kubeconfig=files["kubeconfig"],
            backends=backends or CLUSTER_MODES[:1],
            private_dns_file=files["privateDNSFile"],
        )

    return _placed(make, inner, "")


_IAM_FILES = ("mappingFile", "kubeconfig", "privateDNSFile")


def _ldap(place: Place, name: str, folder: Path) -> Make:
    inner = place.mapping(name)
    url, start_tls = inner.text("url"), inner.flag("startTLS")
    parts = urlsplit(url)
    if parts.scheme not in ("ldap", "ldaps") or not parts.hostname:
        raise inner.wrong("url", "must be ldaps://HOST[:PORT] or ldap://HOST[:PORT]")
    if parts.scheme == "ldaps" and start_tls:
        raise inner.wrong("startTLS", "is for ldap://; ldaps:// begins with TLS")
    if parts.scheme == "ldap" and not start_tls and not inner.flag("insecure"):
        raise inner.wrong("url", "sends secrets in clear: use ldaps://, or startTLS: true, or insecure: true")
    inner.flag("insecure")
    template, users = inner.text("userDN", ""), _search(inner, "userSearch", "{username}")
    if bool(template) == (users is not None):
        raise inner.wrong("", "must have one of userDN and userSearch")
    if template and "{username}" not in template:
        raise inner.wrong("userDN", "must have {username} in it")
    bind = inner.text("bindDN", "")
    if users is not None and not bind:
        raise inner.wrong("bindDN", "is missing: userSearch needs an account that may search")
    password = ""
    if bind:
        password = inner.content("bindPasswordFile", folder).decode("utf-8", "replace").strip()
        if not password:
            raise inner.wrong("bindPasswordFile", "the file is empty")
    # uid={username},… says where the name comes from
    of_template = template.partition("=")[0].strip() if template else None
    directory = Directory(
        url,
        user_dn=template,
        users=users,
        username_attribute=inner.text("usernameAttribute", of_template),
        uid_attribute=inner.text("uidAttribute", ""),
        groups=_search(inner, "groupSearch", "{username}", "{dn}"),
        group_attribute=inner.text("groupAttribute", "cn"),
        member_of=inner.text("memberOfAttribute", ""),
        bind_dn=bind,
        bind_password=password,
        start_tls=start_tls,
        timeout=inner.number("timeoutSeconds", 10, 1, 60),
    )
    if inner.has("certificateAuthority"):
        directory = replace(directory, authority=inner.content("certificateAuthority", folder))
    inner.text("certificateAuthority", "")
    inner.done()
    return _placed(lambda clock: LdapSource(directory, clock), inner, "")


def _search(place: Place, name: str, *wanted: str) -> Search | None:
    if not place.has(name):
        return None
    inner = place.mapping(name)
    found = Search(inner.text("base"), inner.text("filter"))
    if not any(each in found.filter for each in wanted):
        raise inner.wrong("filter", f"must have {' or '.join(wanted)} in it")
    problem = ldap.filter_problem(found.filter)
    if problem:
        raise inner.wrong("filter", problem)
    inner.done()
    return found


def _placed(make: Make, place: Place, name: str) -> Make:
    """What goes wrong while a source is made names the place as well."""

    def placed(clock: Clock) -> Source:
        try:
            return make(clock)
        except ValueError as error:
            raise place.wrong(name, str(error)) from None

    return placed


_KINDS: dict[str, Callable[[Place, str, Path], Make]] = {
    "staticUsers": _static_users,
    "tokenReview": _token_review,
    "ldap": _ldap,
    "jwt": _jwt,
    "awsIAM": _aws_iam,
}
