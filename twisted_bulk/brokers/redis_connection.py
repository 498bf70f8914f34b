"""Connections on txredisapi's: they log in by themselves, and connect again for ever."""

from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis
import txredisapi
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from twisted_bulk.brokers.redis_url import Address
from twisted_bulk.brokers.store import Argument
from twisted_bulk.errors import QueueUnavailable

log = Logger()

REPLY_TIMEOUT = 5.0  # seconds without a reply after which a connection is aborted
PING_SECONDS = 15.0  # between two PINGs on a listening connection, which is silent otherwise


class _Handshake:
    """The first commands on every connection; it is usable once the server has answered them."""

    factory: "Factory"

    def connectionMade(self) -> None:
        transport: Any = self.transport  # type: ignore[attr-defined]
        if hasattr(transport, "setTcpKeepAlive"):
            transport.setTcpKeepAlive(True)
        # One for each connection; a handshake that hangs ends with the reply time-out.
        Deferred.fromCoroutine(self._handshake(transport))

    async def _handshake(self, transport: Any) -> None:
        execute: Any = self.execute_command  # type: ignore[attr-defined]
        address = self.factory.address
        try:
            if address.credentials:
                await execute("AUTH", *address.credentials)
            if address.database:
                await execute("SELECT", address.database)
            await execute("PING")  # an error while the server is loading
            if address.master:
                # The answer of Sentinel may be a moment old.
                role = (await execute("ROLE"))[0]
                if role != b"master":
                    raise QueueUnavailable(f"it is a {role.decode()}, not the master")
        except CancelledError:
            raise
        except Exception as error:
            self.factory.complain(error)
            transport.loseConnection()
            return
        self.factory.complain(None)
        self.ready()

    def ready(self) -> None:
        """The server has let this connection in."""
        super().connectionMade()  # type: ignore[misc]


class _Protocol(_Handshake, txredisapi.RedisProtocol):
    """One connection for commands.

    Packing (a fifth of a call's time in txredisapi), the queue of replies and their timer differ
    from txredisapi's: replies come in the order of the commands, and one timer watches them all.
    """

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._asked: deque[Deferred[Any]] = deque()
        self._heard = 0.0  # when the last reply came, or the first command after a silence went
        self._watching: IDelayedCall | None = None

    def execute_command(self, *words: Argument, **options: Any) -> Deferred[Any]:
        """Send a command; bytes, integers and lists of them come back."""
        if not self.connected:
            return fail(txredisapi.ConnectionError("Not connected"))
        clock = self.factory.clock
        self.transport.write(hiredis.pack_command(words))  # type: ignore[arg-type]
        if not self._asked:
            self._heard = clock.seconds()
        if self._watching is None:
            self._watching = clock.callLater(REPLY_TIMEOUT, self._watch)
        answer: Deferred[Any] = Deferred()
        self._asked.append(answer)
        return answer

    def _watch(self) -> None:
        self._watching = None
        if self._asked:
            silent = self.factory.clock.seconds() - self._heard
            if silent >= REPLY_TIMEOUT:
                self.transport.abortConnection()
            else:
                self._watching = self.factory.clock.callLater(REPLY_TIMEOUT - silent, self._watch)

    def dataReceived(self, data: bytes) -> None:
        self._reader.feed(data)
        self._heard = self.factory.clock.seconds()
        while (reply := self._reader.gets()) is not False:
            answer = self._asked.popleft()
            if answer.called:
                continue  # nobody waits for it any more
            if isinstance(reply, Exception):
                answer.errback(reply)
            else:
                answer.callback(reply)

    def connectionLost(self, why: Any) -> None:
        super().connectionLost(why)
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None
        asked, self._asked = self._asked, deque()
        for answer in asked:
            if not answer.called:
                answer.errback(txredisapi.ConnectionError("Lost connection"))


class _Listener(_Handshake, txredisapi.SubscriberProtocol):
    """The connection on which published messages come."""

    factory: "ListenerFactory"
    _pinging: LoopingCall | None = None

    def ready(self) -> None:
        super().ready()
        Deferred.fromCoroutine(self._listen())

    async def _listen(self) -> None:
        try:
            await self.subscribe(list(self.factory.heard))
            for channel in self.factory.heard:
                self.factory.tell(channel)  # a message before this moment is lost
        except CancelledError:
            raise
        except Exception as error:
            self.factory.complain(error)
            self.transport.loseConnection()
            return
        # A dead link is noticed by the reply time-out of a PING.
        self._pinging = LoopingCall(self.execute_command, "PING")
        self._pinging.clock = self.factory.clock
        self._pinging.start(PING_SECONDS).addErrback(lambda _: None)

    def connectionLost(self, why: Any) -> None:
        if self._pinging is not None and self._pinging.running:
            self._pinging.stop()
        super().connectionLost(why)

    def messageReceived(self, pattern: Any, channel: bytes, message: bytes) -> None:
        self.factory.tell(channel.decode())


class Factory(txredisapi.RedisFactory):
    """Connections for commands, made again when they end."""

    protocol = _Protocol
    initialDelay = 0.1  # seconds before the second try to connect
    maxDelay = 3.0  # seconds, the longest time between two tries

    def __init__(self, address: Address, connections: int, clock: IReactorTime) -> None:
        super().__init__(
            None,
            None,
            connections,
            isLazy=True,
            charset=None,
            convertNumbers=False,
            replyTimeout=REPLY_TIMEOUT,
        )
        self.address = address
        self.clock = clock
        self._turn = 0
        self._waiting: dict[Deferred[Any], None] = {}
        self._complaint: str | None = None

    def connection(self) -> Any:
        """A connection that can be used now, each in its turn; None: there is none."""
        if not self.pool:
            return None
        self._turn += 1
        return self.pool[self._turn % len(self.pool)]

    def wait(self) -> Deferred[Any]:
        """Fires with the first connection that can be used."""
        found: Deferred[Any] = Deferred(lambda waiting: self._waiting.pop(waiting, None))
        self._waiting[found] = None
        return found

    def addConnection(self, conn: Any) -> None:
        super().addConnection(conn)
        if conn in self.pool:
            self.connectionQueue.remove(conn)  # we never take it from there
            waiting, self._waiting = self._waiting, {}
            for found in waiting:
                found.callback(conn)

    def complain(self, error: Exception | None) -> None:
        """Log a refused handshake once for each new reason."""
        complaint = str(error) if error else None
        if complaint and complaint != self._complaint:
            log.warn(
                "redis at {where} refuses: {reason}", where=self.address.where, reason=complaint
            )
        self._complaint = complaint


class ListenerFactory(Factory):
    """The connection for published messages; ``heard`` has the listeners of each channel."""

    protocol = _Listener

    def __init__(self, address: Address, clock: IReactorTime) -> None:
        super().__init__(address, 1, clock)
        self.heard: dict[str, list[Callable[[], object]]] = {}

    def tell(self, channel: str) -> None:
        """Call the listeners of ``channel``: there was a message."""
        for heard in self.heard[channel]:
            heard()
