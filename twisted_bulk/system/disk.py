"""Files and folders: written at an offset, replaced as a whole, locked, made durable."""

import ctypes
import fcntl
import os
from pathlib import Path
from typing import Any

#: Bytes of one write. For a longer one the kernel looks for larger pages, which takes longer.
WRITE_BYTES = 256 << 10
MAX_OPENS = 100  # times that a lock's file is opened, as it was removed meanwhile; then OSError
_BEGIN = 2  # SYNC_FILE_RANGE_WRITE of <fcntl.h>


def begin_writing(descriptor: int) -> None:
    """Let the kernel begin to write a file to the disk, so that ``fsync`` has less to wait for.

    The file stays in memory, which it would not after POSIX_FADV_DONTNEED, and nobody waits until
    it is written, as with fdatasync. Blocks while the disk's queue is full.
    """
    call = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if call is not None:  # Linux; elsewhere fsync does it all
        call(descriptor, ctypes.c_int64(0), ctypes.c_int64(0), ctypes.c_uint(_BEGIN))


def write_at(file: Any, data: bytes | memoryview, offset: int, head: bytes = b"") -> int:
    """Write ``head`` and then ``data`` at ``offset``, whole.

    :returns: the offset behind them
    :raises OSError: the disk is full, or broken
    """
    view = memoryview(data)
    while head or view:
        written = os.pwritev(file.fileno(), [head, view[:WRITE_BYTES]], offset)
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


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a power cut."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    with open(new, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)


def lock(
    path: Path, *, wait: bool = False, create: bool = True, flags: int = 0, mode: int = 0o600
) -> int:
    """Open ``path`` and lock it (flock(2)) for as long as the descriptor is open.

    The lock ends with the process, however that ends.

    :param wait: wait for the lock; else fail if another has it
    :param create: make the file if there is none
    :param flags: further flags of open(2)
    :param mode: of a new file, before the umask
    :returns: the descriptor, which the caller closes
    :raises BlockingIOError: another has the lock
    :raises FileNotFoundError: there is no file, and none was to be made
    """
    flags |= os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    for _ in range(MAX_OPENS):
        descriptor = os.open(path, flags, mode)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if is_at(descriptor, path):  # else its last owner removed it meanwhile
                return descriptor
        except PermissionError as error:  # EACCES stands for EAGAIN on some systems
            os.close(descriptor)
            raise BlockingIOError(*error.args) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise BlockingIOError(f"{path} is removed again and again")


def is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is the one that has this name now."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
