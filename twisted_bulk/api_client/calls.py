"""What can be done with a server: each call of the API once, for both clients."""

import os
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from http import HTTPStatus
from typing import Any, Unpack
from urllib.parse import quote

import msgspec

from twisted_bulk.api.answers import Accepted, Batch, Known, MemberOutcome, MembersPage, Page
from twisted_bulk.api.answers import (
    Session as SessionAnswer,
)
from twisted_bulk.api.plans import BulkAction, Preflight, RetryPlan
from twisted_bulk.api_client.events import ENDED, batch_events
from twisted_bulk.api_client.failures import NotBulkwav, Refused, WaitTimeout
from twisted_bulk.api_client.fields import BatchConditions, MemberConditions, OrderFields
from twisted_bulk.api_client.session import Session, decoded

Progress = Callable[[Batch], object]
Entry = str | Mapping[str, Any]
POLL_SECONDS = 1.0  # between two looks at a batch that is waited for with a time-out


def new_task_id() -> str:
    """An id for a batch that nobody has."""
    return os.urandom(8).hex()


class Calls:
    """The calls of the API.

    Every call may raise :class:`~twisted_bulk.api_client.failures.Refused` (the server says why),
    :class:`~twisted_bulk.api_client.failures.Unreachable`, or
    :class:`~twisted_bulk.api_client.failures.NotBulkwav`.
    """

    def __init__(self, session: Session) -> None:
        self.session = session

    async def submit(
        self,
        download: Iterable[Entry],
        *,
        task_id: str | int | None = None,
        **fields: Unpack[OrderFields],
    ) -> Accepted | Known:
        """Hand a batch in.

        The same id with the same body again is the same batch. Without an id one is made here, so
        that the call can be repeated when its answer was lost.

        :param download: URLs, or objects as the README explains them, with ``url`` and ``name``
        :returns: ``task_id``, ``status`` and ``total``, and of a batch that was known all of it
        """
        if isinstance(download, str):
            raise TypeError("download: a list of URLs, not one text")
        order = {"task_id": task_id if task_id is not None else new_task_id(), **fields}
        return await self.submit_order({**order, "download": list(download)})

    async def submit_order(self, order: Mapping[str, Any]) -> Accepted | Known:
        """Hand a batch in, by its whole body; see :meth:`submit`."""
        named = order.get("task_id")
        body = {**order, "task_id": new_task_id() if named is None else named}
        send = self.session.exchange
        status, answer = await send(msgspec.Raw, "POST", "/v1/batches", None, body)
        kind: Any = Accepted if status == HTTPStatus.ACCEPTED else Known
        found: Accepted | Known = decoded(answer, kind)
        return found

    async def check(self, order: Mapping[str, Any], probe: int = 0) -> Preflight:
        """What would become of a batch; nothing is queued.

        :param order: the body of :meth:`submit_order`
        :param probe: how many members the server may ask for their sizes
        """
        query = {"check": "true", "probe": probe or ""}
        return await self.session.call(Preflight, "POST", "/v1/batches", query, order)

    async def batch(self, task_id: str) -> Batch:
        """A batch as it stands."""
        return await self.session.call(Batch, "GET", path_of(task_id))

    async def batches(self, **conditions: Unpack[BatchConditions]) -> AsyncGenerator[Batch, None]:
        """Batches, newest first."""
        cursor: str | None = ""
        while cursor is not None:
            query = {**conditions, "limit": 100, "cursor": cursor}
            page = await self.session.call(Page, "GET", "/v1/batches", query)
            for batch in page.batches:
                yield batch
            cursor = following(page.cursor, cursor)

    async def members(
        self, task_id: str, **conditions: Unpack[MemberConditions]
    ) -> AsyncGenerator[MemberOutcome, None]:
        """The members of a batch, in order."""
        cursor: str | None = ""
        while cursor is not None:
            query = {**conditions, "limit": 200, "cursor": cursor}
            path = f"{path_of(task_id)}/members"
            page = await self.session.call(MembersPage, "GET", path, query)
            for member in page.members:
                yield member
            cursor = following(page.cursor, cursor)

    def events(self, task_id: str, patience: float = 600.0) -> AsyncGenerator[Batch, None]:
        """The batch as it stands, then at every change, until it has ended.

        :param patience: seconds for which a lost stream is opened anew
        """
        return batch_events(self.session, f"{path_of(task_id)}/events", patience)

    async def wait(
        self, task_id: str, *, timeout: float | None = None, progress: Progress = lambda batch: None
    ) -> Batch:
        """Wait until a batch has ended; returns it.

        :param timeout: seconds; with it, the batch is looked at every second
        :param progress: called with the batch at every change
        :raises WaitTimeout: the batch has not ended in time
        """
        if timeout is not None:
            return await self._poll(task_id, timeout, progress)
        async with aclosing(self.events(task_id)) as events:
            async for batch in events:
                progress(batch)
                if batch.status in ENDED:
                    return batch
        raise NotBulkwav("the events of a batch ended before the batch")

    async def _poll(self, task_id: str, timeout: float, progress: Progress) -> Batch:
        transport, before = self.session.transport, None
        end = transport.now() + timeout
        while True:
            batch = await self.batch(task_id)
            if batch != before:
                progress(batch)
            left = end - transport.now()
            if batch.status in ENDED:
                return batch
            if left <= 0:
                raise WaitTimeout(f"batch {task_id} has not ended within {timeout:g} s")
            before = batch
            await transport.pause(min(POLL_SECONDS, left))

    async def manifest(self, task_id: str) -> AsyncGenerator[dict[str, Any], None]:
        """What became of each member, a line for each."""
        answer = await self.session.open("GET", f"{path_of(task_id)}/manifest")
        rest = b""
        async with aclosing(answer.pieces()) as pieces:
            async for piece in pieces:
                *lines, rest = (rest + piece).split(b"\n")
                for line in filter(None, lines):
                    yield decoded(line, dict)

    async def cancel(self, task_id: str) -> Batch:
        """End a batch that is queued or running."""
        return await self.session.call(
            Batch, "DELETE", path_of(task_id), {"only": "cancel"}, repeat=False
        )

    async def delete(self, task_id: str) -> Batch:
        """Remove a batch that has ended, with its zips."""
        return await self.session.call(
            Batch, "DELETE", path_of(task_id), {"only": "delete"}, repeat=False
        )

    async def retry(self, task_id: str, **body: Any) -> Batch:
        """Fetch again what failed.

        :param body: ``only``, ``replace``, ``run`` as the README explains them
        """
        path = f"{path_of(task_id)}/retry"
        return await self.session.call(Batch, "POST", path, None, body, repeat=False)

    async def retry_plan(self, task_id: str, **body: Any) -> RetryPlan:
        """What :meth:`retry` would do."""
        path = f"{path_of(task_id)}/retry"
        return await self.session.call(RetryPlan, "POST", path, {"check": "true"}, body)

    async def notify(self, task_id: str) -> Batch:
        """Send a last callback again, or now."""
        return await self.session.call(Batch, "POST", f"{path_of(task_id)}/notify")

    async def prioritise(self, task_id: str, priority: int) -> Batch:
        """Give a batch that waits another priority."""
        return await self.session.call(
            Batch, "PATCH", path_of(task_id), None, {"priority": priority}
        )

    async def plan_bulk(self, action: str, conditions: BatchConditions, **more: Any) -> BulkAction:
        """Plan one action on many batches; nothing is changed."""
        body = {"action": action, "filter": conditions, **more}
        return await self.session.call(BulkAction, "POST", "/v1/bulk", None, body)

    async def start_bulk(self, plan: str) -> BulkAction:
        """Do what was planned."""
        return await self.session.call(BulkAction, "POST", f"/v1/bulk/{quote(plan)}/start")

    async def bulk(self, plan: str) -> BulkAction:
        """How far a bulk action is."""
        return await self.session.call(BulkAction, "GET", f"/v1/bulk/{quote(plan)}")

    async def stats(self, minutes: int = 6) -> dict[str, Any]:
        """Counts, rates, workers; see ``GET /v1/stats``."""
        return await self.session.call(dict, "GET", "/v1/stats", {"minutes": minutes})

    async def control(self, **settings: float | bool | None) -> dict[str, Any]:
        """Change live settings of the queue; None takes one back."""
        return await self.session.call(dict, "PATCH", "/v1/queue", None, settings)

    async def who(self) -> SessionAnswer:
        """What this client may do."""
        return await self.session.call(SessionAnswer, "GET", "/v1/session")

    async def secrets(self) -> list[str]:
        """The secrets that sign the callbacks of this token's batches."""
        answer = await self.session.call(dict[str, list[str]], "GET", "/v1/secret")
        return answer["secrets"]


def following(cursor: str | None, before: str) -> str | None:
    """The cursor of the next page.

    :raises NotBulkwav: it leads nowhere
    """
    if cursor is not None and cursor == before:
        raise NotBulkwav("the pages of the server have no end")
    return cursor


def path_of(task_id: str) -> str:
    """The path of a batch.

    :raises Refused: no batch can have this id; the path would be another one
    """
    if str(task_id).rpartition(":")[2] in ("", ".", ".."):
        raise Refused(404, "no_such_batch", f"there is no batch {str(task_id)!r}")
    return f"/v1/batches/{quote(str(task_id), safe=':')}"
