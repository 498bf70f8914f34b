"""Names into addresses, with the system's resolver replaced by a slow one."""

import socket
import threading
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.support.reactor import reactor
from twisted_bulk.dialing import resolver
from twisted_bulk.dialing.resolver import MAX_LOOKUPS_OF_OWNER, MAX_THREADS, OWNER, Resolver
from twisted_bulk.errors import MemberError


class ResolverTests(TestCase):
    """Threads, their sharing out, and what is kept."""

    timeout = 20

    def setUp(self) -> None:
        self.asked: list[str] = []
        self.free = threading.Event()
        self.addCleanup(self.free.set)
        self.resolver = Resolver(reactor, 1.0, self.find)
        self.resolver.start()
        self.addCleanup(self.resolver.stop)

    def find(self, host: str) -> list[str]:
        """What the system would say."""
        self.asked.append(host)
        if host.startswith("slow"):
            self.free.wait(10)
        if host.startswith("away"):
            raise socket.gaierror(socket.EAI_AGAIN, "not now")
        if host.startswith("no"):
            raise OSError(host)
        return ["93.184.216.34", "2606:4700::1111"]

    def ask(self, host: str, owner: str = "me") -> "Deferred[list[str]]":
        async def resolve() -> list[str]:
            OWNER.set(owner)
            return await self.resolver.resolve(host)

        return Deferred.fromCoroutine(resolve())

    async def code(self, asked: "Deferred[Any]") -> str:
        try:
            await asked
        except MemberError as error:
            return error.code
        return ""

    async def test_once(self) -> None:
        """One look-up for all who ask at once, and for those who ask soon after."""
        answers = await gatherResults([self.ask("a.example") for _ in range(50)])
        answers.append(await self.ask("a.example"))
        self.assertEqual(answers, [["93.184.216.34", "2606:4700::1111"]] * 51)
        self.assertEqual(self.asked, ["a.example"])

    async def test_nobody_waits(self) -> None:
        """Names that nobody waits for any more are not looked up."""
        stuck = [self.ask(f"slow{n}.example", "gone") for n in range(3 * MAX_LOOKUPS_OF_OWNER)]
        for waiting in stuck:
            self.assertEqual(await self.code(waiting), "dns_timeout")
        self.free.set()
        self.assertEqual(len(await self.ask("a.example", "gone")), 2)
        while self.resolver._going:  # the threads of the others may end after that one
            await deferLater(reactor, 0.01)
        self.assertEqual((len(self.asked), self.asked[-1]), (1 + MAX_LOOKUPS_OF_OWNER, "a.example"))
        self.assertEqual(self.resolver._owners, {})

    async def test_literals(self) -> None:
        """An address is its own answer, in one spelling."""
        self.assertEqual(await self.ask("192.0.2.1"), ["192.0.2.1"])
        self.assertEqual(await self.ask("2001:DB8:0::1"), ["2001:db8::1"])
        self.assertEqual(self.asked, [])

    async def test_failures(self) -> None:
        """No address, none in time; the failure is remembered, too."""
        self.assertEqual(await self.code(self.ask("no.example")), "dns_failed")
        self.assertEqual(await self.code(self.ask("no.example")), "dns_failed")
        self.assertEqual(await self.code(self.ask("slow.example")), "dns_timeout")
        self.assertEqual(self.asked, ["no.example", "slow.example"])

    async def test_slow_names_hold_up_nobody(self) -> None:
        """Whoever has a thousand slow names has half of the threads; others go on."""
        stuck = [self.ask(f"slow{n}.example", "hostile") for n in range(1000)]
        self.assertEqual(len(await self.ask("a.example", "other")), 2)
        self.assertEqual(self.asked, ["slow0.example", "a.example"])
        for waiting in stuck:
            self.assertEqual(await self.code(waiting), "dns_timeout")
        # They are free once the system has answered, and take up the rest of the line.
        self.assertEqual(len(await self.ask("b.example", "other")), 2)

    async def test_many_owners_with_slow_names(self) -> None:
        """A hundred batches whose names hang: the next one's are answered in a moment.

        Fails on ecffb8f: two of them have all threads, and it waits for theirs.
        """
        self.patch(resolver, "HANGING_SECONDS", 0.02)
        stuck = [self.ask(f"slow{n}-{k}", f"o{n}") for n in range(100) for k in range(9)]
        codes = [Deferred.fromCoroutine(self.code(waiting)) for waiting in stuck]
        self.assertEqual(len(await self.ask("a.example", "other")), 2)
        self.assertEqual(set(await gatherResults(codes)), {"dns_timeout"})
        self.assertLess(len(self.asked), MAX_THREADS)
        self.free.set()

    async def test_half_of_the_places(self) -> None:
        """Of an owner with an answer so many are looked up at once, and no more."""
        answered = self.ask("a.example")
        stuck = [self.ask(f"slow{n}.example") for n in range(3 * MAX_LOOKUPS_OF_OWNER)]
        await answered
        while len(self.asked) < 1 + MAX_LOOKUPS_OF_OWNER:
            await deferLater(reactor, 0.01)
        await deferLater(reactor, 0.05)
        self.assertEqual(len(self.asked), 1 + MAX_LOOKUPS_OF_OWNER)
        self.free.set()
        await gatherResults(stuck)

    async def test_no_server(self) -> None:
        """Where no server can be asked the name is not at fault: that is worth another try."""
        self.assertEqual(await self.code(self.ask("away.example")), "dns_timeout")

    async def test_name_in_another_line(self) -> None:
        """A name that waits behind another owner's slow ones is looked up for whom it can be."""
        stuck = [self.ask(f"slow{n}.example", "hostile") for n in range(20)]
        behind = self.ask("popular.example", "hostile")
        self.assertEqual(len(await self.ask("popular.example", "other")), 2)
        self.assertEqual(len(await behind), 2)
        self.assertEqual(self.asked.count("popular.example"), 1)
        for waiting in stuck:
            self.assertEqual(await self.code(waiting), "dns_timeout")
        self.free.set()

    async def test_turn_that_does_not_come(self) -> None:
        """Who waited in line in vain says nothing about the name, nor about its host."""
        self.patch(resolver, "MAX_WAIT_DEADLINES", 0.3)
        stuck = [self.ask(f"slow{n}.example", "hostile") for n in range(20)]
        with self.assertRaises(MemberError) as caught:
            await self.ask("healthy.example", "hostile")
        self.assertEqual(caught.exception.code, "dns_timeout")
        self.assertFalse(caught.exception.tells_of_host)
        for waiting in stuck:
            await self.code(waiting)
        self.free.set()
