"""What stands around Klein: what it cannot route or need not look for, and errors it leaves."""

import traceback
from typing import Any
from urllib.parse import unquote_to_bytes

from klein import Klein
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.resource import Resource
from werkzeug.routing import Map, MapAdapter, Rule

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


class _Fixed:
    """What Klein asks about a request whose path has no variables: the rule is known."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule

    def match(self, return_rule: bool = True) -> tuple[Rule, dict[str, Any]]:
        """The rule, and no variables."""
        return self._rule, {}


class _Rules(Map):
    """Paths without variables are looked up, not searched: a twelfth of what a POST costs."""

    _fixed: dict[tuple[str, str], _Fixed] | None = None

    def bind(
        self,
        server_name: str,
        script_name: str | None = None,
        subdomain: str | None = None,
        url_scheme: str = "http",
        default_method: str = "GET",
        path_info: str | None = None,
        query_args: Any = None,
    ) -> MapAdapter:
        if self._fixed is None:
            self._fixed = {
                (method, rule.rule): _Fixed(rule)
                for rule in self.iter_rules()
                if not rule.arguments
                for method in rule.methods or ()
            }
        found: Any = self._fixed.get((default_method, path_info or ""))
        return found or super().bind(
            server_name, script_name, subdomain, url_scheme, default_method, path_info, query_args
        )


class App(Klein):
    """Klein over such rules."""

    def __init__(self) -> None:
        super().__init__()
        self._url_map = _Rules()


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
