"""Unpacks the zips of a batch into a folder, and never over other files."""

import json
import os
import re
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any

from twisted_bulk.api_client.failures import DownloadFailed

PIECE_BYTES = 1 << 20
MANIFEST_KEYS = {"url", "status", "code", "sha256"}  # of each of its lines, and others
MAX_MANIFEST_BYTES = 256 << 20  # of one that is read


def extract(zips: Sequence[Path], folder: Path, *, force: bool = False) -> int:
    """Unpack zips; returns how many files they have, without their manifests.

    A file that is there already and is the one of the zip stays. The manifests of all zips become
    one, which replaces an earlier one.

    :param force: other files of these names are replaced
    :raises DownloadFailed: a file of this name is there, and is another one; nothing was unpacked
    """
    with ExitStack() as stack:
        archives = [stack.enter_context(zipfile.ZipFile(path)) for path in zips]
        files = list[tuple[zipfile.ZipFile, zipfile.ZipInfo]]()
        manifests: dict[str, list[dict[str, Any]]] = {}
        for archive in archives:
            found = [one for one in archive.infolist() if not one.is_dir()]
            lines = _manifest(archive, found[-1]) if found else None
            if lines is not None:  # it is the last one of its zip
                name = re.sub(r"\.part[0-9]+(?=\.json$)", "", found.pop().filename)
                manifests.setdefault(name, []).extend(lines)
            files += [(archive, one) for one in found]
        # All are looked at before the first one is written.
        for archive, one in [pair for pair in files if _is_missing(pair[1], folder, force)]:
            _write(archive, one, _target(folder, one.filename))
    for name, lines in manifests.items():
        text = json.dumps(lines, ensure_ascii=False, indent=1)
        _target(folder, name).write_text(text, encoding="utf-8")
    return len(files)


def _manifest(archive: zipfile.ZipFile, one: zipfile.ZipInfo) -> list[dict[str, Any]] | None:
    """The lines of a manifest; None: this file is none."""
    if not one.filename.endswith(".json") or one.file_size > MAX_MANIFEST_BYTES:
        return None
    try:
        found = json.loads(archive.read(one))
    except ValueError:
        return None
    if not isinstance(found, list) or not found:
        return None
    is_one = all(isinstance(line, dict) and line.keys() >= MANIFEST_KEYS for line in found)
    return found if is_one else None


def _is_missing(one: zipfile.ZipInfo, folder: Path, force: bool) -> bool:
    path = _target(folder, one.filename)
    if not path.exists():
        return True
    if _is_same(path, one):
        return False
    if not force:
        raise DownloadFailed("file_exists", f"{path} is there, and is another file")
    return True


def _target(folder: Path, name: str) -> Path:
    """Where a member goes.

    :raises DownloadFailed: its name leads out of the folder
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in name:
        raise DownloadFailed("checksum_mismatch", f"{name!r} leads out of the folder")
    return folder.joinpath(*path.parts)


def _is_same(path: Path, one: zipfile.ZipInfo) -> bool:
    """Whether a file has the size and the CRC of a member."""
    if not path.is_file() or path.stat().st_size != one.file_size:
        return False
    crc = 0
    with open(path, "rb") as file:
        while piece := file.read(PIECE_BYTES):
            crc = zlib.crc32(piece, crc)
    return crc == one.CRC


def _write(archive: zipfile.ZipFile, one: zipfile.ZipInfo, path: Path) -> None:
    """Write a member, whole or not at all; its CRC is checked as it is read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name[:200]}.{os.getpid()}")
    try:
        with archive.open(one) as source, open(new, "wb") as file:
            while piece := source.read(PIECE_BYTES):
                file.write(piece)
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
