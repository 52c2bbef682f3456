"""Token sources named in a file, as a policy: who is in the file is known, and nobody else."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubegate import token_sources

bcrypt = pytest.importorskip("bcrypt", reason="wants the extra `sources`")

SOURCES = """
apiVersion: kubegate.dev/v1
kind: TokenSources
sources:
- name: people
  staticUsers: {file: users.yaml}
  groups: {prefix: "staff:"}
"""


def folder(path: Path) -> Path:
    (path / "sources.yaml").write_text(SOURCES)
    hashed = bcrypt.hashpw(b"open-sesame", bcrypt.gensalt(4)).decode()
    (path / "users.yaml").write_text(f"users:\n- {{name: ann, groups: [ops], hash: '{hashed}'}}\n")
    return path / "sources.yaml"


async def test_a_user_of_the_file_is_known_by_the_secret(tmp_path: Path) -> None:
    known = token_sources(folder(tmp_path))
    user = await known("ann:open-sesame")
    assert user is not None
    assert (user.name, list(user.groups)) == ("ann", ["staff:ops"])


@pytest.mark.parametrize("token", ["ann:wrong", "bob:open-sesame", "ann:", "open-sesame", ""])
async def test_nobody_else_is(tmp_path: Path, token: str) -> None:
    assert await token_sources(folder(tmp_path))(token) is None


def test_a_bad_file_is_named_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "sources.yaml"
    path.write_text(SOURCES)
    with pytest.raises(ValueError, match="staticUsers"):
        token_sources(path)
