"""Who else on this machine may look into the data folder: nobody, or one group into ``public/``.

Zips, links, headers of batches and passwords of callbacks stand there.
"""

import contextlib
import os
import stat
from pathlib import Path

from twisted.logger import Logger

from twisted_bulk.errors import ConfigError

log = Logger()

UMASK = 0o077
OTHERS = 0o077  # bits of a mode that let others in


def share(path: Path, group: int | None) -> None:
    """Let ``group`` read a file or folder of ``public/``, if there is to be one."""
    if group is not None:
        mode = 0o750 if path.is_dir() else 0o640
        os.chown(path, -1, group)
        path.chmod(mode)


def _close(path: Path, group: int | None, public: bool) -> bool:
    """:returns: whether it was open to others"""
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode) or stat.S_ISSOCK(found.st_mode):
        return False
    if public and group is not None:
        share(path, group)
        return bool(found.st_mode & 0o007)
    if found.st_mode & OTHERS:
        path.chmod(stat.S_IMODE(found.st_mode) & ~OTHERS)
        return True
    return False


def tighten(data: Path, group: int | None) -> None:
    """Close the data folder to others, and what stands in it if it had been open.

    :param group: may read ``public/``; None: nobody
    :raises ConfigError: this process may not give files to the group
    """
    public = data / "public"
    public.mkdir(parents=True, exist_ok=True)
    wanted = 0o700 if group is None else 0o710
    about, inner = data.stat(), public.stat()
    is_open = stat.S_IMODE(about.st_mode) != wanted
    is_open |= stat.S_IMODE(inner.st_mode) != (0o700 if group is None else 0o750)
    is_open |= group is not None and (about.st_gid, inner.st_gid) != (group, group)
    if not is_open:
        return
    try:
        count = int(about.st_mode & 0o007 > 0)
        for folder, folders, files in os.walk(data):
            for name in (*folders, *files):
                path = Path(folder, name)
                with contextlib.suppress(FileNotFoundError):  # another process removed it
                    count += _close(path, group, path == public or public in path.parents)
        if group is not None:
            os.chown(data, -1, group)
        data.chmod(wanted)
    except PermissionError as error:
        if group is None:
            raise
        raise ConfigError(
            f"public_group: cannot give {error.filename} to it: is this user in that group?"
        ) from None
    if count:
        log.warn("{data} was open to others: {n} files and folders are not now",
                 data=str(data), n=count)  # fmt: skip
