"""The events of one batch, over connections that may be lost."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from twisted_bulk.api.answers import Batch
from twisted_bulk.api_client.event_parser import EventParser, ServerEvent
from twisted_bulk.api_client.failures import Refused, Unreachable
from twisted_bulk.api_client.session import Session, decoded, pause_after

ENDED = ("done", "partial", "failed", "cancelled", "expired")


async def batch_events(session: Session, path: str, patience: float) -> AsyncGenerator[Batch, None]:
    """A batch as it stands, then at every change, until it has ended.

    :param path: of its stream
    :param patience: seconds for which a stream that was lost is opened anew; the first one only for
        as long as the session repeats calls
    :raises Refused: the batch is not there, or not any more
    :raises Unreachable: the server was away for too long
    """
    transport = session.transport
    seen, tries, since, allowed = "", 0, transport.now(), session.patience
    while True:
        error: Refused | Unreachable = Unreachable("the stream of events ended")
        try:
            async with aclosing(_stream(session, path, seen)) as stream:
                async for event in stream:
                    seen, tries, since, allowed = event.id, 0, transport.now(), patience
                    if event.kind == "deleted":
                        raise Refused(404, "no_such_batch", "the batch was deleted")
                    if event.kind == "batch":
                        batch: Batch = decoded(event.data.encode(), Batch)
                        yield batch
                        if batch.status in ENDED:
                            return
        except (Refused, Unreachable) as failure:
            error = failure
        pause = pause_after(error, tries)
        if pause is None or transport.now() + pause > since + allowed:
            raise error
        tries += 1
        await transport.pause(pause)


async def _stream(session: Session, path: str, seen: str) -> AsyncGenerator[ServerEvent, None]:
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": seen} if seen else {})
    answer = await session.open("GET", path, headers=headers)
    parser = EventParser()
    async with aclosing(answer.pieces()) as pieces:
        async for piece in pieces:
            for event in parser.feed(piece):
                yield event
