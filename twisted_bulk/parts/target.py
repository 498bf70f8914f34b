"""The way of one member into the archive of its part."""

from dataclasses import dataclass

from twisted_bulk.archive.member_sink import MemberSink
from twisted_bulk.archive.pack_threads import PackThreads
from twisted_bulk.archive.writer import Archive
from twisted_bulk.archive.zip_member import Source
from twisted_bulk.batch.expectations import warning
from twisted_bulk.batch.masks import show
from twisted_bulk.download import Downloader
from twisted_bulk.downloads.fetch import Fetch
from twisted_bulk.errors import MemberError
from twisted_bulk.parts.state import PartState


@dataclass(slots=True)
class MemberTarget:
    """The target of one fetch; there are as many as a part has members.

    :param same: the numbers of the members that this fetch is for; they differ in their names only
    """

    threads: PackThreads
    downloader: Downloader
    part: PartState
    archive: Archive
    same: list[int]
    sink: MemberSink | None = None

    async def open(self, fetch: Fetch) -> MemberSink:
        """See :class:`~twisted_bulk.downloads.fetch.Target`."""
        content = fetch.reception.content
        settled = await self.part.naming.settle(self.same, content)
        names = {number + 1: name for number, name in settled.items()}
        url = fetch.member.url
        page = "" if fetch.expect.type else warning(content.type, url, names.values())

        def about() -> Source:
            return Source(
                verified=fetch.reception.verified, attempts=fetch.tries.attempts,
                type=content.type, encoding=content.encoding, warning=page,
                url=show(url, self.part.spec.show_urls),
            )  # fmt: skip

        self.sink = MemberSink(
            self.threads, self.archive, names, length=content.size,
            modified=content.modified or self.part.started,
            sha256=fetch.member.sha256 or content.digest, about=about,
        )  # fmt: skip
        return self.sink

    def ended(self, fetch: Fetch, error: MemberError | None) -> None:
        """See :class:`~twisted_bulk.downloads.fetch.Target`."""
        part, sink, failed_before = self.part, self.sink, self.part.failed
        self.sink = None
        if error is not None:
            for number in self.same:
                part.failed_with(number, error, fetch.tries.attempts)
        elif sink is not None:
            for number, placed in zip(self.same, sink.placed, strict=True):
                part.came(number, placed)
        if failed_before <= part.spec.spare < part.failed:
            hopeless = MemberError("batch_failed", "too many others had failed")
            self.downloader.give_up(part.fetches, hopeless)
