"""Fixtures of the remote room."""

from remote_server import serve

__all__ = ["serve"]
