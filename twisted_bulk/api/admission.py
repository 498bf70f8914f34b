"""Who may make a call, and how often."""

import math
from collections.abc import Callable
from typing import cast

from twisted.web.http import Request

from twisted_bulk.api.tokens import Access, Token
from twisted_bulk.errors import (
    BulkError,
    Forbidden,
    ProtectedMode,
    Stopping,
    TooManyRequests,
    Unauthorized,
)
from twisted_bulk.http_server.connection_limits import FLOAT_ERROR
from twisted_bulk.http_server.request import BoundedRequest, header

#: Clients whose rates are kept; beyond it those that have made few requests lately are dropped.
MAX_CLIENTS = 10_000
HEALTH_FACTOR = 10  # calls of /healthz and /readyz that count as one other request


class RequestRate:
    """Requests of each client: so many a second, and as many at once (GCRA). Pure, over ``now``.

    :param rate: requests a second; 0: any number
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._until: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._until)

    def wait(self, key: str, now: float, *, count: bool = True) -> float:
        """Seconds until a client may make another request; 0: it may now.

        :param key: of the client
        :param count: it makes one if it may
        """
        if not self._rate:
            return 0.0
        until = max(self._until.get(key, 0.0), now) + 1 / self._rate
        wait = until - now - 1.0
        if wait > FLOAT_ERROR:
            return wait
        if not count:
            return 0.0
        if len(self._until) >= MAX_CLIENTS and key not in self._until:
            self._until = {name: then for name, then in self._until.items() if then > now}
        self._until[key] = until
        return 0.0


class Admission:
    """Lets requests in.

    ``stopping``: this node takes no more batches.

    :param request_rate: requests a second of one token, or of one address without a token; 0: any
        number. Of calls for everybody's health it is :data:`HEALTH_FACTOR` times as many.
    """

    def __init__(self, access: Access, request_rate: int) -> None:
        self._access = access
        self._rate = RequestRate(request_rate)
        self._health_rate = RequestRate(HEALTH_FACTOR * request_rate)
        self.stopping = False

    def admit(self, request: Request, scope: str) -> Token:
        """Let a request in that needs a token, or a client on this machine.

        :raises Unauthorized: or another error of :meth:`Access.check`
        :raises TooManyRequests: the token, or the address that has none, asks too often
        """
        token = self._check(request, scope)
        asked = cast(BoundedRequest, request)
        who = f"token {token.name}" if token.name else asked.client_key
        _refuse_for(self._rate.wait(who, asked.began))
        return token

    def listening(self, request: Request) -> tuple[str, Callable[[], bool]]:
        """Admit a request that is told of changes; for that its token was checked before.

        :returns: its ``Last-Event-ID``, or empty; and whether it would still be admitted
        :raises Stopping: this node is stopping
        """
        self.check_running()
        asked = cast(BoundedRequest, request)

        def may_go_on() -> bool:
            try:
                self._access.check(asked, "read")
            except BulkError:
                return False
            return True

        return header(request, "Last-Event-ID") or "", may_go_on

    def _check(self, request: Request, scope: str) -> Token:
        asked = cast(BoundedRequest, request)
        guesses = f"guesses {asked.client_key}"
        # First: a client that guesses too often does not learn whether this guess is right.
        _refuse_for(self._rate.wait(guesses, asked.began, count=False))
        try:
            return self._access.check(asked, scope)
        except (Unauthorized, ProtectedMode):
            _refuse_for(self._rate.wait(guesses, asked.began))
            raise
        except Forbidden:
            self.count(request)
            raise

    def count(self, request: Request) -> None:
        """Count a request that is for everybody for its address.

        :raises TooManyRequests: the address asks too often
        """
        asked = cast(BoundedRequest, request)
        _refuse_for(self._rate.wait(asked.client_key, asked.began))

    def count_health(self, request: Request) -> None:
        """As :meth:`count`, for /healthz and /readyz."""
        asked = cast(BoundedRequest, request)
        _refuse_for(self._health_rate.wait(asked.client_key, asked.began))

    def check_running(self) -> None:
        """:raises Stopping: this node takes no more batches"""
        if self.stopping:
            raise Stopping("this node is stopping")

    def unwelcome(self, request: Request) -> BulkError | None:
        """Why a request's large body need not come: clients without the right fill no disk."""
        try:
            self._check(request, "submit")
            self.check_running()
        except BulkError as error:
            return error.with_traceback(None)
        return None


def _refuse_for(seconds: float) -> None:
    if seconds:
        raise TooManyRequests("too many requests", math.ceil(seconds))
