"""Fetches the zips of a batch: resumed, checked by their SHA-256, one after the other."""

import hashlib
import os
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from twisted_bulk.api.answers import Batch, Part
from twisted_bulk.api_client.failures import DownloadFailed, Refused, Unreachable
from twisted_bulk.api_client.session import USER_AGENT, pause_after, refusal
from twisted_bulk.api_client.transport import Transport
from twisted_bulk.system import disk

UNFINISHED = ".part"  # behind the name of a zip that is not whole yet


@dataclass(frozen=True)
class Fetched:
    """How far a download is.

    :param number: of the zip that is fetched, from 1
    :param zips: how many there are
    :param bytes: of this zip that are here
    """

    path: Path
    number: int
    zips: int
    bytes: int
    size: int


OnBytes = Callable[[Fetched], object]


def zips_of(batch: Batch) -> list[Part]:
    """The zips of a batch that can be fetched.

    :raises DownloadFailed: there are none
    """
    found = [part for part in batch.parts if part.download]
    for part in found:
        if not part.download.startswith(("http://", "https://")):
            raise DownloadFailed("gone", f"{part.download!r} is no link")
    if not found:
        raise DownloadFailed(
            "nothing_to_download", f"batch {batch.task_id} is {batch.status} and has no zip"
        )
    return found


def name_of(part: Part) -> str:
    """The file name of a zip, as its link has it.

    :raises DownloadFailed: the link has none that is safe
    """
    name = unquote(urlsplit(part.download).path.rpartition("/")[2])
    if not name or name[0] == "." or any(char in name for char in "/\\\0"):
        raise DownloadFailed("gone", f"{part.download} has no file name")
    return name


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class ZipDownload:
    """One zip on its way to a folder.

    What has come is kept beside it under its name and ``.part``; a later download goes on there.

    :param patience: seconds without a byte after which it is given up
    :param force: another file of this name is replaced
    """

    def __init__(
        self, transport: Transport, part: Part, folder: Path, *, patience: float, force: bool
    ) -> None:
        self._transport = transport
        self._part = part
        self.path = folder / name_of(part)
        self._unfinished = self.path.with_name(self.path.name + UNFINISHED)
        self._patience = patience
        self._force = force

    @property
    def size(self) -> int:
        """Its bytes, as the server says."""
        return self._part.size or 0

    async def run(self, on_bytes: Callable[[int], object]) -> Path:
        """Fetch it; returns where it is.

        :param on_bytes: called with the bytes that are here
        :raises DownloadFailed: it cannot be fetched
        :raises Unreachable: the server was away for too long
        """
        if self.path.exists():
            is_whole = self.path.stat().st_size == self.size
            if is_whole and await self._digest(self.path) == self._part.sha256:
                on_bytes(self.size)
                return self.path
            if not self._force:
                raise DownloadFailed("file_exists", f"{self.path} is there, and is another file")
        try:
            descriptor = disk.lock(self._unfinished, flags=os.O_APPEND, mode=0o666)
        except BlockingIOError:
            raise DownloadFailed(
                "file_exists", f"{self.path} is being fetched by another process"
            ) from None
        with open(descriptor, "ab") as file:
            for _ in range(2):  # what an earlier download left may be of another zip
                await self._fill(file, on_bytes)
                if await self._digest(self._unfinished) == self._part.sha256:
                    os.replace(self._unfinished, self.path)
                    return self.path
                file.truncate(0)
        self._unfinished.unlink()
        raise DownloadFailed("checksum_mismatch", f"{self.path.name} is not what the batch names")

    async def _digest(self, path: Path) -> str:
        return await self._transport.run(lambda: digest_of(path))

    async def _fill(self, file: BinaryIO, on_bytes: Callable[[int], object]) -> None:
        """Receive until all bytes are here."""
        tries, since = 0, self._transport.now()
        have = file.seek(0, os.SEEK_END)
        if have > self.size:
            have = file.truncate(0)
        while have < self.size:
            on_bytes(have)
            before = have
            error: Refused | Unreachable = Unreachable("the connection ended too early")
            try:
                await self._receive(file, have, on_bytes)
            except (Refused, Unreachable) as failure:
                error = failure
            file.flush()
            have = file.seek(0, os.SEEK_END)
            if have >= self.size:
                break
            if have > before:
                tries, since = 0, self._transport.now()
            pause = pause_after(error, tries)
            if pause is None or self._transport.now() + pause > since + self._patience:
                raise self._given_up(error)
            tries += 1
            await self._transport.pause(pause)

    def _given_up(self, error: Refused | Unreachable) -> Exception:
        if isinstance(error, Refused) and error.status in (404, 410):
            return DownloadFailed("gone", f"{self.path.name}: its link is gone")
        return error

    async def _receive(self, file: BinaryIO, have: int, on_bytes: Callable[[int], object]) -> None:
        """Append what one answer brings."""
        headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
        if have:  # the bytes of a link never change, so this needs no condition
            headers["Range"] = f"bytes={have}-"
        answer = await self._transport.send("GET", self._part.download, headers, None)
        if answer.status not in (200, 206):
            raise await refusal(answer)
        if answer.status == 200 and have:
            have = file.truncate(0)
        async with aclosing(answer.pieces()) as pieces:
            async for piece in pieces:
                file.write(piece[: self.size - have])
                have = min(self.size, have + len(piece))
                on_bytes(have)
                if have == self.size:  # a server that sends more fills no disk
                    return


async def fetch(
    transport: Transport,
    batch: Batch,
    folder: Path,
    *,
    patience: float = 600.0,
    force: bool = False,
    progress: OnBytes = lambda now: None,
) -> list[Path]:
    """Fetch all zips of a batch into ``folder``; returns where they are.

    One that is there already, and whole, is not fetched again.

    :param patience: seconds without a byte after which it is given up
    :param force: other files of these names are replaced
    :param progress: called whenever bytes have come
    :raises DownloadFailed: a zip cannot be fetched
    """
    zips = zips_of(batch)
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number, part in enumerate(zips, 1):
        one = ZipDownload(transport, part, folder, patience=patience, force=force)
        tell = partial(_tell, progress, one, number, len(zips))
        found.append(await one.run(tell))
    return found


def _tell(progress: OnBytes, one: ZipDownload, number: int, zips: int, here: int) -> None:
    progress(Fetched(one.path, number, zips, here, one.size))
