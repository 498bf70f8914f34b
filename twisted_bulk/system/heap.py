"""How the process keeps its memory."""

import ctypes
import gc

YOUNG, MIDDLE, OLD = 7_000, 10, 10  # Python's own are 700, 10, 10
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of <malloc.h>


def keep_buffers() -> None:
    """Keep the memory of freed buffers for the next ones.

    By itself glibc gives that of a few hundred kilobytes back to the kernel at once, and
    takes it again page by page: a sixth of the time that an archive of recordings needs.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl and others have none
        mallopt(_MMAP_THRESHOLD, 4 << 20)
        mallopt(_TRIM_THRESHOLD, 64 << 20)


def collect_rarely() -> None:
    """Look for cycles of garbage less often, and not among what is there for good.

    Requests under way are alive whenever Python looks at them: a sixth of the intake's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
