"""A client for programs with a Twisted reactor, which it never blocks."""

from pathlib import Path
from typing import Any

from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.iweb import IAgent

from twisted_bulk.api.answers import Batch
from twisted_bulk.api_client import download
from twisted_bulk.api_client.async_transport import TIMEOUT, AsyncTransport
from twisted_bulk.api_client.calls import Calls
from twisted_bulk.api_client.session import Session


class AsyncClient(Calls):
    """Calls a bulkwav; see :class:`~twisted_bulk.api_client.calls.Calls` for what it can.

    :param server: as ``https://bulkwav.example:10000``
    :param token: a bearer token, or empty
    :param patience: seconds for which a call is repeated that failed in a way that may pass
    :param reactor: None: the global one
    :param agent: what connects; None: one that trusts the system's certificates
    :raises ValueError: ``server`` is no URL
    """

    def __init__(
        self,
        server: str,
        token: str = "",
        *,
        patience: float = 10.0,
        reactor: Any = None,
        agent: IAgent | None = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self._pool: HTTPConnectionPool | None = None
        if agent is None:
            self._pool = HTTPConnectionPool(reactor)
            agent = Agent(reactor, connectTimeout=TIMEOUT, pool=self._pool)
        super().__init__(Session(AsyncTransport(reactor, agent), server, token, patience))

    async def download(
        self,
        batch: Batch | str,
        folder: str | Path = ".",
        *,
        progress: download.OnBytes = lambda now: None,
        patience: float = 600.0,
        force: bool = False,
    ) -> list[Path]:
        """Fetch all zips of a batch; see :func:`twisted_bulk.api_client.download.fetch`.

        :param batch: or its id
        """
        whole = await self.batch(batch) if isinstance(batch, str) else batch
        return await download.fetch(
            self.session.transport, whole, Path(folder), patience=patience, force=force,
            progress=progress,
        )  # fmt: skip

    async def close(self) -> None:
        """Close the connections that are kept."""
        if self._pool is not None:
            await self._pool.closeCachedConnections()
