"""A real OpenLDAP server (Debian's slapd) with three people and two groups, over TLS."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kubegate.pki import certificates, keys
from kubegate.pki.certificates import Subject

DEBIAN = Path(__file__).resolve().parents[2] / ".tools" / "debian"
SLAPD = shutil.which("slapd", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin{os.pathsep}{DEBIAN / 'usr' / 'sbin'}")

CONFIG = """
include {schema}/core.schema
include {schema}/cosine.schema
include {schema}/inetorgperson.schema
modulepath {modules}
moduleload back_mdb
pidfile {folder}/slapd.pid
TLSCertificateFile {folder}/slapd.crt
TLSCertificateKeyFile {folder}/slapd.key
database mdb
suffix "dc=example,dc=org"
rootdn "cn=admin,dc=example,dc=org"
rootpw admin-secret
directory {folder}/data
access to attrs=userPassword by anonymous auth by * none
access to * by users read by * none
"""

PEOPLE = """
dn: dc=example,dc=org
objectClass: dcObject
objectClass: organization
o: Example
dc: example

dn: ou=people,dc=example,dc=org
objectClass: organizationalUnit
ou: people

dn: ou=groups,dc=example,dc=org
objectClass: organizationalUnit
ou: groups

dn: cn=reader,dc=example,dc=org
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: reader
userPassword: reader-secret

dn: uid=alice,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: alice
cn: Alice
sn: A
mail: alice@example.org
employeeNumber: 17
userPassword: wonder land

dn: uid=bob,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: bob
cn: Bob
sn: B
mail: bob@example.org
userPassword: builder

dn: uid=o\\2C brien*(x),ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: o, brien*(x)
cn: O Brien
sn: O
mail: obrien@example.org
userPassword: odd

dn: cn=dev,ou=groups,dc=example,dc=org
objectClass: groupOfNames
cn: dev
member: uid=alice,ou=people,dc=example,dc=org
member: uid=o\\2C brien*(x),ou=people,dc=example,dc=org

dn: cn=system:masters,ou=groups,dc=example,dc=org
objectClass: groupOfNames
cn: system:masters
member: uid=bob,ou=people,dc=example,dc=org
"""


@dataclass(frozen=True, slots=True)
class RunningDirectory:
    """`port` speaks TLS from the first byte (ldaps), `plain_port` after StartTLS."""

    port: int
    plain_port: int
    folder: Path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def directory(folder: Path) -> Iterator[RunningDirectory]:
    assert SLAPD is not None
    own = Path(SLAPD).is_relative_to(DEBIAN)
    root = DEBIAN if own else Path("/")
    environment = {**os.environ}
    if own:
        environment["LD_LIBRARY_PATH"] = str(next((DEBIAN / "usr" / "lib").glob("*-linux-gnu")))
    ca, key = certificates.new_authority("directories"), keys.generate("rsa-2048")
    made = certificates.issue(ca, key.public_key(), Subject("slapd"), usages=certificates.SERVER, hosts=["127.0.0.1"])
    certificates.save_pair(made, key, folder / "slapd")
    (folder / "ldap-ca.crt").write_bytes(ca.pem)
    (folder / "data").mkdir()
    words = {"schema": root / "etc" / "ldap" / "schema", "modules": root / "usr" / "lib" / "ldap", "folder": folder}
    (folder / "slapd.conf").write_text(CONFIG.format(**words))
    (folder / "people.ldif").write_text(PEOPLE.lstrip())
    config = ["-f", str(folder / "slapd.conf")]
    add = [SLAPD, "-T", "add", *config, "-l", str(folder / "people.ldif")]
    subprocess.run(add, env=environment, check=True, capture_output=True, timeout=30)
    port, plain_port = _free_port(), _free_port()
    # 127.0.0.2 is a name that the certificate is not for
    urls = f"ldaps://127.0.0.1:{port}/ ldaps://127.0.0.2:{port}/ ldap://127.0.0.1:{plain_port}/"
    with (folder / "slapd.log").open("w") as log:
        process = subprocess.Popen([SLAPD, "-d", "0", "-h", urls, *config], env=environment, stdout=log, stderr=log)
    try:
        _wait(port, process, folder / "slapd.log")
        yield RunningDirectory(port, plain_port, folder)
    finally:
        process.terminate()
        process.wait(20)


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until it speaks TLS."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    end = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < end:
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as plain, context.wrap_socket(plain):
                return
        except OSError:
            time.sleep(0.02)
    raise AssertionError(f"slapd did not start: {log.read_text()}")
