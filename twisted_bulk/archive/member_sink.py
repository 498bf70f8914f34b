"""A member on its way into an archive.

A small member passes through memory. A large one is written as it comes: to its place in the
archive if its size there is known, else to a file of its own. While the writer is busy the
reading of the socket waits.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_bulk.archive.encoder import SAMPLE_BYTES, Data, Encoded, Encoder, encode
from twisted_bulk.archive.pack_threads import PackThreads
from twisted_bulk.archive.spool import ReservedPlace, Scratch, Spool
from twisted_bulk.archive.writer import Archive
from twisted_bulk.archive.zip_member import Source, ZipMember
from twisted_bulk.archive.zip_records import STORED
from twisted_bulk.errors import MemberError

#: Bytes of a member that waits in memory; a larger one is written as it comes.
MAX_IN_MEMORY = 1 << 20
PIECE_BYTES = 512 << 10  # of a large member that are written together
#: Bytes of all members in memory in this process. Beyond it small ones are written as they come,
#: too.
MAX_MEMORY = 48 << 20
#: The largest announced size for which a place in the zip is reserved; a larger one is written
#: behind the others.
MAX_RESERVED = 4 << 30
_ARRIVALS = count()


class MemberSink:
    """Takes the bytes of one attempt, or of several that continue each other.

    ``placed`` has the member as it stands in the archive, for each of its names.

    :param names: under which the member goes in, by their numbers within the part
    :param length: in bytes, as the server announced it; None: it did not
    :param modified: seconds since 1970
    :param sha256: of the content, in hexadecimal digits; empty: any
    :param about: returns what is told of it; called at the end
    """

    def __init__(
        self,
        threads: PackThreads,
        archive: Archive,
        names: Mapping[int, str],
        *,
        length: int | None,
        modified: float,
        sha256: str = "",
        about: Callable[[], Source] = Source,
    ) -> None:
        self._arrival = next(_ARRIVALS)
        self._threads = threads
        self._archive = archive
        self._names = names
        self._about = about
        self.placed: list[ZipMember] = []
        self._modified = modified
        self._sha256 = sha256.lower()
        self._encoder = Encoder(archive.mode)
        self._pieces: list[bytes] = []
        self._buffered = 0
        self._length = length
        self._spooling = length is not None and length > MAX_IN_MEMORY
        self._spool: Spool | None = None
        self._lock = threading.Lock()  # of the spool: the attempt may be dropped during a write
        self._discarded = self._finishing = False
        self._flushing: Deferred[None] | None = None

    def write(self, data: bytes) -> Deferred[None] | None:
        self._pieces.append(data)
        self._buffer(len(data))
        if (
            self._buffered < (PIECE_BYTES if self._spooling else MAX_IN_MEMORY)
            and self._threads.held < MAX_MEMORY
        ):
            return None
        self._spooling = True
        if self._flushing is None:
            self._flush()
            return None
        # One piece is being written, and the next one is full: wait for the first.
        resumed: Deferred[None] = Deferred()

        def passed(result: Any) -> Any:
            if isinstance(result, Failure):
                resumed.errback(result)
            else:
                resumed.callback(None)
            return result

        self._flushing.addBoth(passed)
        return resumed

    def _buffer(self, count: int) -> None:
        self._buffered += count
        self._threads.held += count

    def _take(self) -> list[bytes]:
        pieces, self._pieces = self._pieces, []
        return pieces

    def _flush(self) -> None:
        count = self._buffered
        self._buffered = 0
        # The archive is hashed in its order, so its first members should be whole first.
        self._flushing = flushing = self._threads.run_in_turn(
            self._archive, self._arrival, self._to_spool, self._take()
        )

        def flushed(result: Any) -> Any:
            self._threads.held -= count
            if self._flushing is flushing and result is None:
                self._flushing = None
                self._do_background_work()
            return result

        flushing.addBoth(flushed)

    def _do_background_work(self) -> None:
        for work in self._archive.background_work():
            self._threads.run_in_background(work)

    async def finish(self) -> None:
        """Put the member into the archive.

        :raises MemberError: its content is not what was asked for
        """
        if self._flushing is not None:
            await self._flushing
        try:
            await self._put()
        finally:
            self._buffer(-self._buffered)
        self._do_background_work()

    async def _put(self) -> None:
        self._finishing = True
        if self._spooling:
            await self._threads.run_long(self._finish_spool, self._take())
        elif self._buffered <= SAMPLE_BYTES:
            await self._threads.run_small(self._finish_memory, self._take())
        elif self._archive.mode == "store":  # copying it for a process would be more work
            await self._threads.run(self._finish_memory, self._take())
        else:
            await self._threads.run_encoded(self._archive.mode, self._take(), self._put_whole)

    def discard(self) -> None:
        """Remove the bytes of this attempt; a thread that works on it ends with an error."""
        self._pieces = []
        self._discarded = True
        self._buffer(-self._buffered)
        if self._spooling:
            if self._flushing is not None:
                self._flushing.addErrback(lambda _: None)
            # While the member is copied the lock is held for long; else it is free soon.
            run = self._threads.run_long if self._finishing else self._threads.run
            run(self._close_spool).addErrback(lambda _: None)

    # The methods below run on the threads that pack.

    def _finish_memory(self, pieces: list[bytes]) -> None:
        self._put_whole(*encode(self._archive.mode, b"".join(pieces)))

    def _put_whole(self, encoded: Encoded, data: Data) -> None:
        self._add(encoded, lambda: [data])

    def _add(self, encoded: Encoded, pieces: Callable[[], Iterable[Data]]) -> None:
        if self._sha256 and self._sha256 != encoded.sha256:
            raise MemberError("checksum_mismatch", f"its SHA-256 is {encoded.sha256}")
        place = self._spool if isinstance(self._spool, ReservedPlace) else None
        self.placed = self._archive.add(
            self._names, encoded, pieces, self._modified, self._about(), place
        )

    def _to_spool(self, pieces: list[bytes]) -> None:
        with self._lock:
            self._write_spool(pieces)

    def _write_spool(self, pieces: list[bytes]) -> None:
        if self._discarded:
            raise ValueError("the attempt was dropped")
        data = b"".join(pieces)
        self._archive.claim(len(data))
        encoded = self._encoder.update(data)
        if self._spool is None:
            self._spool = self._open()
        self._spool.write(encoded)

    def _open(self) -> Spool:
        length = self._length
        if self._encoder.method == STORED and length is not None and length <= MAX_RESERVED:
            return self._archive.reserve(next(iter(self._names.values())), length, self._modified)
        return Scratch(self._archive.folder)

    def _finish_spool(self, pieces: list[bytes]) -> None:
        with self._lock:
            try:
                self._write_spool(pieces)
                assert self._spool is not None
                self._spool.write(self._encoder.flush())
                self._add(self._encoder.encoded, self._spool.read)
            finally:
                self._close()

    def _close_spool(self) -> None:
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._spool is not None:
            self._spool.close()
