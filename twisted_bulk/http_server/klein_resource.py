"""Finds the handler of a request among the routes of a Klein application, and calls it."""

import traceback
from collections.abc import Callable, Sequence
from typing import Any, cast

from klein import Klein
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource
from werkzeug.exceptions import NotFound

from twisted_bulk.errors import BadRequest, BulkError
from twisted_bulk.http_server.request import BoundedRequest, CoroutineResource, abort, header

log = Logger()


def release(error: BaseException | None) -> None:
    """Free the objects in the frames of an error, such as a body of 200 MB.

    The frames and the error refer to each other, and Python rarely looks for such cycles.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


class KleinResource(CoroutineResource):
    """The resource of Klein applications whose handlers are coroutines or plain functions.

    No two of them have one path.

    ``Klein.resource()`` would bind and search its rules for each request, also for paths without
    variables, and leave closures that refer to the request and to each other.

    :param failed: makes the answer for an error of a handler, or of the search for one
    """

    def __init__(
        self, apps: Sequence[Klein], failed: Callable[[Request, Exception], bytes]
    ) -> None:
        super().__init__()
        self._apps = apps
        self._failed = failed
        self._fixed = {
            (method.encode(), rule.rule.encode()): (app, cast(str, rule.endpoint))
            for app in apps
            for rule in app.url_map.iter_rules()
            if not rule.arguments
            for method in rule.methods or ()
        }

    def broken(self, failure: Failure, request: BoundedRequest) -> None:
        if not failure.check(CancelledError, BulkError):
            log.failure("{path} broke", failure, path=request.path.decode("latin-1"))
        release(failure.value)
        if not request.gone:
            abort(request)

    async def answer(self, request: BoundedRequest) -> None:
        try:
            answer = await self._handled(request)
        except Exception as error:
            if request.gone:
                raise
            answer = self._failed(request, error)
        if request.gone:
            return
        if isinstance(answer, Resource):
            request.render(answer)
        else:
            with request.prompt():
                request.write(answer)
                request.finish()

    async def _handled(self, request: BoundedRequest) -> Any:
        found, values = self._fixed.get((request.method, request.path)), dict[str, Any]()
        if found is None:
            found, values = self._search(request)
        app, endpoint = found
        answer = app.execute_endpoint(endpoint, cast(IRequest, request), **values)
        return await answer if isinstance(answer, Deferred) else answer

    def _search(self, request: BoundedRequest) -> tuple[tuple[Klein, str], dict[str, Any]]:
        """The application and the endpoint for a request, and the values in its path."""
        try:
            path = b"/".join(request.postpath or ()).decode()
            if not request.path.startswith(b"/"):
                raise ValueError("no path")
        except ValueError:
            raise BadRequest("the path is none, or not UTF-8") from None
        unknown = NotFound()
        for app in self._apps:
            adapter = app.url_map.bind(
                header(request, "Host") or "localhost",
                path_info=f"/{path}",
                default_method=request.method.decode("latin-1"),
                url_scheme="https" if request.isSecure() else "http",
            )
            try:
                rule, values = adapter.match(return_rule=True)
            except NotFound as error:
                unknown = error
            else:
                return (app, cast(str, rule.endpoint)), dict(values)
        raise unknown
