"""What kube-apiserver's router says of paths and methods that it has no route for.

Not all paths go through it: health, OpenAPI, metrics and the lists of groups are served by what asks for no method.
"""

from __future__ import annotations

from kubegate.api import status
from kubegate.server.call import Call


def no_such_resource() -> status.StatusError:
    return status.generic(404, "NotFound", "the server could not find the requested resource")


def method_not_allowed() -> status.StatusError:
    return status.generic(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def check_method(call: Call) -> None:
    """For what has a route for GET alone, and so none for HEAD. Raises 405."""
    if call.method != "GET":
        raise method_not_allowed()
