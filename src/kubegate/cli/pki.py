"""`kubegate pki`: authorities, server and client certificates; made, signed, shown, verified and renewed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kubegate.cli.errors import telling
from kubegate.cli.terminal import echo

if TYPE_CHECKING:
    from cryptography import x509

    from kubegate.pki.certificates import Authority, Subject

app = typer.Typer(
    no_args_is_help=True,
    short_help="Make, sign, show, verify and renew certificates.",
    help="Make, sign, show, verify and renew certificates. Keys are readable by their owner alone, and nothing is "
    "overwritten without --force.",
)

Ca = Annotated[Path, typer.Option("--ca", help="certificate of the authority (its key beside it, or by --ca-key)")]
CaKey = Annotated[Path | None, typer.Option("--ca-key", help="key of the authority")]
Out = Annotated[Path, typer.Option("--out", "-o", help="folder for what is made")]
Days = Annotated[float, typer.Option("--days", help="how long it lasts")]
Algorithm = Annotated[str, typer.Option("--algorithm", help="ecdsa-p256, ecdsa-p384, rsa-2048, rsa-4096, ed25519 …")]
Force = Annotated[bool, typer.Option("--force", help="overwrite files that are there")]
Hosts = Annotated[list[str] | None, typer.Option("--host", help="DNS name or IP address; may be repeated")]

_SOON = timedelta(days=30)


@app.command()
def init(
    common_name: Annotated[str, typer.Argument(metavar="NAME", help="common name of the authority")] = "kubernetes",
    out: Out = Path(),
    file: Annotated[str, typer.Option("--file", help="name of the files, without .crt and .key")] = "ca",
    days: Days = 3650,
    algorithm: Algorithm = "ecdsa-p256",
    force: Force = False,
) -> None:
    """A new authority: ca.crt and ca.key.

    kubegate pki init kubernetes --out pki
    """
    from kubegate.pki import certificates

    with telling(ValueError):
        made = certificates.new_authority(common_name, days=days, algorithm=algorithm)
        certificates.save_pair(made.certificate, made.key, out / file, force=force)
    _made(made.certificate, out / f"{file}.crt", out / f"{file}.key")


@app.command()
def server(
    name: Annotated[str, typer.Argument(help="common name, and name of the files")],
    host: Hosts = None,
    ca: Ca = Path("ca.crt"),
    ca_key: CaKey = None,
    out: Out = Path(),
    days: Days = 365,
    algorithm: Algorithm = "ecdsa-p256",
    force: Force = False,
) -> None:
    """A certificate for a server: NAME.crt and NAME.key.

    kubegate pki server api --host api.example.org --host 10.0.0.1
    """
    from kubegate.pki import certificates
    from kubegate.pki.certificates import Subject

    making = _Making(ca, ca_key, out / name, days, algorithm, force)
    making.issue(Subject(name), certificates.SERVER, host or [name])


@app.command()
def client(
    name: Annotated[str, typer.Argument(help="user name (the common name), and name of the files")],
    group: Annotated[
        list[str] | None, typer.Option("--group", help="group of the user (an organization); may be repeated")
    ] = None,
    uid: Annotated[str, typer.Option("--uid", help="uid of the user")] = "",
    ca: Ca = Path("ca.crt"),
    ca_key: CaKey = None,
    out: Out = Path(),
    days: Days = 365,
    algorithm: Algorithm = "ecdsa-p256",
    force: Force = False,
) -> None:
    """A certificate for a user: NAME.crt and NAME.key.

    kubegate pki client jane --group dev --group qa
    """
    from kubegate.pki import certificates
    from kubegate.pki.certificates import Subject

    making = _Making(ca, ca_key, out / name, days, algorithm, force)
    making.issue(Subject(name, tuple(group or ()), uid), certificates.CLIENT)


@app.command(short_help="Sign a request, with the names it asks for.")
def sign(
    request: Annotated[Path, typer.Argument(help="certificate signing request (PEM)")],
    signer: Annotated[
        str, typer.Option("--signer", help="hold the request to the rules of one of Kubernetes' signers")
    ] = "",
    usage: Annotated[
        list[str] | None, typer.Option("--usage", help="as in a CertificateSigningRequest; may be repeated")
    ] = None,
    ca: Ca = Path("ca.crt"),
    ca_key: CaKey = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="file for the certificate")] = None,
    days: Days = 365,
    force: Force = False,
) -> None:
    """Sign a request with the subject and the names that it asks for.

    kubegate pki sign jane.csr --signer kubernetes.io/kube-apiserver-client
    """
    from kubegate.pki import certificates, files, signers

    target = output or request.with_suffix(".crt")
    with telling(ValueError, signers.NotSigned):
        order = signers.Order(request.read_bytes(), usage or ["client auth"], int(days * 86400))
        if signer:
            signers.check(signer, order)
        made = signers.sign(_authority(ca, ca_key), order, now=datetime.now(UTC), longest=int(days * 86400))
        files.write_public(target, made, force=force)
    _made(certificates.parse_certificates(made)[0], target)


@app.command()
def show(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE...", help="certificates, requests and keys (PEM)")],
) -> None:
    """What is in certificates, requests and keys. Exits with 1 where a certificate has ended."""
    ended = False
    for path in paths:
        with telling(ValueError):
            for line, is_ended in _shown(path):
                echo(line)
                ended |= is_ended
    raise typer.Exit(1 if ended else 0)


@app.command(short_help="Whether a certificate is good, and for what.")
def verify(
    path: Annotated[Path, typer.Argument(metavar="CERTIFICATE", help="certificate, others of its chain behind it")],
    ca: Ca = Path("ca.crt"),
    host: Annotated[str, typer.Option("--host", help="it must be for this name (and for servers)")] = "",
    key: Annotated[Path | None, typer.Option("--key", help="it must belong to this key")] = None,
) -> None:
    """Whether a certificate is good: signed by the authority, in its time, for clients or for this host.

    Exits with 1, and says why, where it is not.
    """
    from cryptography.x509.oid import ExtendedKeyUsageOID

    from kubegate.authentication.chains import Pool
    from kubegate.authentication.chains import verify as verify_chain
    from kubegate.authentication.x509 import VerificationError
    from kubegate.pki import certificates, keys

    with telling(ValueError):
        chain = certificates.load_certificates(path)
        pool = Pool.parse(ca.read_bytes(), str(ca))
        usage = ExtendedKeyUsageOID.SERVER_AUTH if host else ExtendedKeyUsageOID.CLIENT_AUTH
        try:
            verify_chain([certificates.der(c) for c in chain], pool, datetime.now(UTC).timestamp(), usage)
        except VerificationError as error:
            raise ValueError(f"{path}: {str(error).removeprefix('x509: ')}") from None
        if host and not _is_for(chain[0], host):
            names = ", ".join(certificates.hosts_of(chain[0])) or "no name"
            raise ValueError(f"{path}: the certificate is for {names}, not for {host}")
        if key is not None and keys.load_private(key).public_key() != chain[0].public_key():
            raise ValueError(f"{path}: {key} is the key of another certificate")
    echo(f"{path}: good until {_day(chain[0].not_valid_after_utc)}")


@app.command(short_help="Issue certificates again, for the same key.")
def renew(
    paths: Annotated[list[Path], typer.Argument(metavar="CERTIFICATE...", help="certificates of the authority")],
    ca: Ca = Path("ca.crt"),
    ca_key: CaKey = None,
    days: Days = 365,
    within: Annotated[float, typer.Option("--within", help="only those that end within so many days (0: all)")] = 0,
) -> None:
    """Issue certificates again, for the same key, with the same names and usages; files are replaced."""
    from kubegate.pki import certificates, files

    with telling(ValueError):
        authority = _authority(ca, ca_key)
        for path in paths:
            found = certificates.load_certificates(path)[0]
            left = found.not_valid_after_utc - datetime.now(UTC)
            if within and left > timedelta(days=within):
                echo(f"{path}: left alone, it lasts until {_day(found.not_valid_after_utc)}")
                continue
            made = certificates.renew(authority, found, days=days)
            files.write_public(path, certificates.certificate_pem(made), force=True)
            _made(made, path)


@app.command(short_help="What cfssl gencert and cfssljson do.")
def gencert(
    request: Annotated[Path, typer.Argument(metavar="CSR.json", help="cfssl's request")],
    initca: Annotated[bool, typer.Option("-initca", "--initca", help="a new authority")] = False,
    ca: Annotated[Path | None, typer.Option("-ca", "--ca", help="certificate of the authority")] = None,
    ca_key: Annotated[Path | None, typer.Option("-ca-key", "--ca-key", help="key of the authority")] = None,
    config: Annotated[Path | None, typer.Option("-config", "--config", help="cfssl's signing configuration")] = None,
    profile: Annotated[str, typer.Option("-profile", "--profile", help="profile of the configuration")] = "",
    hostname: Annotated[
        str, typer.Option("-hostname", "--hostname", help="names instead of the request's, with commas between")
    ] = "",
    bare: Annotated[
        str, typer.Option("-bare", "--bare", help="name of the files (the request's, without -csr.json, otherwise)")
    ] = "",
    force: Force = False,
) -> None:
    """What `cfssl gencert … | cfssljson -bare NAME` does: NAME.pem, NAME-key.pem and NAME.csr.

    kubegate pki gencert -initca ca-csr.json
    kubegate pki gencert -ca ca.pem -ca-key ca-key.pem -config ca-config.json -profile kubernetes server-csr.json
    """
    from dataclasses import replace

    from kubegate.pki import certificates, cfssl, files, keys

    base = bare or request.name.removesuffix(".json").removesuffix("-csr")
    with telling(ValueError):
        asked = cfssl.parse_request(request.read_bytes(), str(request))
        if hostname:
            asked = replace(asked, hosts=tuple(hostname.split(",")))
        if initca:
            made = cfssl.init_ca(asked)
        elif ca is None or ca_key is None:
            raise ValueError("-ca and -ca-key are needed, or -initca for a new authority")
        else:
            chosen = cfssl.parse_profile(config.read_bytes(), str(config), profile) if config else cfssl.Profile()
            made = cfssl.generate(certificates.load_authority(ca, ca_key), asked, chosen)
        keys.save(made.key, Path(f"{base}-key.pem"), force=force)
        files.write_public(Path(f"{base}.pem"), certificates.certificate_pem(made.certificate), force=force)
        files.write_public(Path(f"{base}.csr"), certificates.request_pem(made.request), force=force)
    _made(made.certificate, Path(f"{base}.pem"), Path(f"{base}-key.pem"), Path(f"{base}.csr"))


# ---------------------------------------------------------------------- what the commands share
def _authority(certificate: Path, key: Path | None) -> Authority:
    from kubegate.pki import certificates

    return certificates.load_authority(certificate, key or certificate.with_suffix(".key"))


@dataclass(frozen=True, slots=True)
class _Making:
    """How a new pair is made, and where: BASE.crt and BASE.key."""

    ca: Path
    ca_key: Path | None
    base: Path
    days: float
    algorithm: str
    force: bool

    def issue(self, subject: Subject, usages: Sequence[x509.ObjectIdentifier], hosts: Sequence[str] = ()) -> None:
        from kubegate.pki import certificates, keys

        with telling(ValueError):
            authority, key = _authority(self.ca, self.ca_key), keys.generate(self.algorithm)
            made = certificates.issue(authority, key.public_key(), subject, usages=usages, hosts=hosts, days=self.days)
            certificates.save_pair(made, key, self.base, force=self.force)
        _made(made, self.base.with_name(f"{self.base.name}.crt"), self.base.with_name(f"{self.base.name}.key"))


def _made(certificate: x509.Certificate, *files: Path) -> None:
    from kubegate.pki import certificates

    who = certificates.subject_of(certificate).common_name
    end = certificate.not_valid_after_utc
    echo(f"{', '.join(str(file) for file in files)}: {who}, until {_day(end)}")


def _day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")


def _shown(path: Path) -> Iterator[tuple[str, bool]]:
    """Lines about all that is in a PEM file, and whether each tells of something that has ended."""
    from kubegate.pki import certificates, keys

    data = path.read_bytes()
    if b"CERTIFICATE REQUEST-----" in data:
        request = certificates.parse_request(data, str(path))
        yield f"{path}: request", False
        yield from _details(request)
        signed = "valid" if request.is_signature_valid else "NOT VALID"
        yield f"  signature    {signed}", False
    elif b"-----BEGIN CERTIFICATE-----" in data:
        for certificate in certificates.parse_certificates(data, str(path)):
            yield f"{path}: certificate", False
            yield from _details(certificate)
            yield from _life(certificate)
    else:
        for key in keys.parse_public(data, str(path)):
            yield f"{path}: {keys.describe(key)} key, id {keys.key_id(key)}", False


def _details(found: x509.Certificate | x509.CertificateSigningRequest) -> Iterator[tuple[str, bool]]:
    from kubegate.pki import certificates, keys

    subject = certificates.subject_of(found)
    yield f"  subject      {found.subject.rfc4514_string()}", False
    yield f"  user         {subject.common_name or '(none)'}", False
    if subject.organizations:
        yield f"  groups       {', '.join(subject.organizations)}", False
    if subject.uid:
        yield f"  uid          {subject.uid}", False
    hosts = certificates.hosts_of(found)
    if hosts:
        yield f"  names        {', '.join(hosts)}", False
    public = found.public_key()
    if isinstance(public, keys.PublicKey):
        yield f"  key          {keys.describe(public)}", False


def _life(certificate: x509.Certificate) -> Iterator[tuple[str, bool]]:
    from cryptography import x509

    from kubegate.pki import certificates

    now, start, end = datetime.now(UTC), certificate.not_valid_before_utc, certificate.not_valid_after_utc
    yield f"  issuer       {certificate.issuer.rfc4514_string()}", False
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.ExtendedKeyUsage):
            # the library has no public name for a usage's name
            usages = ", ".join(getattr(usage, "_name", usage.dotted_string) for usage in extension.value)
            yield f"  usages       {usages}", False
        if isinstance(extension.value, x509.BasicConstraints) and extension.value.ca:
            yield "  authority    yes", False
    yield f"  fingerprint  {certificates.fingerprint(certificates.der(certificate))}", False
    state = ""
    if end < now:
        state = ": HAS ENDED"
    elif start > now:
        state = f": begins {_day(start)}"
    elif end - now < _SOON:
        state = f": ends in {(end - now).days} days"
    yield f"  until        {_day(end)}{state}", end < now


def _is_for(certificate: x509.Certificate, host: str) -> bool:
    """Whether one of the names is this host; a star stands for one label."""
    from kubegate.pki import certificates

    wanted = host.strip("[]").lower()
    for name in certificates.hosts_of(certificate):
        if name.lower() == wanted or (name.startswith("*.") and name[2:].lower() == wanted.partition(".")[2]):
            return True
    return False
