"""Where the embedded server of a folder listens."""

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from twisted_bulk.errors import ConfigError

#: Bytes of a socket's path. sockaddr_un has 108 on Linux and 104 elsewhere, with the final zero.
MAX_SOCKET_PATH = 103


def socket_path(folder: Path) -> Path:
    """Where the server of ``folder`` listens: there, or in a short private folder.

    :raises ConfigError: the private folder exists and is not ours alone
    """
    path = folder / "redis.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        return path
    digest = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    name = f"bulkwav-{os.getuid()}-{digest}"
    short = Path(tempfile.gettempdir()) / name
    if len(os.fsencode(short / "redis.sock")) > MAX_SOCKET_PATH:
        short = Path("/tmp") / name
    short.mkdir(mode=0o700, exist_ok=True)
    about = short.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o077:
        raise ConfigError(f"data: {folder} is too long for a socket, and {short} is not private")
    return short / "redis.sock"
