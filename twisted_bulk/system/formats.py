"""The formats of what stands on the disk, written down beside it.

``formats.json`` in the data folder has the number of each. A number goes up when a program of the
version before could not read what this one writes, or would read it wrongly. A field that older
programs may ignore is no reason: what is read back ignores unknown fields, so two versions can
run side by side.
"""

import os
from pathlib import Path

import msgspec

from twisted_bulk.errors import ConfigError

NAME = "formats.json"
#: ``queue``: keys and records (jobs/lua/common.lua, jobs/model.py, batch/model.py); ``spool``:
#: unfinished work and results that were kept (archive/folders.py, archive/journal.py,
#: consumer/acks.py); ``manifest``: what stands beside a zip.
FORMATS = {"queue": 1, "spool": 1, "manifest": 1}


def replace(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a power cut."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    with open(new, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)


def check_formats(data: Path) -> None:
    """Refuse a folder that a newer program has written; write down what this one writes.

    :raises ConfigError: says which format is too new
    """
    path = data / NAME
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
        replace(path, msgspec.json.encode(FORMATS) + b"\n")
