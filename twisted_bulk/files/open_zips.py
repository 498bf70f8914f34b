"""Finished zips, found by their links; one descriptor for all clients of a file."""

import errno
import os
import re
import stat
from typing import Any
from urllib.parse import unquote

from twisted_bulk.http_server.preconditions import Representation
from twisted_bulk.storage.folders import DataFolders
from twisted_bulk.storage.names import DIGEST, PUBLIC_FOLDER, ZIP_FILE

MAX_NAME_BYTES = 240  # of a zip's file name; the one of its checksum is a little longer
Identity = tuple[int, int]  # device and inode


class OpenZip:
    """An open zip. Its bytes stay readable when the file is deleted.

    All transfers of a file share one descriptor, and read at their own offsets. ``users``: how
    many they are; the last one closes it.
    """

    def __init__(self, zips: "Zips", identity: Identity, descriptor: int, sha256: bytes) -> None:
        about = os.fstat(descriptor)
        self._zips = zips
        self._identity = identity
        self.users = 0
        self.descriptor = descriptor
        self.sha256 = sha256
        self.representation = Representation(
            about.st_size, f'"{sha256.hex()}"', int(about.st_mtime)
        )

    def use(self) -> "OpenZip":
        """Count one more user; it calls :meth:`release` at its end."""
        self.users += 1
        return self

    def release(self) -> None:
        """Count one user less; close the file after the last one."""
        self.users -= 1
        if not self.users:
            del self._zips.opened[self._identity]
            os.close(self.descriptor)


def parse_link(path: str) -> tuple[str, str]:
    """The folder and the file of a link's path, decoded.

    Several slashes are one, and percent-encoded letters are the letters (RFC 3986, 6.2.2): mail
    programs and chats change links so.
    """
    folder, _, name = re.sub("/+", "/", path).removeprefix("/").partition("/")
    return unquote(folder), unquote(name)


def _read(path: Any, folder: int) -> int:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    return os.open(path, flags, dir_fd=folder)


class Zips:
    """The finished zips of the public folder, and those of them that are open."""

    def __init__(self, folders: DataFolders) -> None:
        self._folders = folders
        self.opened: dict[Identity, OpenZip] = {}

    def open(self, path: str) -> OpenZip:
        """Open the zip of the path ``/folder/file.zip``; the caller releases it.

        :raises FileNotFoundError: with the argument ``gone`` when there was a zip once
        :raises OSError: the file cannot be opened
        """
        folder, name = parse_link(path)
        is_name = ZIP_FILE.fullmatch(name) and len(name.encode()) <= MAX_NAME_BYTES
        if not is_name or not PUBLIC_FOLDER.fullmatch(folder):
            raise FileNotFoundError
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        directory = os.open(self._folders.public / folder, flags)
        try:
            if not os.listdir(directory):
                raise FileNotFoundError("gone")
            return self._share(directory, name)
        except OSError as problem:
            if problem.errno in (errno.ELOOP, errno.ENOTDIR):
                raise FileNotFoundError from None
            raise
        finally:
            os.close(directory)

    def _share(self, directory: int, name: str) -> OpenZip:
        digest = _read(name + DIGEST, directory)
        try:
            sha256 = bytes.fromhex(os.read(digest, 64).decode("ascii"))
        finally:
            os.close(digest)
        try:
            descriptor = _read(name, directory)
        except FileNotFoundError:
            raise FileNotFoundError("gone") from None
        try:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise FileNotFoundError
            identity = about.st_dev, about.st_ino
            found = self.opened.get(identity)
            if found is None:
                found = self.opened[identity] = OpenZip(self, identity, descriptor, sha256)
        except BaseException:
            os.close(descriptor)
            raise
        if found.descriptor != descriptor:
            os.close(descriptor)
        return found.use()
