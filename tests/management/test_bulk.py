"""Bulk actions that run: in turns, and no longer than the node."""

from typing import Any

from twisted.internet.task import Clock

from tests.support.brokers import OnMemory, Queues
from twisted_bulk.jobs.group_model import Group, GroupPart
from twisted_bulk.jobs.quiet_hours import ALWAYS
from twisted_bulk.management.bulk import STEP_SECONDS, Bulk
from twisted_bulk.management.listing import Listing
from twisted_bulk.orders.queries import BatchFilter
from twisted_bulk.orders.submission import BulkOrder


class BulkRoundTests(OnMemory, Queues):
    """Two actions, each of more jobs than one step changes."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        await self.queue.control({"cap": 10_000})
        self.clock, self.steps = Clock(), list[str]()
        listing = Listing(self.queue, lambda: "http://l", ALWAYS, self.clock)
        self.bulk = Bulk(self.queue, listing, self.clock, 60, lambda key: None)
        self.plans = [await self.plan(name) for name in ("a", "b")]
        script = self.queue.script

        async def noted(name: str, *words: Any, **more: Any) -> Any:
            if name == "bulk_step":
                self.steps.append(str(words[0]))
                self.stepped()
            return await script(name, *words, **more)

        self.patch(self.queue, "script", noted)
        self.stepped = lambda: None

    async def plan(self, name: str) -> str:
        """An action on five batches of this name, which runs."""
        part = GroupPart(size=1, payload=b"p")
        for number in range(5):
            group = Group(id=f"{name}{number}", digest="d", spec=b"{}", need=1, parts=[part] * 150)
            await self.queue.submit(group)
        order = BulkOrder("cancel", BatchFilter(id=name))
        bulk = str((await self.bulk.plan(order, "", None))["id"])
        await self.bulk.begin(bulk, "", None)
        return bulk

    async def test_turns(self) -> None:
        """A long action does not keep another one waiting."""
        self.bulk.startService()
        self.addCleanup(self.bulk.stopService)
        while len(self.steps) < 6:
            self.clock.advance(STEP_SECONDS)
        latest, earlier = self.plans[::-1]
        self.assertEqual(self.steps[:6], [latest, earlier] * 3)
        for plan in self.plans:
            self.assertEqual((await self.bulk.show(plan, "", None))["done"], 5)

    async def test_stop(self) -> None:
        """A node that stops goes on with none; another one does."""

        def stop() -> None:
            if self.bulk.running:
                self.bulk.stopService()

        self.stepped = stop
        self.bulk.startService()
        self.assertEqual(len(self.steps), 2)
        self.assertEqual((await self.bulk.show(self.plans[0], "", None))["state"], "running")
