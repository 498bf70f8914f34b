"""The data folder: the versions of the formats in it, and its file modes.

``formats.json`` in the data folder has the number of each format. A number goes up when a program
of the version before could not read the new format, or would read it wrongly. A new field that
older programs may ignore is no reason for another number: readers ignore unknown fields, so two
versions can run side by side.

The folder has zips, links, headers of batches and passwords of callbacks. So no other user may read
it. One group may read ``public/``, if a setting names it.
"""

import contextlib
import os
import stat
from pathlib import Path

import msgspec
from twisted.logger import Logger

from twisted_bulk.errors import ConfigError
from twisted_bulk.system.disk import replace_file

log = Logger()

FORMATS_FILE = "formats.json"
#: ``queue``: keys and records (jobs/lua/, jobs/model.py, batch/model.py); ``spool``: unfinished
#: work and kept results (storage/, archive/journal.py, consumer/acks.py); ``manifest``: the
#: manifest that lies beside a zip.
FORMATS = {"queue": 1, "spool": 1, "manifest": 1}
UMASK = 0o077  # of all processes: new files have no bits for group and others
OTHERS = 0o077  # the bits of group and others in a file's mode


def check_formats(data: Path) -> None:
    """Check that this program knows the formats in a folder; write down its own versions.

    :raises ConfigError: a newer program has written the folder
    """
    path = data / FORMATS_FILE
    try:
        found = msgspec.json.decode(path.read_bytes(), type=dict[str, int])
    except FileNotFoundError:
        found = {}
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ConfigError(f"data: {path} cannot be read: not formats of bulkwav's") from None
    for name, number in found.items():
        known = FORMATS.get(name, 0)
        if number > known:
            raise ConfigError(
                f"data: {data} was written by a newer bulkwav ({name} {number}, this one knows"
                f" {known}): run that one, or give another --data"
            )
    if found != FORMATS:
        replace_file(path, msgspec.json.encode(FORMATS) + b"\n")


def share(path: Path, group: int | None) -> None:
    """Let ``group`` read a file or folder of ``public/``; None: do nothing."""
    if group is not None:
        mode = 0o750 if path.is_dir() else 0o640
        os.chown(path, -1, group)
        path.chmod(mode)


def _close(path: Path, group: int | None, public: bool) -> bool:
    """Close one file or folder to others; returns whether others could read it."""
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
    """Take the data folder's modes away from other users; if it had any, from all files in it, too.

    :param group: may read ``public/``; None: no group
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
