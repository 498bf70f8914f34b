"""A stream of events, in memory."""

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource

from twisted_bulk.events import event_stream
from twisted_bulk.events.event import Event, full
from twisted_bulk.events.event_stream import (
    HEARTBEAT_SECONDS,
    PIECE_BYTES,
    STALL_SECONDS,
    EventStream,
)
from twisted_bulk.http_server.site import BoundedSite


class EventStreamTests(SynchronousTestCase):
    """One stream; its client asks with GET."""

    def setUp(self) -> None:
        self.clock, self.gone, self.may = Clock(), 0, True

    def begin(
        self,
        seen: int = -1,
        first: Event | None = None,
        method: str = "GET",
        stream: EventStream | None = None,
    ) -> None:
        self.stream = stream or EventStream(
            self.left, lambda: self.may, seen, lambda one: one if one.owner != "x" else None
        )
        if first is not None:
            self.stream.offer(first)
        root = Resource()
        root.putChild(b"e", self.stream)
        self.transport = StringTransport()
        self.cut = False
        vars(self.transport)["abortConnection"] = self.abort
        self.channel: Any = BoundedSite(root, self.clock, 1000).buildProtocol(
            self.transport.getPeer()
        )
        self.channel.makeConnection(self.transport)
        self.channel.dataReceived(f"{method} /e HTTP/1.0\r\nHost: h\r\n\r\n".encode())

    def left(self, stream: EventStream) -> None:
        self.assertIs(stream, self.stream)
        self.gone += 1

    def abort(self) -> None:
        self.cut = True

    def beats(self) -> int:
        """Heartbeats that are to come."""
        return sum("EventStream" in str(call) for call in self.clock.getDelayedCalls())

    def said(self) -> bytes:
        """What the client got since the last call, without the head."""
        value: bytes = self.transport.value()
        self.transport.clear()
        return value.partition(b"\r\n\r\n")[2] if value.startswith(b"HTTP/") else value

    def test_begin(self) -> None:
        """A pause for those that come again, then the event that was there before."""
        self.begin(first=Event(7, "batch", b'{"a":1}'))
        head, _, body = self.transport.value().partition(b"\r\n\r\n")
        self.assertIn(b"Content-Type: text/event-stream\r\n", head)
        self.assertIn(b"Cache-Control: no-store, no-transform\r\n", head)
        self.assertIn(b"X-Accel-Buffering: no", head)
        self.assertEqual(body, b'retry: 3000\n\nid: 7\nevent: batch\ndata: {"a":1}\n\n')
        self.assertFalse(self.transport.disconnecting)

    def test_older(self) -> None:
        """An event that the client has seen, or an older one, is not sent."""
        self.begin(seen=7, first=Event(7, "batch", b"x"))
        self.assertEqual(self.said(), b"retry: 3000\n\n")
        for number, sent in ((6, False), (8, True), (8, False), (7, False), (9, True)):
            self.stream.offer(Event(number, "batch", b"x"))
            self.assertEqual(b"id: %d\n" % number in self.said(), sent, number)

    def test_last(self) -> None:
        """After the last event the answer ends; one that was seen is not sent again."""
        for seen in (0, 5):
            self.begin(seen=seen)
            self.stream.offer(Event(5, "batch", b"x", last=True))
            self.assertEqual(b"id: 5\n" in self.said(), seen == 0)
            self.assertTrue(self.transport.disconnecting)
            self.stream.offer(Event(6, "batch", b"x"))
            self.assertEqual(self.said(), b"")
        self.assertEqual((self.gone, self.beats()), (2, 0))

    def test_slow_client(self) -> None:
        """It gets the latest event; one that takes nothing at all is cut."""
        self.begin()
        self.said()
        self.stream.pauseProducing()
        for number in (1, 2, 3):
            self.stream.offer(Event(number, "batch", b"x"))
        self.clock.advance(HEARTBEAT_SECONDS)
        self.assertEqual(self.said(), b"")
        self.stream.resumeProducing()
        self.assertEqual(self.said(), b"id: 3\nevent: batch\ndata: x\n\n")
        self.stream.pauseProducing()
        self.clock.pump([HEARTBEAT_SECONDS] * int(STALL_SECONDS // HEARTBEAT_SECONDS))
        self.assertTrue(self.cut)

    def test_heartbeat(self) -> None:
        """A comment comes in time, for as long as the client has the right to the stream."""
        self.begin()
        self.said()
        self.clock.advance(HEARTBEAT_SECONDS)
        self.assertEqual(self.said(), b":\n\n")
        self.may = False
        self.clock.advance(HEARTBEAT_SECONDS)
        self.assertEqual((self.said(), self.transport.disconnecting, self.gone), (b"", True, 1))

    def test_gone(self) -> None:
        """A client that goes leaves nothing."""
        self.begin()
        self.assertEqual(self.beats(), 1)
        self.channel.connectionLost(Failure(ConnectionDone()))
        self.assertEqual((self.gone, self.beats()), (1, 0))
        self.stream.offer(Event(1, "batch", b"x"))
        self.stream.end()
        self.assertEqual(self.gone, 1)

    def test_head(self) -> None:
        """HEAD gets the headers, and is no listener."""
        self.begin(first=Event(1, "batch", b"x"), method="HEAD")
        self.assertIn(b"text/event-stream", self.transport.value())
        self.assertEqual((self.said(), self.gone), (b"", 1))

    def numbers(self) -> list[int]:
        """Of the events that the client got since the last call."""
        return [int(line[4:]) for line in self.said().splitlines() if line.startswith(b"id: ")]

    def test_all(self) -> None:
        """Of several batches a slow client gets the latest event of each, in order."""
        self.begin()
        self.stream.pauseProducing()
        for number, key in ((1, "a"), (2, "b"), (3, "a"), (4, "c")):
            self.stream.offer(Event(number, "batch", b"x", key=key))
        self.stream.offer(Event(5, "batch", b"x", key="d", owner="x"))
        self.stream.resumeProducing()
        self.assertEqual(self.numbers(), [2, 3, 4])

    def test_missed(self) -> None:
        """What a client missed may be offered after a change that happened meanwhile."""
        stream = EventStream(self.left, lambda: self.may)
        for number, key in ((50, "a"), (30, "b"), (40, "c")):
            stream.offer(Event(number, "batch", b"x", key=key))
        self.begin(stream=stream)
        self.assertEqual(self.numbers(), [30, 40, 50])

    def test_too_many(self) -> None:
        """Where a slow client would be told too much, it is told to read all anew."""
        self.patch(event_stream, "MAX_WAITING", 2)
        self.begin()
        self.said()
        self.stream.pauseProducing()
        for number, key in ((1, "a"), (2, "b"), (3, "c"), (4, "a")):
            self.stream.offer(Event(number, "batch", b"x", key=key))
        self.stream.resumeProducing()
        self.assertEqual(
            self.said(),
            b"id: 3\nevent: full\ndata: {}\n\nid: 4\nevent: batch\ndata: x\n\n",
        )

    def test_full(self) -> None:
        """Numbers may begin anew after it."""
        self.begin(seen=100)
        self.said()
        self.stream.offer(full(3))
        self.stream.offer(Event(4, "batch", b"x", key="a"))
        self.assertEqual(self.numbers(), [3, 4])

    def test_long_event(self) -> None:
        """Little of an event is in memory for a client that does not take it; then all comes."""
        self.begin()
        self.said()
        write = self.transport.write

        def full_buffer(data: bytes) -> None:
            write(data)
            self.stream.pauseProducing()

        vars(self.transport)["write"] = full_buffer
        data, got = b"x" * (3 * PIECE_BYTES), b""
        self.stream.offer(Event(1, "batch", data, last=True))
        self.stream.offer(Event(2, "batch", b"y"))
        for _ in range(4):
            self.assertFalse(self.transport.disconnecting)
            self.clock.advance(HEARTBEAT_SECONDS / 10)
            said = self.said()
            self.assertLessEqual(len(said), PIECE_BYTES)
            got += said
            self.stream.resumeProducing()
        self.assertEqual(got, b"id: 1\nevent: batch\ndata: " + data + b"\n\n")
        self.assertTrue(self.transport.disconnecting)
