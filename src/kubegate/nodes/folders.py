"""Writing a volume into a folder so that it changes at once and nothing outside of the folder is ever touched.

As the kubelet's atomic writer: each state is a new directory, and the link `..data` is turned to it; beside it stands
a link for each first part of a path. Directories are 0700 and files 0600, whatever the volume asks for. Paths are
checked, and every step is made from an open directory without following links. It blocks.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

_DATA = "..data"
_LONGEST_PATH = 4096
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class UnsafePath(ValueError):
    """A path of a volume leads elsewhere, or would be mistaken for the writer's own."""


def check_path(path: str) -> None:
    """Raises UnsafePath. What is right: a relative path of plain names, the first of which does not begin with `..`."""
    parts = path.split("/")
    if not path or len(path.encode()) > _LONGEST_PATH or "\0" in path:
        raise UnsafePath(f"{path[:80]!r} is no path of a file")
    if any(part in ("", ".", "..") for part in parts):
        raise UnsafePath(f"{path!r} leads out of the volume or names nothing: plain names between slashes are right")
    if parts[0].startswith(".."):
        raise UnsafePath(f"{path!r} must not begin with '..'")


def make(folder: Path) -> None:
    """A directory that its owner alone may enter, and those above it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _opened(folder) as descriptor:
        os.fchmod(descriptor, 0o700)


def write(folder: Path, files: Mapping[str, bytes]) -> bool:
    """Make the volume hold exactly `files` (path -> content). False where it did already.

    Raises UnsafePath, OSError; then the volume is as it was.
    """
    for path in files:
        check_path(path)
    make(folder)
    with _opened(folder) as top:
        before = _current(top)
        if before is not None and _content(folder / before) == dict(files):
            return False
        name = f"..{os.urandom(8).hex()}"
        os.mkdir(name, 0o700, dir_fd=top)
        with _opened(name, top) as fresh:
            for path, content in files.items():
                _write_file(fresh, path, content)
        _link(top, name, _DATA)
        names = {path.split("/")[0] for path in files}
        for entry in os.listdir(top):
            if entry not in names and not entry.startswith(".."):
                _remove(folder / entry)
        for entry in names:
            if _target(top, entry) != f"{_DATA}/{entry}":
                _link(top, f"{_DATA}/{entry}", entry)
        for entry in os.listdir(top):
            if entry.startswith("..") and entry not in (_DATA, name):
                _remove(folder / entry)
    return True


def write_file(folder: Path, name: str, content: bytes) -> None:
    """One file of the folder, replaced as a whole. Raises UnsafePath, OSError."""
    check_path(name)
    with _opened(folder) as top:
        temporary = f".{os.urandom(8).hex()}"
        _write_file(top, temporary, content)
        os.replace(temporary, name, src_dir_fd=top, dst_dir_fd=top)


def remove(folder: Path) -> None:
    """The folder and all in it; links in it are removed, never followed."""
    _remove(folder)


@contextlib.contextmanager
def _opened(folder: Path | str, above: int | None = None) -> Iterator[int]:
    descriptor = os.open(folder, _DIRECTORY, dir_fd=above)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write_file(top: int, path: str, content: bytes) -> None:
    first, slash, rest = path.partition("/")
    if slash:
        with contextlib.suppress(FileExistsError):
            os.mkdir(first, 0o700, dir_fd=top)
        with _opened(first, top) as below:
            _write_file(below, rest, content)
        return
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(first, flags, 0o600, dir_fd=top), "wb") as file:
        file.write(content)


def _link(top: int, target: str, name: str) -> None:
    """A link that takes the place of whatever has the name."""
    temporary = f"..{os.urandom(8).hex()}"
    os.symlink(target, temporary, dir_fd=top)
    try:
        os.replace(temporary, name, src_dir_fd=top, dst_dir_fd=top)
    except OSError:
        os.unlink(temporary, dir_fd=top)
        raise


def _target(top: int, name: str) -> str | None:
    try:
        return os.readlink(name, dir_fd=top)
    except OSError:
        return None


def _current(top: int) -> str | None:
    """The directory that `..data` names, where it is one of ours."""
    found = _target(top, _DATA)
    return found if found is not None and "/" not in found and found.startswith("..") and len(found) > 2 else None


def _content(folder: Path) -> dict[str, bytes] | None:
    """The files below a folder; None where something else is among them."""
    found: dict[str, bytes] = {}
    for place, directories, files in os.walk(folder):
        for name in [*directories, *files]:
            path = Path(place, name)
            if path.is_symlink():
                return None
            if name in files:
                found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
