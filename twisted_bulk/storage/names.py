"""The names in the data folder.

``public/<batch>-<128 random bits>/`` has the finished zips of a part. Beside each zip stands a file
``<zip>.sha256`` that ``sha256sum -c`` understands, and beside all of them their manifest. A part
without a zip has a manifest only. The folder is moved into ``public/`` as a whole, so a zip is
visible complete or not at all. An empty folder means that its files are gone.

``spool/<worker>/`` belongs to one worker process. It has a lock that lives as long as the process,
and a folder for each attempt at a job. Unfinished work of an attempt goes to ``spool/left/<job>``,
for the next attempt.
"""

import contextlib
import re
import shutil
from pathlib import Path

DIGEST = ".sha256"  # the ending of a zip's checksum file
JOURNAL = "journal"  # an archive's journal, in the folder of its attempt
LOCK = "lock"  # of a worker's folder
NODE = "node"  # the file that has the name of this data folder
LEFT = "left"  # the folder of unfinished work
ATTEMPT = "~of~"  # between a job's name and random digits, in the name of an attempt's folder
#: A folder of ``public/``. The batch's key is the name of its token, if there is one, and its id.
PUBLIC_FOLDER = re.compile(r"((?:[A-Za-z0-9._~-]{1,64}:)?[A-Za-z0-9._~-]{1,128})-[0-9a-f]{32}")
ZIP_FILE = re.compile(r"[^/\x00-\x1f]{1,200}\.zip")


def job_name(job: str) -> str:
    """A job's id as a part of file names."""
    return job.replace("/", ".")


def members_kept(worker: Path) -> dict[str, int]:
    """How many members stand in the unfinished archives of a worker's folder, by the job's id."""
    kept = {}
    for folder in worker.glob(f"*{ATTEMPT}*"):
        group, _, part = folder.name.rpartition(ATTEMPT)[0].rpartition(".")
        with contextlib.suppress(OSError):
            kept[f"{group}/{part}"] = (folder / JOURNAL).read_bytes().count(b"\n")
    return kept


def leave(folder: Path, spool: Path) -> None:
    """Keep the unfinished work of an attempt for the next one, if there is any."""
    target = spool / LEFT / folder.name.rpartition(ATTEMPT)[0]
    with contextlib.suppress(OSError):
        if (folder / JOURNAL).stat().st_size:
            target.parent.mkdir(exist_ok=True)
            folder.rename(target)  # fails where a folder with files stands already
            return
    shutil.rmtree(folder, ignore_errors=True)
