"""Zips on the file port, without a batch."""

import hashlib
from pathlib import Path

from twisted_bulk.storage.folders import DataFolders


def publish(folders: DataFolders, body: bytes | int) -> str:
    """Put ``b.zip`` where it can be fetched; returns its path on the file port.

    :param body: what is in it, or how many zeros, which take no room on the disk
    """
    workspace = folders.enlist()
    folder = workspace.make_folder("b@0/1")
    with open(folder / "b.zip", "wb") as file:
        if isinstance(body, int):
            file.truncate(body)
        else:
            file.write(body)
    note = f"{sha256_of(folder / 'b.zip')}  b.zip\n".encode()
    name = workspace.publish(folder, "b", {"b.zip.sha256": note})
    workspace.close()
    return f"{name}/b.zip"


def sha256_of(path: Path) -> str:
    """In hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
