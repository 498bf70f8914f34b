"""What stands around Klein: requests that it cannot route, and errors that it leaves behind."""

import traceback
from typing import Any
from urllib.parse import unquote_to_bytes

from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.resource import Resource

from twisted_bulk.errors import BadRequest
from twisted_bulk.site import problem


def release(failure: Failure) -> None:
    """Let go of what the frames of an error hold, such as a body of 200 MB.

    They and the error hold each other, and of few large things Python takes no notice.
    """
    error: BaseException | None = failure.value
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
    failure.cleanFailure()


class Routed(Resource):
    """Klein's resource, given only what it can route: it answers for the rest by itself."""

    isLeaf = True

    def __init__(self, klein: Resource) -> None:
        super().__init__()
        self._klein = klein

    def render(self, request: Request) -> Any:
        try:
            unquote_to_bytes(request.path).decode()
            if not request.path.startswith(b"/"):
                raise ValueError("no path")
        except ValueError:
            return problem(request, BadRequest("the path is none, or not UTF-8"))
        return self._klein.render(request)
