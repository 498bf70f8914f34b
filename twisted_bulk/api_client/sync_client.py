"""A client for programs without a reactor: each call blocks until its answer is there."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Unpack

from twisted_bulk.api.answers import Accepted, Batch, Known, MemberOutcome
from twisted_bulk.api.answers import Session as SessionAnswer
from twisted_bulk.api.plans import BulkAction, Preflight, RetryPlan
from twisted_bulk.api_client import download
from twisted_bulk.api_client.blocking import BlockingTransport
from twisted_bulk.api_client.calls import Calls, Entry, Progress
from twisted_bulk.api_client.fields import BatchConditions, MemberConditions, OrderFields
from twisted_bulk.api_client.session import Session
from twisted_bulk.system.at_once import finish, steps


class Client:
    """Calls a bulkwav, and waits for each answer. Threads may share it.

    The calls without a docstring are those of :class:`~twisted_bulk.api_client.calls.Calls`.

    :param server: as ``https://bulkwav.example:10000``
    :param token: a bearer token, or empty
    :param patience: seconds for which a call is repeated that failed in a way that may pass
    :param timeout: seconds for a connection, and for each silence of the server
    :param ca: file of certificate authorities that are trusted beside the system's, PEM
    :raises ValueError: ``server`` is no URL
    :raises OSError: ``ca`` cannot be read
    """

    def __init__(
        self,
        server: str = "http://localhost:10000",
        token: str = "",
        *,
        patience: float = 10.0,
        timeout: float = 60.0,
        ca: str = "",
    ) -> None:
        self._transport = BlockingTransport(timeout, ca)
        self._calls = Calls(Session(self._transport, server, token, patience))

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are kept."""
        self._transport.close()

    @property
    def server(self) -> str:
        """The URL of the server."""
        return self._calls.session.server

    def submit(
        self,
        download: Iterable[Entry],
        *,
        task_id: str | int | None = None,
        **fields: Unpack[OrderFields],
    ) -> Accepted | Known:
        return finish(self._calls.submit(download, task_id=task_id, **fields))

    def submit_order(self, order: Mapping[str, Any]) -> Accepted | Known:
        return finish(self._calls.submit_order(order))

    def check(self, order: Mapping[str, Any], probe: int = 0) -> Preflight:
        return finish(self._calls.check(order, probe))

    def batch(self, task_id: str) -> Batch:
        return finish(self._calls.batch(task_id))

    def batches(self, **conditions: Unpack[BatchConditions]) -> Iterator[Batch]:
        return steps(self._calls.batches(**conditions))

    def members(
        self, task_id: str, **conditions: Unpack[MemberConditions]
    ) -> Iterator[MemberOutcome]:
        return steps(self._calls.members(task_id, **conditions))

    def events(self, task_id: str, patience: float = 600.0) -> Iterator[Batch]:
        return steps(self._calls.events(task_id, patience))

    def wait(
        self, task_id: str, *, timeout: float | None = None, progress: Progress = lambda batch: None
    ) -> Batch:
        return finish(self._calls.wait(task_id, timeout=timeout, progress=progress))

    def manifest(self, task_id: str) -> Iterator[dict[str, Any]]:
        return steps(self._calls.manifest(task_id))

    def download(
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
        return finish(
            download.fetch(
                self._transport, self._whole(batch), Path(folder), patience=patience, force=force,
                progress=progress,
            )
        )  # fmt: skip

    def _whole(self, batch: Batch | str) -> Batch:
        return self.batch(batch) if isinstance(batch, str) else batch

    def cancel(self, task_id: str) -> Batch:
        return finish(self._calls.cancel(task_id))

    def delete(self, task_id: str) -> Batch:
        return finish(self._calls.delete(task_id))

    def retry(self, task_id: str, **body: Any) -> Batch:
        return finish(self._calls.retry(task_id, **body))

    def retry_plan(self, task_id: str, **body: Any) -> RetryPlan:
        return finish(self._calls.retry_plan(task_id, **body))

    def notify(self, task_id: str) -> Batch:
        return finish(self._calls.notify(task_id))

    def prioritise(self, task_id: str, priority: int) -> Batch:
        return finish(self._calls.prioritise(task_id, priority))

    def plan_bulk(self, action: str, conditions: BatchConditions, **more: Any) -> BulkAction:
        return finish(self._calls.plan_bulk(action, conditions, **more))

    def start_bulk(self, plan: str) -> BulkAction:
        return finish(self._calls.start_bulk(plan))

    def bulk(self, plan: str) -> BulkAction:
        return finish(self._calls.bulk(plan))

    def stats(self, minutes: int = 6) -> dict[str, Any]:
        return finish(self._calls.stats(minutes))

    def control(self, **settings: float | bool | None) -> dict[str, Any]:
        return finish(self._calls.control(**settings))

    def who(self) -> SessionAnswer:
        return finish(self._calls.who())

    def secrets(self) -> list[str]:
        return finish(self._calls.secrets())
