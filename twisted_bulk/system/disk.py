"""Files: written at a place, and made durable."""

import ctypes
import os
from pathlib import Path
from typing import Any

WRITE = 256 << 10  # bytes of one write: a larger one takes larger pages, which have to be found
_BEGIN = 2  # SYNC_FILE_RANGE_WRITE of <fcntl.h>


def begin_writing(descriptor: int) -> None:
    """Let a file begin its way to the disk, so that ``fsync`` has less to wait for.

    It stays in memory (after POSIX_FADV_DONTNEED, which begins as well, most of it does not),
    and writers need not wait for it (as for fdatasync). Blocks while the disk's queue is full.
    """
    call = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if call is not None:  # Linux; elsewhere fsync does it all
        call(descriptor, ctypes.c_int64(0), ctypes.c_int64(0), ctypes.c_uint(_BEGIN))


def write_at(file: Any, data: bytes | memoryview, offset: int, head: bytes = b"") -> int:
    """Write ``head`` and ``data`` at ``offset``; a file may take them in parts.

    :returns: where they end
    """
    view = memoryview(data)
    while head or view:
        written = os.pwritev(file.fileno(), [head, view[:WRITE]], offset)
        view, head = view[max(0, written - len(head)) :], head[written:]
        offset += written
    return offset


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
