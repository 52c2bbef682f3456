"""The mutual-TLS walk of docs/keys.md as the page has it: kubegate's certificates, Debian's nginx, the API server."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from doc_pages import KUBECTL, TOOLS, block, examples, page, walk

PAGE = page("keys").partition("## Tokens for kubectl")[0]
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}{os.pathsep}{TOOLS / 'debian/usr/sbin'}")


@contextlib.contextmanager
def nginx_ended(pid_file: Path) -> Iterator[None]:
    """Also where the page did not get as far as ending it."""
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int(pid_file.read_text()), signal.SIGTERM)


@pytest.mark.skipif(NGINX is None, reason="wants nginx: scripts/tools.py nginx")
@pytest.mark.skipif(not KUBECTL.exists(), reason="wants .tools/kubectl-1.36")
def test_the_page_does_what_it_says(tmp_path: Path) -> None:
    assert NGINX is not None
    with walk(tmp_path, ports=("8443",), programs={"nginx": NGINX}) as walking, nginx_ended(walking.work / "nginx.pid"):
        (walking.work / "nginx.conf").write_text(walking.on_our_ports(block(PAGE, "nginx", "ssl_verify_client")))
        for example in examples(PAGE):
            walking.check(example)
