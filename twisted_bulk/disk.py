"""What Python's ``os`` has no name for."""

import ctypes

_BEGIN = 2  # SYNC_FILE_RANGE_WRITE of <fcntl.h>


def begin_writing(descriptor: int) -> None:
    """Let a file begin its way to the disk, so that ``fsync`` has less to wait for.

    It stays in memory (after POSIX_FADV_DONTNEED, which begins as well, most of it does not),
    and writers need not wait for it (as for fdatasync). Blocks while the disk's queue is full.
    """
    call = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if call is not None:  # Linux; elsewhere fsync does it all
        call(descriptor, ctypes.c_int64(0), ctypes.c_int64(0), ctypes.c_uint(_BEGIN))
