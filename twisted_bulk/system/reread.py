"""A file that is read again when it has changed."""

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from twisted_bulk.errors import ConfigError

T = TypeVar("T")


class Reread(Generic[T]):
    """The content of a file, as it was when it could last be read.

    A file has changed when its modification time or its inode has. One that cannot be read then
    changes nothing: the content before stays.

    :param read: reads the file; its argument is whether the file had been read before
    :param changed: called with the new content
    :param kept: called with the error of a file that cannot be read
    :raises ConfigError: the file cannot be read, at the start
    """

    def __init__(
        self,
        path: Path,
        read: Callable[[bool], T],
        changed: Callable[[T], object],
        kept: Callable[[ConfigError], object],
    ) -> None:
        self._path = path
        self._read = read
        self._changed = changed
        self._kept = kept
        self._seen = self._version()  # before it is read: a change meanwhile is seen later
        self._content = read(False)

    def _version(self) -> tuple[int, int] | None:
        """Modification time (ns) and inode; None: there is no file."""
        try:
            about = self._path.stat()
        except OSError:
            return None
        return about.st_mtime_ns, about.st_ino

    def content(self) -> T:
        """The content; reads the file first if it has changed."""
        version = self._version()
        if version != self._seen:
            self._seen = version
            try:
                self._content = self._read(True)
            except ConfigError as error:
                self._kept(error)
            else:
                self._changed(self._content)
        return self._content
