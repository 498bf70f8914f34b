"""Hosts that are away."""

import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.support.downloads import Bucket, DownloadTestCase, Hole
from tests.support.origin_server import ok, respond
from tests.support.reactor import reactor
from twisted_bulk.batch.model import Member
from twisted_bulk.downloads import host_backoff, host_trouble
from twisted_bulk.downloads.fetch import Fetch
from twisted_bulk.downloads.fetch_queue import ALL
from twisted_bulk.downloads.host_backoff import HostBackoff
from twisted_bulk.downloads.part_fetches import PartFetches
from twisted_bulk.downloads.queue_state import Speed
from twisted_bulk.errors import MemberError, QueueUnavailable
from twisted_bulk.jobs.cluster import Cluster


class HostAwayTests(DownloadTestCase):
    """Hosts that are away, without a cluster."""

    def backoff(self) -> HostBackoff:
        """One that nobody else hears of."""

        class Nobody:
            async def run(self, *words: Any, **options: Any) -> Any:
                raise QueueUnavailable("away")

        self.patch(host_trouble, "FIRST_PAUSE", 0.02)
        self.patch(host_trouble, "LAST_PAUSE", 0.05)
        self.patch(host_backoff, "EXCHANGE_SECONDS", 0.05)
        found = HostBackoff(Cluster(Nobody()), reactor, 8)  # type: ignore[arg-type]
        found.startService()
        self.addCleanup(found.stopService)
        return found

    async def test_given_up_together(self) -> None:
        """Each member of a host that is given up ends once, though the first end makes the batch
        hopeless and gives all of it up."""
        ended: list[tuple[str, str]] = []
        downloader = self.start(backoff=self.backoff(), host_patience=0.2)
        part = PartFetches(left=20, began=reactor.seconds())

        class Strict(Hole):
            def ended(self, fetch: Fetch, error: MemberError | None) -> None:
                assert error is not None
                ended.append((self.url, error.code))
                downloader.give_up(part, MemberError("batch_failed", "hopeless"))

        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            dead = f"http://127.0.0.1:{sock.getsockname()[1]}"
        fetches = [Fetch(Member(f"{dead}/{n}"), {}, Strict(self, f"{n}", False)) for n in range(20)]
        await downloader.fetch(part, fetches)
        self.assertEqual(len({url for url, _ in ended}), 20)
        self.assertEqual((len(ended), part.left, part.stalled), (20, 0, None))
        await deferLater(reactor, 0)
        self.assertEqual(downloader._queue.demand(), {ALL: (0, 0)})

    async def test_comes_back(self) -> None:
        """While the queue is away as well: who waits is woken by the clock."""
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        fetches = [self.one(f"http://127.0.0.1:{port}/{n}") for n in range(20)]
        downloader = self.start(backoff=self.backoff(), retries=1)
        going = Deferred.fromCoroutine(downloader.fetch(PartFetches(left=20), fetches))
        await deferLater(reactor, 0.5)
        self.site.answers |= {f"/{n}": ok(b"x") for n in range(20)}
        listening: Any = reactor.listenTCP(port, self.site, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        await going
        self.assertEqual(set(self.errors.values()), {None})

    async def test_answers_that_do_not_help(self) -> None:
        """A host that answers is there, whatever it says: a refusal between them ends nothing."""
        found = self.backoff()
        downloader = self.start(backoff=found, retries=0)
        self.site.answers |= {
            "/a": ok(b"x", "Content-Encoding: br"),
            "/b": respond("500 No"),
            "/c": b"nonsense\r\n\r\n",
        }
        host = self.site.url[7:]
        for path in "abc":
            found.bad(host, 1, 0.0, False, True)
            found.bad(host, 1, 0.0, False, True)
            await downloader.fetch(PartFetches(left=1), [self.one(f"/{path}")])
        self.assertFalse(found.is_away(host, 1))

    async def test_our_own_disk(self) -> None:
        """A sink that takes its time makes no host slow."""

        class Slow(Bucket):
            async def finish(self) -> None:
                await deferLater(reactor, 1.3)
                self.finished = True

        class SlowHole(Hole):
            async def open(self, fetch: Fetch) -> Bucket:
                return Slow()

        self.site.answers["/a"] = ok(b"x")
        downloader = self.start()
        await downloader.fetch(
            PartFetches(left=1),
            [Fetch(Member(f"{self.site.url}/a"), {}, SlowHole(self, "/a", False))],
        )
        self.assertIs(downloader._queue.speed(self.site.url[7:]), Speed.FAST)
